import keras
import numpy as np
import pytest

from qpipe.quantizers import WeightQuantizer
from qpipe.quantizers.weight import BiasSteps

CONV, DEPTHWISE, DENSE = (3, 2, 4, 5), (3, 3, 4, 2), (6, 5)
KINDS = [(CONV, (-1,), (1, 1, 1, 5)), (DEPTHWISE, (-2, -1), (1, 1, 4, 2)), (DENSE, (-1,), (1, 5)), ((7,), (-1,), (7,))]


def built(shape, **arguments) -> WeightQuantizer:
    quantizer = WeightQuantizer(**arguments)
    quantizer.build(shape)
    return quantizer


def normal(rng, shape):
    return rng.normal(size=shape).astype("float32") * rng.uniform(0.1, 3, size=shape[-1:]).astype("float32")


def squared_error(kernel, quantized, scale_shape):
    axes = tuple(axis for axis, size in enumerate(scale_shape) if size == 1)
    return ((kernel.astype("float64") - quantized) ** 2).sum(axis=axes)


@pytest.mark.parametrize(("shape", "axes", "scale_shape"), KINDS)
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_per_channel_maximum(shape, axes, scale_shape, bits, rng):
    kernel = normal(rng, shape)
    quantizer = built(shape, bitwidth=bits, channel_axes=axes)
    reduced = tuple(axis for axis, size in enumerate(scale_shape) if size == 1)
    highest = 2 ** (bits - 1) - 1
    scale = np.abs(kernel).max(axis=reduced, keepdims=True) / np.float32(highest)
    np.testing.assert_array_equal(quantizer.scale_of(kernel), scale)
    integers = np.array(quantizer.integer(kernel, scale))
    np.testing.assert_array_equal(integers, np.clip(np.rint(kernel / scale), -highest, highest))
    np.testing.assert_array_equal(quantizer(kernel), integers * scale)
    assert np.abs(integers).max(axis=reduced).min() == highest


@pytest.mark.parametrize(("shape", "axes", "scale_shape"), KINDS)
def test_per_tensor_has_one_scale(shape, axes, scale_shape, rng):
    kernel = normal(rng, shape)
    scale = np.array(built(shape, per_channel=False, channel_axes=axes).scale_of(kernel))
    assert scale.shape == (1,) * len(shape)
    assert scale.item() == np.abs(kernel).max() / np.float32(127)


@pytest.mark.parametrize(("shape", "axes", "scale_shape"), KINDS[:3])
@pytest.mark.parametrize("kind", ["float", "power_of_two"])
@pytest.mark.parametrize("bits", [3, 8])
def test_mse_is_never_worse_than_max(shape, axes, scale_shape, kind, bits, rng):
    kernel = rng.standard_t(2, size=shape).astype("float32")
    errors = {}
    for name in ("max", "mse"):
        quantizer = built(shape, bitwidth=bits, channel_axes=axes, range=name, scale=kind)
        errors[name] = squared_error(kernel, np.array(quantizer(kernel)), scale_shape)
    assert (errors["mse"] <= errors["max"] * (1 + 1e-5) + 1e-12).all()
    if kind == "float" and bits == 3:
        assert errors["mse"].sum() < 0.97 * errors["max"].sum()


@pytest.mark.parametrize("range_", ["max", "mse"])
def test_power_of_two_scales(range_, rng):
    kernel = normal(rng, CONV)
    scale = np.array(built(CONV, range=range_, scale="power_of_two").scale_of(kernel))
    assert (np.frexp(scale)[0] == 0.5).all()
    assert len(np.unique(scale)) > 1


@pytest.mark.parametrize("range_", ["max", "mse"])
@pytest.mark.parametrize("kind", ["float", "power_of_two"])
def test_all_zero_channel(range_, kind, rng):
    kernel = normal(rng, CONV)
    kernel[..., 2] = 0
    quantizer = built(CONV, range=range_, scale=kind)
    scale = np.array(quantizer.scale_of(kernel)).ravel()
    assert scale[2] == 1
    assert np.isfinite(np.array(quantizer(kernel))).all()
    bias = BiasSteps(np.array([3, 3, 1e-3, 3, 0], "float32"), 2.0**31)
    of_bias = np.array(quantizer.scale_of(kernel, bias)).ravel()
    assert of_bias[2] == (np.float32(1e-3) / np.float32(127) if kind == "float" else 2.0**-16)
    np.testing.assert_array_equal(np.delete(of_bias, 2), np.delete(scale, 2))
    assert not quantizer.raised_channels(kernel, bias).any()
    assert np.array(quantizer.integer(kernel, quantizer.scale_of(kernel, bias)))[..., 2].any() == np.False_
    without = np.array(quantizer.scale_of(kernel, BiasSteps(np.zeros(5, "float32"), 2.0**31))).ravel()
    assert without[2] == 1


@pytest.mark.parametrize("magnitude", [0.0, 1e-42, 1e-38, 2.0**-95])
def test_weights_too_small_for_a_scale_count_as_zero(magnitude):
    kernel = np.full(DENSE, magnitude, "float32")
    quantizer = built(DENSE)
    scale = quantizer.scale_of(kernel, BiasSteps(np.full(5, 2.54, "float32"), 2.0**31))
    np.testing.assert_array_equal(np.ravel(scale), np.float32(2.54) / np.float32(127))
    assert not np.array(quantizer.integer(kernel, scale)).any()


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("kind", ["float", "power_of_two"])
def test_a_scale_is_raised_to_the_smallest_allowed(per_channel, kind, rng):
    kernel = normal(rng, DENSE)
    quantizer = built(DENSE, per_channel=per_channel, scale=kind)
    usual = np.array(quantizer.scale_of(kernel)).ravel()
    bias = BiasSteps(np.array([0, 0, 0, 0, 3.0 * 127], "float32"), 127.0)
    raised = np.array(quantizer.scale_of(kernel, bias)).ravel()
    assert raised[-1] == pytest.approx(4.0 if kind == "power_of_two" else 3.0, rel=1e-6)
    if per_channel:
        np.testing.assert_array_equal(raised[:4], usual[:4])
        assert raised[-1] >= 3.0
    expected = [False, False, False, False, True]
    assert quantizer.raised_channels(kernel, bias).tolist() == expected
    quantizer.fix(kernel, bias)
    assert quantizer.raised_channels(kernel, bias).tolist() == expected
    quantizer.fix(kernel)
    assert not quantizer.raised_channels(kernel, bias).any()


def test_fixed_scale_does_not_follow_the_weights(rng):
    kernel = normal(rng, CONV)
    quantizer = built(CONV)
    before = np.array(quantizer.scale_of(kernel))
    quantizer.fix(kernel)
    np.testing.assert_array_equal(quantizer.scale_of(kernel * 5), before)
    np.testing.assert_array_equal(quantizer.scale_of(kernel, BiasSteps(np.full(5, 9.0, "float32"), 1.0)), before)
    saturated = np.array(quantizer(np.where(kernel > 0, 1e3, -1e3).astype("float32")))
    np.testing.assert_array_equal(saturated, before * 127 * np.where(kernel > 0, 1, -1))


@pytest.mark.parametrize("fixed", [True, False])
def test_saving_keeps_a_fixed_scale_and_loading_never_derives_it(fixed, rng, tmp_path):
    kernel = normal(rng, DENSE)
    inputs = keras.Input(batch_shape=DENSE)
    quantizer = WeightQuantizer(bitwidth=4, name="kernel_quantizer")
    model = keras.Model(inputs, quantizer(inputs))
    if fixed:
        quantizer.fix(kernel)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").get_layer("kernel_quantizer")
    assert loaded.fixed is fixed
    coarser = kernel * 0.5
    expected = np.abs(kernel if fixed else coarser).max(axis=0, keepdims=True) / np.float32(7)
    np.testing.assert_array_equal(loaded.scale_of(coarser), expected)


def test_scale_takes_no_part_in_the_gradient(rng):
    import tensorflow as tf

    kernel = tf.constant(normal(rng, DENSE))
    quantizer = built(DENSE, bitwidth=4, range="mse")
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        y = tf.reduce_sum(quantizer(kernel) * tf.reshape(tf.range(30.0), DENSE))
    scale = np.array(quantizer.scale_of(kernel))
    inside = np.abs(np.rint(kernel.numpy() / scale)) <= 7
    np.testing.assert_array_equal(tape.gradient(y, kernel), np.arange(30.0).reshape(DENSE) * inside)


def test_unknown_range_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'mse'"):
        WeightQuantizer(range="mce")
