"""Inference of the linear layers against a simulation in 64-bit integers: not one value may differ."""

from functools import partial

import integer_reference as reference
import keras
import numpy as np
import pytest
import tensorflow as tf

import qpipe
from qpipe.layers import (
    QConv2D,
    QConv2DBatchnorm,
    QDense,
    QDenseBatchnorm,
    QDepthwiseConv2D,
    QDepthwiseConv2DBatchnorm,
)
from qpipe.quantizers import WeightQuantizer

CONVOLUTIONS = {
    "plain": {},
    "same": {"padding": "same"},
    "strided": {"strides": 2, "padding": "same"},
    "strided_valid": {"strides": 2},
    "dilated": {"dilation_rate": 2, "padding": "same"},
    "no_bias": {"use_bias": False, "padding": "same"},
    "relu": {"activation": "relu"},
    "relu6": {"activation": "relu6", "padding": "same"},
}
DEPTHWISE = CONVOLUTIONS | {"multiplier": {"depth_multiplier": 3, "padding": "same"}}
DENSE = {
    "plain": {},
    "no_bias": {"use_bias": False},
    "relu": {"activation": "relu"},
    "relu6": {"activation": "relu6"},
}
SETTINGS = {
    "8 bits": {"bits": 8, "input": {"bitwidth": 8}, "output": {"bitwidth": 8}, "buffer": 32},
    "narrow": {"bits": 3, "input": {"bitwidth": 4}, "output": {"bitwidth": 6, "symmetric": True}, "buffer": 32},
    "small buffer": {"bits": 8, "input": {"bitwidth": 8}, "output": {"bitwidth": 8}, "buffer": 14},
    "fixed point": {
        "bits": 8,
        "input": {"symmetric": True, "scale": "power_of_two"},
        "output": {"symmetric": True, "scale": "power_of_two"},
        "buffer": 32,
    },
}
CASES = [
    *((QConv2D, name) for name in CONVOLUTIONS),
    *((QDepthwiseConv2D, name) for name in DEPTHWISE),
    *((QDense, name) for name in DENSE),
    *((kind, name) for kind in (QConv2DBatchnorm, QDepthwiseConv2DBatchnorm) for name in ("same", "relu6", "no_bias")),
    *((QDenseBatchnorm, name) for name in ("plain", "relu", "no_bias")),
]


def make(kind, name, setting, ranged):
    """Returns the layer with random weights, and the integer operation that it stands for."""
    dense, depthwise = issubclass(kind, QDense), issubclass(kind, QDepthwiseConv2D)
    arguments = (DENSE if dense else DEPTHWISE)[name]
    shape = () if depthwise else (5,)
    if not dense:
        shape = (*shape, (3, 2))
    signed = arguments.get("activation") is None
    initializer = keras.initializers.RandomNormal(stddev=0.4, seed=2)
    layer = kind(
        *shape,
        **arguments,
        **{"depthwise_initializer" if depthwise else "kernel_initializer": initializer},
        bias_initializer=keras.initializers.RandomNormal(seed=1),
        kernel_quantizer=WeightQuantizer(bitwidth=setting["bits"], channel_axes=kind.channel_axes),
        input_quantizer=ranged(-1.3, 2.1, **setting["input"]),
        output_quantizer=ranged(-3.0 if signed else 0.0, 3.0, signed=signed, **setting["output"]),
        buffer_bitwidth=setting["buffer"],
    )
    if dense:
        return layer, np.matmul
    stride, dilation = arguments.get("strides", 1), arguments.get("dilation_rate", 1)
    return layer, partial(
        reference.convolve_depthwise if depthwise else reference.convolve,
        strides=(stride, stride),
        dilation=(dilation, dilation),
        padding=arguments.get("padding", "valid"),
    )


def randomize_statistics(layer, rng):
    if hasattr(layer, "moving_mean"):
        channels = layer.moving_mean.shape
        layer.gamma.assign(rng.uniform(0.5, 1.5, channels))
        layer.beta.assign(rng.normal(size=channels))
        layer.moving_mean.assign(rng.normal(size=channels))
        layer.moving_variance.assign(rng.uniform(0.2, 2, channels))


def input_integers(layer, rng, shape):
    _, lowest, highest = reference.integers_of(layer.input_quantizer)
    return rng.integers(lowest, highest + 1, size=shape).astype("float32")


@pytest.mark.parametrize(
    ("kind", "name", "setting"),
    [
        *((kind, name, "8 bits") for kind, name in CASES),
        *(
            (kind, name, setting)
            for kind, name in CASES
            for setting in SETTINGS
            if name in ("plain", "relu6") and setting != "8 bits"
        ),
    ],
)
def test_inference_equals_64_bit_integers(kind, name, setting, ranged, rng):
    layer, operation = make(kind, name, SETTINGS[setting], ranged)
    x = input_integers(layer, rng, (3, 24) if issubclass(kind, QDense) else (3, 7, 6, 4))
    layer.build(x.shape)
    randomize_statistics(layer, rng)
    kernel, bias = (None if part is None else np.array(part) for part in layer.folded_weights())
    activation = DEPTHWISE[name].get("activation")
    expected = reference.linear(x, kernel, bias, operation, layer, activation=activation)
    np.testing.assert_array_equal(layer(x, training=False), expected)
    assert len(np.unique(expected)) > 5


@pytest.mark.parametrize("kind", [QConv2D, QDepthwiseConv2D, QDense])
def test_a_compiled_layer_computes_the_same(kind, ranged, rng):
    layer, _ = make(kind, "plain", SETTINGS["8 bits"], ranged)
    x = input_integers(layer, rng, (3, 24) if kind is QDense else (3, 7, 6, 4))
    eager = np.array(layer(x, training=False))
    np.testing.assert_array_equal(tf.function(layer)(tf.constant(x), training=False), eager)


@pytest.mark.parametrize(("kind", "name"), [case for case in CASES if case[1] in ("plain", "same", "relu6", "no_bias")])
def test_training_works_on_the_grids(kind, name, ranged, rng):
    layer, _ = make(kind, name, SETTINGS["8 bits"], ranged)
    layer.output_quantizer.fix()
    x = rng.normal(size=(3, 24) if issubclass(kind, QDense) else (3, 7, 6, 4)).astype("float32")
    y = np.array(layer(x, training=True))
    scale, lowest, highest = reference.integers_of(layer.output_quantizer)
    integers = np.rint(y / scale)
    np.testing.assert_array_equal(integers.astype("float32") * scale, y)
    assert lowest <= integers.min() <= integers.max() <= highest
    if DEPTHWISE[name].get("activation"):
        assert y.min() >= 0


@pytest.mark.parametrize("kind", [QConv2D, QDepthwiseConv2D, QDense])
def test_training_and_inference_differ_by_one_step_at_most(kind, ranged, rng):
    layer, _ = make(kind, "relu", SETTINGS["8 bits"], ranged)
    layer.output_quantizer.fix()
    x = input_integers(layer, rng, (3, 24) if kind is QDense else (3, 7, 6, 4))
    real = np.array(layer(x * np.float32(layer.input_quantizer.scale), training=True))
    integers = np.array(layer(x, training=False))
    difference = np.abs(np.rint(real / np.float32(layer.output_quantizer.scale)) - integers)
    assert difference.max() <= 1
    assert difference.mean() < 0.01


def test_a_dead_channel_carries_its_bias(ranged, rng):
    layer, _ = make(QConv2D, "plain", SETTINGS["8 bits"], ranged)
    layer.build((None, 7, 6, 4))
    kernel = np.array(layer.kernel)
    kernel[..., 1] = 0
    bias = np.array([0, 1.7, 0, 0, 0], "float32")
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)
    y = np.array(layer(input_integers(layer, rng, (2, 7, 6, 4)))) * float(layer.output_quantizer.scale)
    np.testing.assert_allclose(y[..., 1], 1.7, atol=float(layer.output_quantizer.scale) / 2 * 1.001)


def test_a_bias_that_would_not_fit_raises_the_scale_of_its_channel_alone(ranged, rng):
    layer, _ = make(QConv2D, "plain", SETTINGS["8 bits"] | {"buffer": 16}, ranged)
    layer.build((None, 7, 6, 4))
    usual = np.array(layer.weight_scale(*layer.folded_weights())).ravel()
    bias = np.zeros(5, "float32")
    bias[3] = 2 * float(layer.input_quantizer.scale) * usual[3] * 32767
    layer.bias.assign(bias)
    raised = np.array(layer.weight_scale(*layer.folded_weights())).ravel()
    np.testing.assert_allclose(raised / usual, [1, 1, 1, 2, 1], rtol=1e-5)
    assert np.abs(np.array(layer.integer_weights().bias)).tolist() == [0, 0, 0, 32767, 0]


@pytest.mark.parametrize(("kind", "name"), [(QConv2D, "plain"), (QDense, "relu"), (QDepthwiseConv2DBatchnorm, "same")])
def test_fixed_scales_give_the_same_result(kind, name, ranged, rng):
    layer, _ = make(kind, name, SETTINGS["8 bits"], ranged)
    x = input_integers(layer, rng, (3, 24) if kind is QDense else (3, 7, 6, 4))
    before = np.array(layer(x))
    layer.fix_scales()
    np.testing.assert_array_equal(layer(x), before)
    scale = np.array(layer.weight_scale(None, None))
    layer.kernel.assign(layer.kernel * 3)
    np.testing.assert_array_equal(layer.weight_scale(*layer.folded_weights()), scale)


def test_an_activation_that_is_not_a_clamp_is_refused(ranged):
    with pytest.raises(ValueError, match="'tanh' can't be fused"):
        QDense(3, activation="tanh", output_quantizer=ranged())


@pytest.mark.parametrize(("kind", "expected"), [(QConv2D, 24), (QDepthwiseConv2D, 6), (QDense, 24)])
def test_products_per_output(kind, expected, ranged):
    layer, _ = make(kind, "plain", SETTINGS["8 bits"], ranged)
    layer.build((None, 24) if kind is QDense else (None, 7, 6, 4))
    assert layer.products_per_output == expected


@pytest.mark.parametrize("kind", [QConv2D, QDepthwiseConv2D, QDense])
def test_gradients_reach_kernel_bias_and_input_as_without_quantizers(kind, ranged, rng):
    layer, _ = make(kind, "plain", SETTINGS["8 bits"], lambda low, high, **given: ranged(-100.0, 100.0, **given))
    layer.output_quantizer.fix()
    x = tf.constant(rng.normal(size=(3, 24) if kind is QDense else (3, 7, 6, 4)).astype("float32"))
    layer.build(x.shape)
    layer.kernel.assign(layer.kernel_quantizer(layer.kernel))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        quantized = tf.reduce_sum(layer(x, training=True))
        plain = tf.reduce_sum(layer.linear_op(x, layer.kernel) + layer.bias)
    sources = [x, layer.kernel.value, layer.bias.value]
    for ours, exact in zip(tape.gradient(quantized, sources), tape.gradient(plain, sources), strict=True):
        np.testing.assert_allclose(ours, exact, rtol=1e-4, atol=1e-4)


def test_smallest_weight_scale_is_the_one_at_which_the_bias_is_the_largest_integer():
    """Not the bias in steps of the input: a scale raised to that would cost every channel most of its bits."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])
    model.layers[0].set_weights([np.full((3, 2), 0.5, "float32"), np.array([0.75, -3.0], "float32")])
    quantized = qpipe.quantize(model)
    qpipe.calibrate(quantized, np.linspace(-1, 1, 24, dtype="float32").reshape(8, 3))
    layer = quantized.get_layer("dense")
    smallest = np.array(layer.smallest_weight_scale())
    integers = np.array([0.75, 3.0]) / (smallest * np.float64(layer.input_quantizer.scale))
    np.testing.assert_allclose(integers, layer.bias_quantizer.largest_integer, rtol=1e-5)
    assert (smallest < np.ravel(layer.kernel_quantizer.scale)).all()
