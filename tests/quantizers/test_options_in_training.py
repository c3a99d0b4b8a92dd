"""Every option of the quantizers, in a model: calibrated, trained, frozen, saved and loaded."""

import keras
import numpy as np
import pytest
from keras import layers

from qpipe.algorithms import calibrate
from qpipe.config.schema import (
    OutputQuantizerConfig,
    QuantizerConfig,
    Rounding,
    ScaleKind,
    WeightKind,
    WeightQuantizerConfig,
)
from qpipe.errors import QuantizationError
from qpipe.graph import quantize
from qpipe.layers.inventory import output_quantizers, quantized_linear_layers
from qpipe.training.freeze import FreezeByRetracing, follow_data, freeze

POWER = ScaleKind.power_of_two
CONFIGS = {
    "learned": QuantizerConfig(
        weight=WeightQuantizerConfig(bitwidth=4, learned_step=True),
        output=OutputQuantizerConfig(bitwidth=4, learned_step=True),
    ),
    "stochastic": QuantizerConfig(
        weight=WeightQuantizerConfig(rounding=Rounding.stochastic),
        output=OutputQuantizerConfig(rounding=Rounding.stochastic),
    ),
    "po2": QuantizerConfig(weight=WeightQuantizerConfig(kind=WeightKind.po2, bitwidth=4, scale=POWER)),
    "ternary": QuantizerConfig(weight=WeightQuantizerConfig(kind=WeightKind.ternary, bitwidth=2)),
    "binary": QuantizerConfig(weight=WeightQuantizerConfig(kind=WeightKind.binary, bitwidth=1, scale=POWER)),
}


def samples(count=32):
    return np.random.default_rng(1).normal(size=(count, 5, 5, 2)).astype("float32")


def float_model():
    inputs = keras.Input((5, 5, 2))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    return keras.Model(inputs, layers.Dense(3, name="dense")(layers.Flatten()(x)))


def prepared(config):
    keras.utils.set_random_seed(3)
    return calibrate(quantize(float_model(), config), samples())


def fit(model):
    follow_data(model)
    model.compile("adam", "mse", run_eagerly=True)
    target = np.random.default_rng(2).normal(size=(32, 3)).astype("float32")
    model.fit(samples(), target, batch_size=16, epochs=2, verbose=0, callbacks=[FreezeByRetracing()])


@pytest.mark.parametrize("name", CONFIGS)
def test_trained_frozen_saved_and_loaded(name, tmp_path):
    model = prepared(CONFIGS[name])
    fit(model)
    if name == "learned":
        assert_every_step_learned(model)
    kernels = {layer.name: layer.weight_scale(*layer.folded_weights()) for layer in quantized_linear_layers(model)}
    learned = {key: np.array(quantizer.scale) for key, quantizer in output_quantizers(model).items()}
    freeze(model)
    for layer in quantized_linear_layers(model):
        np.testing.assert_array_equal(layer.kernel_quantizer.scale, kernels[layer.name])
    for key, quantizer in output_quantizers(model).items():
        np.testing.assert_array_equal(quantizer.scale, learned[key])
    outputs = np.array(model(samples()))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(samples()), outputs)
    assert np.isfinite(outputs).all()
    assert len(np.unique(outputs)) > 3


def assert_every_step_learned(model):
    """Two kernels and two outputs learn; the input has an ordinary quantizer."""
    steps = [variable for variable in model.trainable_variables if variable.name == "log_step"]
    assert len(steps) == 4
    assert all(np.array(step).any() for step in steps)
    for quantizer in output_quantizers(model).values():
        ratio = float(quantizer.scale) / float(quantizer.stored_scale)
        assert 0.9 < ratio < 1.1
        assert (ratio != 1.0) is quantizer.learned_step
        assert float(quantizer.zero_point).is_integer()


def test_weight_decay_pulls_a_learned_step_to_its_calibration():
    model = prepared(CONFIGS["learned"])
    follow_data(model)
    quantizer = model.get_layer("dense").kernel_quantizer
    quantizer.log_step.assign(np.full(quantizer.log_step.shape, 1.0))
    variables = [quantizer.log_step]
    optimizer = keras.optimizers.SGD(0.1, weight_decay=0.5)
    for _ in range(200):
        optimizer.apply([np.zeros(quantizer.log_step.shape, "float32")], variables)
    kernel = model.get_layer("dense").kernel
    np.testing.assert_allclose(quantizer.scale_of(kernel), quantizer.scale, rtol=1e-3)


def test_a_kernel_that_died_gets_its_scale_from_its_bias():
    model = quantize(float_model_with_dead_channel())
    calibrate(model, samples())
    layer = model.get_layer("conv")
    integers = layer.integer_weights()
    assert not np.array(integers.kernel)[..., 1:].any()
    assert np.abs(np.array(integers.bias)).tolist()[1:] == [127, 0]
    assert np.ravel(integers.scale)[2] == 1
    assert not layer.raised_channels().any()
    exact = np.array(layer.accumulator_scale())[1] * np.array(integers.bias)[1]
    assert exact == pytest.approx(-3.7, rel=1e-6)


def float_model_with_dead_channel():
    inputs = keras.Input((5, 5, 2))
    model = keras.Model(inputs, layers.Conv2D(3, 3, name="conv")(inputs))
    kernel, bias = (np.array(weight) for weight in model.weights)
    kernel[..., 1:] = 0
    bias[:] = 0.5, -3.7, 0.0
    model.set_weights([kernel, bias])
    return model


def test_a_bias_that_a_ternary_kernel_cannot_make_room_for_is_an_error():
    model = float_model_with_dead_channel()
    weight = WeightQuantizerConfig(kind=WeightKind.ternary, bitwidth=2)
    model.get_layer("conv").bias.assign([1e4, 0.0, 0.0])
    quantized = quantize(model, QuantizerConfig(weight=weight, buffer_bitwidth=16))
    with pytest.raises(
        QuantizationError, match=r"^conv: the bias 10000 of channel 0 .* needs buffer_bitwidth=\d\d, received 16"
    ):
        calibrate(quantized, samples())


def test_a_bias_that_a_uniform_kernel_makes_room_for_is_reported():
    model = float_model_with_dead_channel()
    model.get_layer("conv").bias.assign([1e4, 0.0, 0.0])
    quantized = quantize(model, QuantizerConfig(buffer_bitwidth=16))
    calibrate(quantized, samples())
    assert quantized.get_layer("conv").raised_channels().tolist() == [True, False, False]
