import keras
import numpy as np
import pytest

import qpipe
from qpipe.config.schema import LayerRule, QuantizerConfig
from qpipe.errors import QuantizationError
from qpipe.lowering import lower
from qpipe.numerics import QuantizedTensor

SHAPE = (6, 6, 3)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(50, *SHAPE)).astype("float32")


@pytest.fixture(scope="module")
def model(x):
    keras.utils.set_random_seed(1)
    i = keras.Input(SHAPE, name="image")
    y = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(i)
    y = keras.layers.GlobalAveragePooling2D(name="mean")(y)
    y = keras.layers.Dense(5, activation="softmax", name="classes")(y)
    return qpipe.calibrate(qpipe.quantize(keras.Model(i, y)), x)


def test_floats_in_and_floats_out(model, x):
    y = qpipe.integer_predict(model, x, batch_size=16)
    assert y.dtype == np.float32
    assert y.shape == (50, 5)
    np.testing.assert_allclose(y, model.predict(x, verbose=0), atol=1e-6)


def test_batches_change_nothing(model, x):
    np.testing.assert_array_equal(
        qpipe.integer_predict(model, x, batch_size=7), qpipe.integer_predict(model, x, batch_size=50)
    )


def test_intermediate_tensors_are_integers_in_their_format(model, x):
    _, tensors = qpipe.integer_predict(model, x, intermediates=True)
    conv = tensors["conv"]
    assert conv.integers.dtype == np.int64
    assert conv.integers.shape == (50, 4, 4, 4)
    lowest, highest = conv.format.integers
    assert conv.integers.min() >= lowest
    assert conv.integers.max() <= highest
    assert float(conv.format.scale) == float(model.get_layer("conv").output_quantizer.scale)
    assert isinstance(tensors["classes"], QuantizedTensor)
    assert isinstance(tensors["classes_softmax"], np.ndarray)


def test_integer_outputs_on_request(x):
    i = keras.Input(SHAPE)
    model = qpipe.calibrate(qpipe.quantize(keras.Model(i, keras.layers.Conv2D(2, 3)(i))), x)
    integers = qpipe.integer_predict(model, x, integers=True)
    assert isinstance(integers, QuantizedTensor)
    np.testing.assert_array_equal(integers.real, qpipe.integer_predict(model, x))


def test_several_inputs_and_outputs_keep_their_structure(x):
    first, second = keras.Input(SHAPE, name="first"), keras.Input(SHAPE, name="second")
    total = keras.layers.Add(name="total")([first, second])
    model = keras.Model({"first": first, "second": second}, {"total": total, "half": keras.layers.Conv2D(2, 1)(first)})
    inputs = {"first": x, "second": 2 * x}
    quantized = qpipe.calibrate(qpipe.quantize(model), inputs)
    outputs = qpipe.integer_predict(quantized, inputs)
    expected = quantized.predict(inputs, verbose=0)
    assert set(outputs) == {"total", "half"}
    for name in outputs:
        np.testing.assert_array_equal(outputs[name], expected[name])


def test_layers_in_float_are_computed_by_keras(x):
    keras.utils.set_random_seed(2)
    i = keras.Input(SHAPE)
    y = keras.layers.Conv2D(4, 3, name="conv")(i)
    y = keras.layers.LayerNormalization(name="norm")(y)
    model = keras.Model(i, keras.layers.Conv2D(2, 1)(y))
    quantized = qpipe.calibrate(qpipe.quantize(model), x)
    np.testing.assert_allclose(
        qpipe.integer_predict(quantized, x), quantized.predict(x, verbose=0), atol=2 * scale_of_output(quantized)
    )


def scale_of_output(model) -> float:
    return float(model.layers[-1].quantizer.scale)


def test_a_layer_called_twice(x):
    dropout = keras.layers.Dropout(0.5)
    i = keras.Input(SHAPE)
    y = dropout(keras.layers.Conv2D(4, 3, activation="relu")(dropout(i)))
    model = qpipe.calibrate(qpipe.quantize(keras.Model(i, keras.layers.Conv2D(4, 1)(y))), x)
    np.testing.assert_array_equal(qpipe.integer_predict(model, x), model.predict(x, verbose=0))


def test_without_calibration_there_is_an_error(x):
    i = keras.Input(SHAPE)
    model = qpipe.quantize(keras.Model(i, keras.layers.Conv2D(2, 3)(i)))
    with pytest.raises(QuantizationError, match="never calibrated"):
        qpipe.integer_predict(model, x)


@pytest.mark.parametrize("bits", [12, 16])
def test_a_narrow_buffer_saturates_in_simulation_and_engine_alike(bits, x):
    keras.utils.set_random_seed(3)
    i = keras.Input(SHAPE)
    model = keras.Model(i, keras.layers.Conv2D(8, 3, use_bias=False, name="conv")(i))

    def predictions(buffer):
        config = QuantizerConfig(layers=[LayerRule(match="conv", buffer_bitwidth=buffer)])
        quantized = qpipe.calibrate(qpipe.quantize(model, config), x)
        computed = qpipe.integer_predict(quantized, 3 * x)
        np.testing.assert_array_equal(computed, quantized.predict(3 * x, verbose=0))
        return computed, quantized

    narrow, quantized = predictions(bits)
    wide, _ = predictions(32)
    layer = quantized.get_layer("conv")
    largest = (2 ** (bits - 1) - 1) * np.array(layer.accumulator_scale()).max()
    assert np.mean(narrow != wide) > 0.05
    assert narrow.max() <= largest + float(layer.output_quantizer.scale)


@pytest.mark.parametrize(
    ("samples", "what"),
    [
        (np.zeros((0, *SHAPE)), "at least one sample"),
        (np.zeros((2, 6, 6, 4)), r"takes samples of shape \(6, 6, 3\).*received.*\(2, 6, 6, 4\)"),
        ({"a": np.zeros((2, *SHAPE)), "b": np.zeros((2, *SHAPE))}, "has 1 inputs; received 2"),
        (np.full((2, *SHAPE), np.nan), r"image_quantize.*216 values to quantize are not finite"),
    ],
)
def test_samples_that_do_not_fit_are_named(model, samples, what):
    with pytest.raises(QuantizationError, match=what):
        qpipe.integer_predict(model, samples)


def test_a_float_model_is_refused(x):
    with pytest.raises(QuantizationError, match="is not quantized; give it to"):
        qpipe.integer_predict(keras.Sequential([keras.Input(SHAPE), keras.layers.Conv2D(2, 3)]), x)


def test_a_clone_with_separated_quantizers_is_refused(model, x):
    clone = keras.models.clone_model(model)
    for use in (qpipe.calibrate, qpipe.integer_predict):
        with pytest.raises(QuantizationError, match=r"layer 'conv': .*applied by no layer.*clone_model"):
            use(clone, x)


def test_a_bias_that_was_changed_and_fits_no_more_is_an_error(model, x, tmp_path):
    model.save(tmp_path / "model.keras")
    changed = keras.saving.load_model(tmp_path / "model.keras")
    changed.get_layer("conv").bias.assign([1e12, 0, 0, 0])
    with pytest.raises(QuantizationError, match="conv"):
        qpipe.integer_predict(changed, x)


def test_multipliers_are_computed_in_the_one_order(x):
    """M = float32(float32(s_x * s_w) / s_y); in another order a quarter of them differ."""
    i = keras.Input(SHAPE)
    keras.utils.set_random_seed(5)
    quantized = qpipe.calibrate(qpipe.quantize(keras.Model(i, keras.layers.Conv2D(500, 3, name="conv")(i))), x)
    layer = quantized.get_layer("conv")
    s_x, s_y = (np.float32(q.scale) for q in (layer.input_quantizer, layer.output_quantizer))
    s_w = np.array(layer.kernel_quantizer.scale).reshape(-1)
    expected = (s_x * s_w) / s_y
    assert np.mean(expected != s_w * (s_x / s_y)) > 0.1
    step = next(step for step in lower(quantized).steps if step.layer == "conv")
    np.testing.assert_array_equal(step.operator.requantization.multiplier, expected)
    passed = []
    requantize = layer.output_quantizer.requantize
    layer.output_quantizer.requantize = lambda y, multiplier, bounds: (
        passed.append(multiplier) or requantize(y, multiplier, bounds)
    )
    layer(np.zeros((1, *SHAPE), "float32"))
    np.testing.assert_array_equal(passed[0], expected)
