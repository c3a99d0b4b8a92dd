import integer_reference as reference
import keras
import numpy as np
import pytest

from qpipe.errors import QuantizationError
from qpipe.layers import QuantizedBatchNormalization

FINE = {"a_quantizer": {"bitwidth": 16, "per_channel": True}, "output_quantizer": {"bitwidth": 16}}


def randomized(layer, shape, rng):
    layer.build(shape)
    channels = shape[-1]
    layer.gamma.assign(rng.uniform(0.5, 1.5, channels))
    layer.beta.assign(rng.normal(size=channels))
    layer.moving_mean.assign(rng.normal(size=channels))
    layer.moving_variance.assign(rng.uniform(0.3, 2, channels))
    return layer


@pytest.mark.parametrize("shape", [(4, 6), (4, 7, 6), (4, 5, 5, 6), (2, 3, 4, 5, 6)])
@pytest.mark.parametrize(("per_channel", "activation"), [(False, None), (True, "relu"), (False, "relu6")])
def test_inference_equals_64_bit_integers(shape, per_channel, activation, ranged, rng):
    config = {"a_quantizer": {"bitwidth": 8, "per_channel": per_channel}, "b_quantizer": {"bitwidth": 32}}
    layer = QuantizedBatchNormalization(
        config | {"output_quantizer": {"bitwidth": 8, "signed": activation is None}},
        activation=activation,
        input_quantizer=ranged(-3.0, 3.5),
    )
    randomized(layer, shape, rng)
    layer.output_quantizer.set_range(0.0 if activation else -5.0, 5.0)
    _, lowest, highest = reference.integers_of(layer.input_quantizer)
    x = rng.integers(lowest, highest + 1, shape).astype("float32")
    a, b = (np.array(part) for part in layer.folded_weights())
    step, bottom, top = reference.integers_of(layer.output_quantizer)
    scale = np.abs(a).max(axis=None if not per_channel else (), keepdims=True) / np.float32(127)
    accumulator_scale = scale * np.float32(layer.input_quantizer.scale)
    q_a = np.clip(np.rint(a / scale), -127, 127).astype("int64")
    accumulator = x.astype("int64") * q_a + np.rint(b / accumulator_scale).astype("int64")
    expected = np.rint(accumulator.astype("float32") * (accumulator_scale / step))
    bottom = max(bottom, 0) if activation else bottom
    top = min(top, np.rint(np.float32(6) / step)) if activation == "relu6" else top
    np.testing.assert_array_equal(layer(x, training=False), np.clip(expected, bottom, top))


@pytest.mark.parametrize("training", [True, False])
def test_with_fine_quantizers_it_is_the_keras_layer(training, ranged, rng):
    shape = (16, 5, 5, 3)
    source = ranged(-8.0, 8.0, bitwidth=16)
    source.fix()
    layer = randomized(QuantizedBatchNormalization(FINE, momentum=0.8, input_quantizer=source), shape, rng)
    layer.output_quantizer.set_range(-20.0, 20.0)
    layer.output_quantizer.fix()
    plain = keras.layers.BatchNormalization(momentum=0.8)
    plain.build(shape)
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        getattr(plain, name).assign(getattr(layer, name))
    x = np.array(source(rng.normal(size=shape).astype("float32")))
    expected = plain(x, training=training)
    ours = layer(x if training else np.array(source.to_integers(x)), training=training)
    ours = ours if training else layer.output_quantizer.to_real(ours)
    np.testing.assert_allclose(ours, expected, atol=2e-3)
    for name in ("moving_mean", "moving_variance"):
        np.testing.assert_allclose(getattr(layer, name), getattr(plain, name), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("axis", "shape"), [(1, (None, 4, 4, 3)), ([1], (None, 4, 4, 3)), (-2, (None, 4, 3)), (2, (None, 4, 4, 3))]
)
def test_an_axis_that_is_not_the_last_is_named_with_the_shape(axis, shape):
    with pytest.raises(ValueError, match=r"axis=.*shape \(None, 4.*not the last axis"):
        QuantizedBatchNormalization(axis=axis).build(shape)


@pytest.mark.parametrize("axis", [-1, 3, [3], (-1,)])
def test_every_spelling_of_the_last_axis(axis):
    layer = QuantizedBatchNormalization(axis=axis)
    layer.build((None, 4, 4, 3))
    assert layer.moving_mean.shape == (3,)


def test_unknown_keys_of_quant_config_are_refused():
    with pytest.raises(ValueError, match=r"unknown keys \['a_quantiser'\]"):
        QuantizedBatchNormalization({"a_quantiser": {"bitwidth": 4}})


def test_quant_config_beside_quantizers_is_refused(ranged):
    with pytest.raises(ValueError, match="quant_config"):
        QuantizedBatchNormalization({"a_quantizer": {"bitwidth": 4}}, buffer_bitwidth=16)


def test_center_and_scale_can_be_left_out(ranged, rng):
    layer = QuantizedBatchNormalization(
        {"output_quantizer": {}}, center=False, scale=False, input_quantizer=ranged(-1.0, 1.0)
    )
    layer.build((None, 3))
    assert (layer.gamma, layer.beta) == (None, None)
    assert len(layer.trainable_variables) == 0


def test_a_narrow_buffer_saturates(ranged, rng):
    narrow = {"b_quantizer": {"bitwidth": 8}, "buffer_bitwidth": 12, "output_quantizer": {"bitwidth": 8}}
    layer = randomized(QuantizedBatchNormalization(narrow, input_quantizer=ranged(-3.0, 3.0)), (4, 6), rng)
    layer.output_quantizer.set_range(-9.0, 9.0)
    x = np.stack([np.full(6, -127), np.full(6, 127)]).astype("float32")
    weights = layer.integer_weights()
    exact = x * np.array(weights.kernel) + np.array(weights.bias)
    assert (np.abs(exact) > 2047).any()
    multiplier = np.array(layer.accumulator_scale()) / np.float32(layer.output_quantizer.scale)
    _, lowest, highest = reference.integers_of(layer.output_quantizer)
    expected = np.clip(np.rint(np.clip(exact, -2048, 2047).astype("float32") * multiplier), lowest, highest)
    np.testing.assert_array_equal(layer(x), expected)
    assert np.abs(np.array(weights.bias)).max() <= 2047


def test_without_the_quantizer_of_its_input_there_is_an_error():
    with pytest.raises(QuantizationError, match="quantizer of its input is not known"):
        QuantizedBatchNormalization(name="alone")(np.ones((2, 3), "float32"))


@pytest.mark.parametrize("shape", [(None,), (None, 2, 3, 4, 5, 6)])
def test_ranks_other_than_2_to_5_are_refused(shape):
    with pytest.raises(ValueError, match=r"axes; allowed: 2 to 5"):
        QuantizedBatchNormalization().build(shape)


def test_arguments_of_older_versions_are_left_out_with_a_word(caplog):
    QuantizedBatchNormalization(renorm=True, virtual_batch_size=8, fused=True, synchronized=False)
    assert [record.args[0] for record in caplog.records] == ["renorm", "virtual_batch_size"]
    QuantizedBatchNormalization(renorm=False, virtual_batch_size=None, fused=False)
    assert len(caplog.records) == 2


def test_synchronized_statistics_are_refused():
    with pytest.raises(ValueError, match="synchronized"):
        QuantizedBatchNormalization(synchronized=True)


@pytest.mark.parametrize("axis", [-1, 3])
def test_from_and_back_to_the_keras_layer(axis, rng):
    plain = keras.layers.BatchNormalization(
        axis=axis, momentum=0.7, epsilon=1e-2, scale=False, beta_regularizer="l2", name="norm"
    )
    plain.build((None, 4, 4, 3))
    for variable in plain.weights:
        variable.assign(rng.uniform(0.5, 1.5, 3))
    quantized = QuantizedBatchNormalization.from_batch_normalization(plain, {"a_quantizer": {"bitwidth": 6}})
    assert (quantized.name, quantized.momentum, quantized.kernel_quantizer.bitwidth) == ("norm", 0.7, 6)
    back = quantized.to_batch_normalization()
    assert back.get_config() == plain.get_config()
    x = rng.normal(size=(5, 4, 4, 3)).astype("float32")
    np.testing.assert_array_equal(back(x), plain(x))


def test_without_an_output_quantizer_it_gives_real_values(ranged, rng):
    layer = QuantizedBatchNormalization({"a_quantizer": {"bitwidth": 8}}, input_quantizer=ranged(-3.0, 3.0))
    randomized(layer, (4, 6), rng)
    x = rng.integers(-120, 120, (4, 6)).astype("float32")
    weights = layer.integer_weights()
    accumulator = x * np.array(weights.kernel) + np.array(weights.bias)
    np.testing.assert_array_equal(layer(x), accumulator * np.array(layer.accumulator_scale()))
