"""The engine's linear operators against LiteRT's default path: not one of some million values differs."""

import numpy as np
import pytest
from litert_tensors import (
    SCALES,
    assert_equal_integers,
    integer_constant,
    litert,
    random_format,
    random_tensor,
    weight_constant,
)
from one_operator_file import FileTensor

from qpipe.integer.operator import Notes
from qpipe.integer.operators import Convolution, Dense, Requantization, Scale, TransposedConvolution
from qpipe.numerics import QuantizedFormat, QuantizedTensor

UNBOUNDED = (-np.inf, np.inf)
FUSED = {UNBOUNDED: 0, (0.0, np.inf): 1, (0.0, 6.0): 3}
PADDING = {"same": 0, "valid": 1}
INPUTS = pytest.mark.parametrize("signed", [True, False], ids=["int8", "uint8"])
KINDS = pytest.mark.parametrize("scales", SCALES)


@pytest.fixture
def random():
    return np.random.default_rng(2026)


def random_weights(random, scales, shape, channels, positions, x, bounds=UNBOUNDED):
    """Integer kernel and bias, kernel scales, and a requantization; real outputs spread by about 4."""
    kernel = random.integers(-127, 128, shape)
    spread = 73 * 73 * np.sqrt(positions)
    bias = np.rint(random.uniform(-spread, spread, channels)).astype(np.int64)
    exponents = np.log2(4 / (spread * x.format.scale)) + random.uniform(-0.5, 0.5, channels)
    scale = np.exp2(exponents if scales == "float" else np.round(exponents)).astype(np.float32)
    step = 6 / 250 if bounds[1] == 6.0 else 0.06
    step = step if scales == "float" else 2.0 ** np.ceil(np.log2(step))
    low = bounds[0] == 0.0
    output = QuantizedFormat(8, not low, np.float32(step), 0 if low else int(random.integers(-60, 60)))
    return kernel, bias, scale, Requantization(x.format.scale * scale / output.scale, output, bounds)


def bias_constant(bias, x: QuantizedTensor, scale) -> FileTensor:
    return FileTensor.constant(bias.astype(np.int32), x.format.scale * scale)


CONVOLUTIONS = {
    "1x1": {"window": (1, 1)},
    "1x1_strided": {"window": (1, 1), "strides": (2, 2)},
    "3x3_same": {"window": (3, 3), "padding": "same"},
    "3x3_valid_strided": {"window": (3, 3), "strides": (2, 2)},
    "3x2_same_strides": {"window": (3, 2), "strides": (2, 1), "padding": "same"},
    "3x3_dilated": {"window": (3, 3), "dilation": (2, 2), "padding": "same"},
    "5x5_relu": {"window": (5, 5), "padding": "same", "bounds": (0.0, np.inf)},
    "3x3_relu6": {"window": (3, 3), "padding": "same", "bounds": (0.0, 6.0)},
    "3x3_groups": {"window": (3, 3), "padding": "same", "groups": 4},
}


def convolution_options(operator: Convolution | TransposedConvolution):
    vertical, horizontal = operator.strides
    return {
        "strideH": vertical,
        "strideW": horizontal,
        "padding": PADDING[operator.padding],
        "fusedActivationFunction": FUSED[operator.requantization.bounds],
    }


def dilation_options(operator: Convolution):
    return {"dilationHFactor": operator.dilation[0], "dilationWFactor": operator.dilation[1]}


@KINDS
@INPUTS
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution(random, case, signed, scales):
    given = {"strides": (1, 1), "dilation": (1, 1), "padding": "valid", "groups": 1, **CONVOLUTIONS[case]}
    window, bounds = given.pop("window"), given.pop("bounds", UNBOUNDED)
    inputs = 16 // given["groups"]
    x = random_tensor(random, random_format(random, scales, signed=signed), (1, 34, 33, 16))
    shape = (*window, inputs, 24)
    weights = random_weights(random, scales, shape, 24, inputs * np.prod(window), x, bounds)
    kernel, bias, scale, requantization = weights
    operator = Convolution(kernel, bias, requantization, kernel_scale=scale, **given)
    expected = operator(x, notes=Notes())
    constants = [weight_constant(kernel.transpose(3, 0, 1, 2), scale, 0), bias_constant(bias, x, scale)]
    options = convolution_options(operator) | dilation_options(operator)
    got = litert("CONV_2D", [x, *constants], expected, options, version=3)
    assert got.delegated
    assert_equal_integers(expected, got)


DEPTHWISE = {
    "3x3": {"padding": "same"},
    "strided": {"padding": "same", "strides": (2, 2)},
    "dilated": {"dilation": (2, 2)},
    "multiplier_2": {"multiplier": 2},
    "relu6": {"padding": "same", "bounds": (0.0, 6.0)},
}


@KINDS
@INPUTS
@pytest.mark.parametrize("case", DEPTHWISE)
def test_depthwise_convolution(random, case, signed, scales):
    given = {"strides": (1, 1), "dilation": (1, 1), "padding": "valid", **DEPTHWISE[case]}
    multiplier, bounds = given.pop("multiplier", 1), given.pop("bounds", UNBOUNDED)
    x = random_tensor(random, random_format(random, scales, signed=signed), (1, 34, 33, 16))
    channels = 16 * multiplier
    weights = random_weights(random, scales, (3, 3, 1, channels), channels, 9, x, bounds)
    kernel, bias, scale, requantization = weights
    operator = Convolution(kernel, bias, requantization, kernel_scale=scale, **given, groups=16)
    expected = operator(x, notes=Notes())
    constants = [weight_constant(kernel.transpose(2, 0, 1, 3), scale, 3), bias_constant(bias, x, scale)]
    options = convolution_options(operator) | dilation_options(operator) | {"depthMultiplier": multiplier}
    got = litert("DEPTHWISE_CONV_2D", [x, *constants], expected, options, version=3)
    assert got.delegated
    assert_equal_integers(expected, got)


@KINDS
def test_batch_normalization_is_a_depthwise_convolution(random, scales):
    x = random_tensor(random, random_format(random, scales), (1, 40, 40, 16))
    kernel, bias, scale, requantization = random_weights(random, scales, (16,), 1, 1, x)
    expected = Scale(kernel, np.repeat(bias, 16), requantization, kernel_scale=scale)(x, notes=Notes())
    constants = [
        weight_constant(kernel.reshape(1, 1, 1, 16), np.repeat(scale, 16), 3),
        bias_constant(np.repeat(bias, 16), x, np.repeat(scale, 16)),
    ]
    options = {"strideH": 1, "strideW": 1, "padding": PADDING["valid"], "depthMultiplier": 1}
    got = litert("DEPTHWISE_CONV_2D", [x, *constants], expected, options, version=3)
    assert got.delegated
    assert_equal_integers(expected, got)


TRANSPOSED = {
    "2x2": {"window": (2, 2), "strides": (2, 2), "padding": "valid"},
    "3x3_same": {"window": (3, 3), "strides": (2, 2), "padding": "same"},
    "3x3_valid": {"window": (3, 3), "strides": (2, 2), "padding": "valid"},
    "4x4_same": {"window": (4, 4), "strides": (2, 2), "padding": "same"},
    "3x3_unstrided": {"window": (3, 3), "strides": (1, 1), "padding": "same"},
}


@KINDS
@INPUTS
@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolution(random, case, signed, scales):
    given = dict(TRANSPOSED[case])
    window = given.pop("window")
    x = random_tensor(random, random_format(random, scales, signed=signed), (1, 17, 16, 12))
    positions = 12 * np.prod(window) / np.prod(given["strides"])
    kernel, bias, scale, requantization = random_weights(random, scales, (*window, 10, 12), 10, positions, x)
    operator = TransposedConvolution(kernel, bias, requantization, kernel_scale=scale, dilation=(1, 1), **given)
    expected = operator(x, notes=Notes())
    inputs = [
        integer_constant(expected.integers.shape),
        weight_constant(kernel.transpose(2, 0, 1, 3), scale, 0),
        x,
        bias_constant(bias, x, scale),
    ]
    got = litert("TRANSPOSE_CONV", inputs, expected, convolution_options(operator), version=4)
    assert got.delegated
    assert_equal_integers(expected, got)


@KINDS
@INPUTS
@pytest.mark.parametrize("per_channel", [True, False], ids=["per_channel", "per_tensor"])
@pytest.mark.parametrize("sizes", [(64, 100), (1000, 10)], ids=["64x100", "1000x10"])
def test_dense(random, sizes, per_channel, signed, scales):
    inputs, units = sizes
    x = random_tensor(random, random_format(random, scales, signed=signed), (20000 // units, inputs))
    kernel, bias, scale, requantization = random_weights(random, scales, sizes, units, inputs, x)
    if not per_channel:
        scale = scale[:1]
        multiplier = x.format.scale * scale[0] / requantization.output.scale
        requantization = Requantization(multiplier, requantization.output)
    expected = Dense(kernel, bias, requantization, kernel_scale=scale)(x, notes=Notes())
    constants = [weight_constant(kernel.T, scale, 0), bias_constant(bias, x, scale)]
    got = litert("FULLY_CONNECTED", [x, *constants], expected, version=4)
    assert got.delegated
    assert_equal_integers(expected, got)
