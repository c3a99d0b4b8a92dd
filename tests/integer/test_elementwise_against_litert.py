"""The engine's sums, products, means and changes of format against LiteRT's default path: all equal."""

from math import erf

import numpy as np
import pytest
from litert_tensors import (
    SCALES,
    Comparison,
    assert_equal_integers,
    file_tensor,
    integer_constant,
    litert,
    random_format,
    random_tensor,
)
from one_operator_file import FileTensor, OneOperator

from qpipe.integer.operator import Notes
from qpipe.integer.operators import (
    AveragePooling,
    Concatenation,
    Dequantize,
    GlobalMean,
    Lookup,
    Product,
    Quantize,
    Requantization,
    Requantize,
    Softmax,
    Sum,
)
from qpipe.numerics import QuantizedFormat, QuantizedTensor

UNBOUNDED = (-np.inf, np.inf)
FUSED = {UNBOUNDED: 0, (0.0, np.inf): 1, (0.0, 6.0): 3}
BOUNDS = pytest.mark.parametrize("bounds", FUSED, ids=["linear", "relu", "relu6"])
INPUTS = pytest.mark.parametrize("signed", [True, False], ids=["int8", "uint8"])
KINDS = pytest.mark.parametrize("scales", SCALES)
SHAPE = (1, 256, 256, 1)
SEEDS = range(4)


@pytest.fixture
def random():
    return np.random.default_rng(2026)


def every_pair(first: QuantizedFormat, second: QuantizedFormat) -> tuple[QuantizedTensor, QuantizedTensor]:
    """All 65,536 pairs of integers of two formats."""
    grid = np.meshgrid(*(np.arange(f.integers.lowest, f.integers.highest + 1) for f in (first, second)))
    return tuple(QuantizedTensor(q.reshape(SHAPE), f) for q, f in zip(grid, (first, second), strict=True))


def output_format(random, scales, real: np.ndarray, bounds=UNBOUNDED) -> QuantizedFormat:
    """A format for real values: their range, or that of a fused activation."""
    low, high = np.clip([min(np.percentile(real, 2), 0), max(np.percentile(real, 98), 0)], *bounds)
    step = (high - low) / 255
    step = step if scales == "float" else 2.0 ** np.ceil(np.log2(step))
    return QuantizedFormat(8, True, np.float32(step), int(np.clip(np.rint(-128 - low / step), -128, 127)))


@KINDS
@BOUNDS
@INPUTS
@pytest.mark.parametrize("operator", ["ADD", "SUB"])
@pytest.mark.parametrize("seed", SEEDS)
def test_sum(operator, signed, bounds, scales, seed):
    random = np.random.default_rng(seed)
    first, second = every_pair(*(random_format(random, scales, signed=signed) for _ in range(2)))
    sign = 1 if operator == "ADD" else -1
    output = output_format(random, scales, first.real + sign * second.real, bounds)
    ratios = (first.format.scale / output.scale, second.format.scale / output.scale)
    operator_of_sum = Sum(ratios, (1, sign), Requantization(np.float32(1), output, bounds))
    expected = operator_of_sum(first, second, notes=Notes())
    got = litert(operator, [first, second], expected, {"fusedActivationFunction": FUSED[bounds]})
    assert got.delegated
    assert_equal_integers(expected, got)


@KINDS
@BOUNDS
@INPUTS
def test_product(random, signed, bounds, scales):
    first, second = every_pair(*(random_format(random, scales, signed=signed, exponent=-6) for _ in range(2)))
    output = output_format(random, scales, first.real * second.real, bounds)
    multiplier = first.format.scale * second.format.scale / output.scale
    expected = Product(Requantization(multiplier, output, bounds))(first, second, notes=Notes())
    got = litert("MUL", [first, second], expected, {"fusedActivationFunction": FUSED[bounds]})
    assert got.delegated
    assert_equal_integers(expected, got)


@pytest.mark.parametrize("keepdims", [True, False])
@INPUTS
@pytest.mark.parametrize("output", ["same", "float", "power_of_two"])
@pytest.mark.parametrize("size", [(4, 4), (7, 7), (2, 7), (5, 6), (8, 8)], ids=str)
def test_global_mean(random, size, output, signed, keepdims):
    scales = "power_of_two" if output == "power_of_two" else "float"
    x = random_tensor(random, random_format(random, scales, signed=signed), (32, *size, 64))
    target = x.format if output == "same" else output_format(random, scales, x.real.mean((1, 2)))
    operator = GlobalMean(keepdims, Requantization(x.format.scale / target.scale, target))
    expected = operator(x, notes=Notes())
    got = litert("MEAN", [x, integer_constant([1, 2])], expected, {"keepDims": keepdims})
    assert got.delegated
    assert_equal_integers(expected, got)


@INPUTS
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("window", "stride"), [(2, 2), (3, 1), (3, 2), (4, 4)], ids=str)
@pytest.mark.parametrize("largest", [4, 128], ids=["many_ties", "whole_range"])
def test_average_pooling(random, largest, window, stride, padding, signed):
    """XNNPACK leaves it to a kernel of the runtime."""
    target = random_format(random, "float", signed=signed)
    stored = random.integers(-largest, largest, (1, 33, 32, 16))
    x = QuantizedTensor(stored + target.storage_offset, target)
    expected = AveragePooling((window, window), (stride, stride), padding)(x, notes=Notes())
    options = {
        "filterHeight": window,
        "filterWidth": window,
        "strideH": stride,
        "strideW": stride,
        "padding": 0 if padding == "same" else 1,
    }
    got = litert("AVERAGE_POOL_2D", [x], expected, options)
    assert not got.delegated
    assert_equal_integers(expected, got)


@INPUTS
@pytest.mark.parametrize("count", [2, 3, 5, 6])
def test_concatenation(random, count, signed):
    target = random_format(random, "float", signed=signed)
    inputs = [random_tensor(random, target, (1, 16, 16, channels)) for channels in range(3, 3 + count)]
    expected = Concatenation(-1)(*inputs, notes=Notes())
    got = litert("CONCATENATION", inputs, expected, {"axis": 3})
    assert_equal_integers(expected, got)


@KINDS
@pytest.mark.parametrize("seed", SEEDS)
def test_requantization_is_a_product_with_one(scales, seed):
    """QUANTIZE of int8 has multipliers of 8 fraction bits (4 % differ): MUL by the constant 1 is exact."""
    random = np.random.default_rng(seed)
    x = QuantizedTensor(np.arange(-128, 128).reshape(1, 256), random_format(random, scales))
    target = random_format(random, scales)
    expected = Requantize(Requantization(x.format.scale / target.scale, target))(x, notes=Notes())
    one = FileTensor.constant(np.array([1], np.int8), 1.0)
    got = litert("MUL", [x, one], expected)
    assert got.delegated
    assert_equal_integers(expected, got)


@INPUTS
@KINDS
def test_quantize_and_dequantize(random, scales, signed):
    target = random_format(random, scales, signed=signed)
    lowest, highest = target.centred_integers
    halves = np.arange(2 * lowest - 20, 2 * highest + 20) / 2
    real = np.concatenate([halves, random.uniform(lowest, highest, 2**16)]) * float(target.scale)
    real = real.astype(np.float32)
    expected = Quantize(Requantization(np.float32(1), target))(real, notes=Notes())
    quantize = OneOperator("QUANTIZE", [FileTensor(real.shape, "float32")], file_tensor(target, real.shape))
    assert quantize.delegated
    got = Comparison(quantize(real).astype(np.int64) + target.storage_offset, True)
    assert_equal_integers(expected, got)

    restored = FileTensor(real.shape, "float32")
    dequantize = OneOperator("DEQUANTIZE", [file_tensor(target, real.shape)], restored, version=2)
    assert dequantize.delegated
    stored = expected.integers - target.storage_offset
    np.testing.assert_array_equal(dequantize(stored), Dequantize()(expected, notes=Notes()))


@INPUTS
@KINDS
@pytest.mark.parametrize(
    ("operator", "function", "output"),
    [
        ("LOGISTIC", lambda x: 1 / (1 + np.exp(-x)), QuantizedFormat(8, False, 2.0**-8)),
        ("TANH", np.tanh, QuantizedFormat(8, True, 2.0**-7)),
        ("GELU", np.vectorize(lambda x: x * (1 + erf(x / np.sqrt(2))) / 2), QuantizedFormat(8, True, 0.016, -117)),
    ],
)
def test_lookup(random, operator, function, output, scales, signed):
    target = random_format(random, scales, signed=signed)
    lowest, highest = target.integers
    x = QuantizedTensor(np.arange(lowest, highest + 1).reshape(16, 16), target)
    real = function(np.float64(target.scale) * x.centred.ravel())
    rounded = np.rint(real / np.float64(output.scale)).astype(np.float32)
    lookup = Lookup(rounded, Requantization(np.float32(1), output), operator)
    expected = lookup(x, notes=Notes())
    got = litert(operator, [x], expected, version=1)
    assert got.delegated is (operator != "GELU")
    assert_equal_integers(expected, got)


@INPUTS
@KINDS
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_softmax(random, classes, scales, signed):
    """XNNPACK leaves it to a kernel of the runtime, which works with a table of float32 exponentials."""
    target = random_format(random, scales, signed=signed)
    x = random_tensor(random, target, (20000 // classes, classes))
    exponentials = np.rint(2.0**23 * np.exp(-np.float64(target.scale) * np.arange(256))).astype(np.int64)
    output = QuantizedFormat(8, False, 2.0**-8)
    expected = Softmax(exponentials, Requantization(np.float32(1), output))(x, notes=Notes())
    got = litert("SOFTMAX", [x], expected, {"beta": 1.0})
    assert not got.delegated
    assert_equal_integers(expected, got)
