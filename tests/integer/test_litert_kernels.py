"""What an exporter has to know about LiteRT: where its default path leaves XNNPACK or rounds more coarsely.

Each test fails when a newer runtime computes it otherwise: then the export can do better.
"""

import numpy as np
import pytest
from one_operator_file import WITHOUT_XNNPACK, FileTensor, OneOperator

EVERY_INTEGER = np.arange(-128, 128)


def share_that_differs(got: np.ndarray, expected: np.ndarray) -> float:
    """Share of int8 values that differ, all of them by at most 1."""
    difference = np.abs(got.ravel() - np.clip(expected, -128, 127).ravel())
    assert difference.max() <= 1
    return float((difference > 0).mean())


def all_inputs(operator: str, x: FileTensor, y: FileTensor, options=None) -> OneOperator:
    return OneOperator(operator, [x], y, options, version=2 if operator == "QUANTIZE" else 1)


def test_quantize_of_int8_has_multipliers_of_8_fraction_bits():
    x, y = FileTensor((256,), scale=0.031, zero_point=5), FileTensor((256,), scale=0.047, zero_point=-9)
    quantize = all_inputs("QUANTIZE", x, y)
    assert quantize.delegated
    got = quantize(EVERY_INTEGER).astype(np.int64)
    multiplier = int(np.rint(256 * np.float32(0.031) / np.float32(0.047)))
    coarse = (((EVERY_INTEGER - 5) * multiplier + 128) >> 8) - 9
    assert share_that_differs(got, coarse) == 0
    assert 0 < share_that_differs(got, np.rint((EVERY_INTEGER - 5) * (0.031 / 0.047)) - 9) < 0.1


def test_leaky_relu_has_multipliers_of_8_fraction_bits():
    x, y = FileTensor((256,), scale=0.03, zero_point=5), FileTensor((256,), scale=0.02, zero_point=-90)
    leaky_relu = all_inputs("LEAKY_RELU", x, y, {"alpha": 0.1})
    assert leaky_relu.delegated
    got = leaky_relu(EVERY_INTEGER).astype(np.int64)
    ratio = np.float32(0.03) / np.float32(0.02)
    centred = EVERY_INTEGER - 5
    multiplier = np.where(centred < 0, np.rint(256 * ratio * np.float32(0.1)), np.rint(256 * ratio)).astype(np.int64)
    assert share_that_differs(got, ((centred * multiplier + 128) >> 8) - 90) == 0
    exact = np.rint(np.where(centred < 0, 0.1, 1.0) * centred * (0.03 / 0.02)) - 90
    assert 0 < share_that_differs(got, exact) < 0.2


@pytest.mark.parametrize(
    ("operator", "function", "scale", "zero_point", "delegated", "bound"),
    [
        ("LOGISTIC", lambda x: 1 / (1 + np.exp(-x)), 1 / 256, -128, True, 0),
        ("TANH", np.tanh, 1 / 128, 0, True, 0),
        ("HARD_SWISH", lambda x: x * np.clip(x + 3, 0, 6) / 6, 0.03, -110, False, 0.02),
    ],
)
def test_tables(operator, function, scale, zero_point, delegated, bound):
    """HARD_SWISH is an int16 fixed-point kernel: 0.5 % of the integers differ from the exact function."""
    differing = []
    for input_scale in np.linspace(0.01, 0.05, 40, dtype=np.float32):
        table = all_inputs(
            operator,
            FileTensor((256,), scale=input_scale, zero_point=-3),
            FileTensor((256,), "int8", scale, zero_point),
        )
        assert table.delegated is delegated
        exact = np.rint(function(np.float64(input_scale) * (EVERY_INTEGER + 3)) / np.float64(np.float32(scale)))
        differing.append(share_that_differs(table(EVERY_INTEGER).astype(np.int64), exact + zero_point))
    assert np.mean(differing) <= bound


def test_softmax_is_exact_but_not_delegated():
    random = np.random.default_rng(3)
    x = random.integers(-128, 128, (2000, 10))
    softmax = OneOperator(
        "SOFTMAX",
        [FileTensor(x.shape, scale=0.1, zero_point=4)],
        FileTensor(x.shape, scale=1 / 256, zero_point=-128),
        {"beta": 1.0},
        version=2,
    )
    assert not softmax.delegated
    power = np.exp(np.float64(np.float32(0.1)) * (x - x.max(axis=1, keepdims=True)))
    exact = np.rint(256 * power / power.sum(axis=1, keepdims=True)) - 128
    assert share_that_differs(softmax(x).astype(np.int64), exact) == 0


@pytest.mark.parametrize(("kernel", "delegated"), [(2, True), (1, False)])
def test_transposed_convolution_narrower_than_its_stride_is_not_delegated(kernel, delegated):
    inputs = [
        FileTensor.constant(np.array([1, 8, 8, 2], np.int32)),
        FileTensor.constant(np.ones((2, kernel, kernel, 3), np.int8), 0.1),
        FileTensor((1, 4, 4, 3), scale=0.1),
        FileTensor.constant(np.zeros(2, np.int32), 0.01),
    ]
    options = {"padding": 0, "strideH": 2, "strideW": 2}
    loaded = OneOperator("TRANSPOSE_CONV", inputs, FileTensor((1, 8, 8, 2), scale=0.1), options, version=4)
    assert loaded.delegated is delegated


def test_sixteen_bit_sums_are_not_delegated():
    """Their kernel rounds ties away from zero, where XNNPACK's 8-bit sums round them up."""
    first, second = np.array([1, -1, 3, -3, 5, -5]), np.zeros(6)
    for dtype, expected in (("int16", [1, -1, 2, -2, 3, -3]), ("int8", [1, 0, 2, -1, 3, -2])):
        tensor, output = FileTensor((6,), dtype, 2.0**-9), FileTensor((6,), dtype, 2.0**-8)
        add = OneOperator("ADD", [tensor, tensor], output, {"potScaleInt16": False}, version=4)
        assert add.delegated is (dtype == "int8")
        assert add(first, second).tolist() == expected


def test_the_path_without_xnnpack_rounds_otherwise():
    """Why `delegated` is asserted wherever integers are compared."""
    random = np.random.default_rng(5)
    x, weights = random.integers(-128, 128, (4000, 32)), random.integers(-127, 128, (16, 32)).astype(np.int8)
    inputs = [
        FileTensor(x.shape, scale=0.02),
        FileTensor.constant(weights, 0.01),
        FileTensor.constant(np.zeros(16, np.int32), np.float32(0.02) * np.float32(0.01)),
    ]
    output = FileTensor((4000, 16), scale=0.11)
    default = OneOperator("FULLY_CONNECTED", inputs, output, version=4)
    kernels = OneOperator("FULLY_CONNECTED", inputs, output, version=4, path=WITHOUT_XNNPACK)
    assert default.delegated
    assert not kernels.delegated
    assert 0 < share_that_differs(default(x).astype(np.int64), kernels(x).astype(np.int64)) < 0.01
