import keras
import numpy as np
import pytest
from keras import layers

from qpipe.algorithms import calibrate
from qpipe.config.schema import (
    OutputQuantizerConfig,
    OutputRange,
    QuantizerConfig,
    ScaleKind,
    WeightQuantizerConfig,
)
from qpipe.errors import QuantizationError
from qpipe.graph import fold_batchnorm, quantize


def float_model(bias=0.3):
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, activation="relu", name="conv", bias_initializer=keras.initializers.Constant(bias))(inputs)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    outputs = layers.Dense(3, name="dense")(layers.Flatten()(x))
    return keras.Model(inputs, outputs)


def samples(count=50, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 6, 6, 2)).astype("float32")


def quantized(model, range_=OutputRange.minmax, bits=16, input_bits=8):
    return quantize(
        model,
        QuantizerConfig(
            weight=WeightQuantizerConfig(bitwidth=bits),
            input=OutputQuantizerConfig(range=range_, bitwidth=input_bits),
            output=OutputQuantizerConfig(range=range_),
        ),
    )


def activations(model, x):
    """The real outputs of the float model's layers, with the input."""
    found = {"input": x}
    for name in ("conv", "depthwise", "dense"):
        found[name] = np.array(keras.Model(model.inputs, model.get_layer(name).output)(x))
    return found


def quantizers(model):
    found = {name: model.get_layer(name).output_quantizer for name in ("conv", "depthwise", "dense")}
    return found | {"input": model.get_layer("conv").input_quantizer}


@pytest.mark.parametrize("batch_size", [7, 64])
def test_ranges_are_the_extrema_of_the_real_activations(batch_size):
    model, x = float_model(), samples()
    ours = quantized(model)
    assert calibrate(ours, x, batch_size=batch_size) is ours
    expected = activations(model, x)
    for name, quantizer in quantizers(ours).items():
        low, high = expected[name].min(), expected[name].max()
        assert float(quantizer.low) == pytest.approx(low, rel=1e-3, abs=1e-4), name
        assert float(quantizer.high) == pytest.approx(high, rel=1e-3, abs=1e-4), name


def test_ranges_see_the_quantized_weights_and_the_real_biases():
    """A coarse kernel has a coarse scale; the bias, on a far finer one, must not be rounded to it."""
    model, x = float_model(bias=0.123), samples()
    ours = quantized(model, bits=2)
    calibrate(ours, x)
    rounded = keras.models.clone_model(model)
    rounded.set_weights(model.get_weights())
    for name in ("conv", "depthwise", "dense"):
        quantizer = ours.get_layer(name).kernel_quantizer
        rounded.get_layer(name).kernel.assign(quantizer(model.get_layer(name).kernel))
    expected = activations(rounded, x)
    for name, quantizer in quantizers(ours).items():
        assert float(quantizer.high) == pytest.approx(expected[name].max(), rel=1e-4), name


def test_ema_of_the_batches():
    model, x = float_model(), samples(30)
    ours = quantized(model, OutputRange.ema)
    calibrate(ours, x, batch_size=10)
    first, second, third = (float(x[start : start + 10].max()) for start in (0, 10, 20))
    expected = 0.99 * (0.99 * first + 0.01 * second) + 0.01 * third
    assert float(quantizers(ours)["input"].high) == pytest.approx(expected, rel=1e-5)


def test_percentiles_of_the_real_activations():
    model, x = float_model(), samples(400)
    x[0, 0, 0, 0] = 100.0
    ours = quantized(model, OutputRange.percentile)
    calibrate(ours, x)
    quantizer = quantizers(ours)["input"]
    width = float(x.max() - x.min()) / 2048
    low, high = np.percentile(x, [0.01, 99.99], method="inverted_cdf")
    assert float(quantizer.low) == pytest.approx(low, abs=1.5 * width)
    assert float(quantizer.high) == pytest.approx(high, abs=1.5 * width)


def test_mse_clips_an_outlier():
    x = samples(200)
    x[0, 0, 0, 0] = 30.0
    ours = quantized(float_model(), OutputRange.mse, input_bits=4)
    calibrate(ours, x)
    assert float(quantizers(ours)["input"].high) < 25


@pytest.mark.parametrize(
    ("range_", "bias"), [(OutputRange.minmax, -1e6), (OutputRange.percentile, -1e6), (OutputRange.mse, 0.0)]
)
def test_constant_activations_are_no_trouble(range_, bias):
    """A layer that died, and an input that is constant: every range is finite and so is the output."""
    ours = quantized(float_model(bias=bias), range_)
    calibrate(ours, np.full((8, 6, 6, 2), 0.75, "float32"))
    assert float(quantizers(ours)["input"].high) == pytest.approx(0.75, rel=1e-3)
    assert np.isfinite(np.array(ours(samples()))).all()


@pytest.mark.parametrize("range_", [OutputRange.minmax, OutputRange.percentile])
def test_a_fixed_range_stays(range_):
    ours = quantized(float_model(), range_)
    quantizer = ours.get_layer("conv").output_quantizer
    quantizer.set_range(0.0, 123.0)
    quantizer.fix()
    calibrate(ours, samples())
    assert float(quantizer.high) == 123
    assert float(quantizers(ours)["dense"].high) != 123


def test_weight_scales_are_stored():
    ours = quantized(float_model(), bits=8)
    calibrate(ours, samples())
    layer = ours.get_layer("conv")
    assert layer.kernel_quantizer.fixed
    expected = np.abs(np.array(layer.kernel)).max(axis=(0, 1, 2)) / np.float32(127)
    np.testing.assert_array_equal(np.array(layer.kernel_quantizer.scale).ravel(), expected)


def test_samples_of_other_types_are_taken():
    x = samples(20)
    reference, other = quantized(float_model()), quantized(float_model())
    calibrate(reference, x)
    calibrate(other, x.astype("float64"))
    assert float(quantizers(reference)["input"].high) == float(quantizers(other)["input"].high)


def test_without_samples_it_is_an_error():
    with pytest.raises(QuantizationError, match="at least one sample"):
        calibrate(quantized(float_model()), samples(0))


def test_an_activation_that_is_not_finite_is_an_error_that_names_it():
    x = samples()
    x[3, 2, 1, 0] = np.nan
    with pytest.raises(QuantizationError, match="not finite on the calibration samples"):
        calibrate(quantized(float_model()), x)


def test_progress_is_told():
    told = []
    calibrate(
        quantized(float_model()), samples(25), batch_size=10, on_batch=lambda step, steps: told.append((step, steps))
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_the_uncalibrated_model_refuses_to_predict():
    with pytest.raises(QuantizationError, match="never calibrated"):
        quantized(float_model())(samples(2))


def test_calibration_moves_no_weight_and_no_statistics():
    inputs = keras.Input((6, 6, 2))
    x = layers.BatchNormalization(name="stays")(layers.BatchNormalization()(layers.Conv2D(3, 3)(inputs)))
    ours = quantize(fold_batchnorm(keras.Model(inputs, x)))
    names = ("kernel", "gamma", "moving_mean", "moving_variance", "steps")
    weights = [weight for weight in ours.weights if weight.name in names and "quantizer" not in weight.path]
    before = [np.array(weight) for weight in weights]
    calibrate(ours, samples())
    assert len(weights) >= 8
    for old, new in zip(before, weights, strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("range_", ["minmax", "ema", "percentile", "mse"])
def test_a_quantizer_that_several_layers_share_sees_the_union_of_every_batch(range_):
    """Halves of the tensor by two layers, or all of it by one: the same range."""
    from qpipe.layers import Quantize
    from qpipe.quantizers import OutputQuantizer

    x = samples(40)
    x[..., 1] *= 3.0
    inputs = keras.Input((6, 6, 2))
    whole = OutputQuantizer(range=range_, name="whole")
    shared = OutputQuantizer(range=range_, members=2, name="shared")
    halves = [Quantize(shared, name=f"half_{half}")(inputs[..., half : half + 1]) for half in range(2)]
    outputs = [Quantize(whole, name="all")(inputs), *halves]
    calibrate(keras.Model(inputs, outputs), x, batch_size=7)
    assert (float(shared.low), float(shared.high)) == (float(whole.low), float(whole.high))


def test_mse_judges_by_the_power_of_two_that_is_used():
    x = samples(100)
    config = QuantizerConfig(
        input=OutputQuantizerConfig(range=OutputRange.mse, bitwidth=4, symmetric=True, scale=ScaleKind.power_of_two)
    )
    ours = quantize(float_model(), config)
    calibrate(ours, x)
    scale = float(quantizers(ours)["input"].scale)
    errors = {
        step: float(np.mean((np.clip(np.rint(x / step), -8, 7) * step - x) ** 2))
        for step in (scale / 4, scale / 2, scale, scale * 2)
    }
    assert min(errors, key=errors.get) == scale
