"""Scales are kept bit for bit by saving and loading, for every kind of quantizer and every option."""

import keras
import numpy as np
import pytest

from qpipe.quantizers import OutputQuantizer, WeightQuantizer

SHAPE = (40, 5)
WEIGHTS = {
    "max": {"bitwidth": 4},
    "mse": {"bitwidth": 4, "range": "mse"},
    "tensor": {"per_channel": False},
    "power of two": {"scale": "power_of_two"},
    "po2": {"kind": "po2"},
    "ternary": {"kind": "ternary"},
    "binary": {"kind": "binary"},
    "learned": {"learned_step": True},
    "stochastic": {"rounding": "stochastic", "seed": 3},
}
OUTPUTS = {
    "asymmetric": {"bitwidth": 7, "momentum": 0.8, "ema_freeze_delay": 5},
    "symmetric": {"symmetric": True, "signed": False, "scale": "power_of_two"},
    "learned": {"learned_step": True},
    "stochastic": {"rounding": "stochastic"},
    "group": {"members": 3},
}


def saved_and_loaded(quantizer, shape, folder):
    inputs = keras.Input(batch_shape=shape)
    keras.Model(inputs, quantizer(inputs)).save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras").get_layer("q")


def assert_equal_state(one, other):
    assert one.get_config() == other.get_config()
    assert [weight.name for weight in one.weights] == [weight.name for weight in other.weights]
    for old, new in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(np.array(old), np.array(new))


@pytest.mark.parametrize("state", ["following", "fixed", "released"])
@pytest.mark.parametrize("options", WEIGHTS)
def test_weight_quantizers(options, state, rng, tmp_path):
    kernel = rng.normal(size=SHAPE).astype("float32")
    quantizer = WeightQuantizer(name="q", **WEIGHTS[options])
    quantizer.build(SHAPE)
    if state != "following":
        quantizer.fix(kernel)
    if state == "released":
        quantizer.release()
    if quantizer.learning:
        quantizer.log_step.assign(rng.normal(size=quantizer.log_step.shape) / 10)
    loaded = saved_and_loaded(quantizer, SHAPE, tmp_path)
    assert_equal_state(quantizer, loaded)
    other = kernel * np.float32(0.77)
    np.testing.assert_array_equal(loaded.scale_of(other), quantizer.scale_of(other))


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("options", OUTPUTS)
def test_output_quantizers(options, calibrated, rng, tmp_path):
    quantizer = OutputQuantizer(name="q", **OUTPUTS[options])
    if calibrated:
        quantizer.set_range(-1.234567, 2.345678)
    if not quantizer.learned_step:
        quantizer(rng.normal(size=(4, 3)).astype("float32"), training=True)
    elif calibrated:
        quantizer.log_step.assign(0.03)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Identity()(inputs))
    model.quantizer = quantizer
    model.save_weights(tmp_path / "q.weights.h5")
    config = quantizer.get_config()
    again = OutputQuantizer.from_config(config)
    model.quantizer = again
    model.load_weights(tmp_path / "q.weights.h5")
    assert_equal_state(quantizer, again)
    if calibrated:
        assert_equal_state(quantizer, saved_and_loaded(quantizer, (4, 3), tmp_path))


@pytest.mark.parametrize("rerounded", [True, False])
@pytest.mark.parametrize("range_", ["max", "mse"])
def test_rounded_weights_stay_on_their_grid(range_, rerounded, rng, tmp_path):
    """The scale is chosen once; deriving it again from the rounded weights would move most of them off the grid."""
    kernel = rng.standard_t(3, size=SHAPE).astype("float32")
    quantizer = WeightQuantizer(bitwidth=4, range=range_, name="q")
    quantizer.build(SHAPE)
    quantizer.fix(kernel)
    scale = np.array(quantizer.scale)
    nearest = np.array(quantizer.integer(kernel, scale))
    integers = np.clip(nearest + rng.integers(-1, 2, SHAPE), -7, 7) if rerounded else nearest
    integers[np.abs(integers) == 7] = 6  # as an algorithm may choose: no weight at the end of the range
    rounded = (integers * scale).astype("float32")
    loaded = saved_and_loaded(quantizer, SHAPE, tmp_path)
    np.testing.assert_array_equal(loaded.scale_of(rounded), scale)
    np.testing.assert_array_equal(loaded.integer(rounded, loaded.scale_of(rounded)), integers)
    np.testing.assert_array_equal(loaded(rounded), rounded)
    loaded.release()
    assert (np.array(loaded(rounded)) != rounded).mean() > 0.3
