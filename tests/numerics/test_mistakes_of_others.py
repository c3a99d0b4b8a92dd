"""What other implementations get wrong with fixed-point numbers: list items 2, 3 and 5 of the numeric contract."""

import numpy as np
import pytest

from qpipe.numerics import (
    QuantizedFormat,
    QuantizedTensor,
    drop_bits,
    integer_range,
    quantize,
    requantize,
    round_half_even,
    scale_for_maximum,
)

HALVES = np.array([-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5], "float32")
EVEN = [-4, -2, -2, 0, 0, 2, 2, 4]


def fixed_point(values, bits, signed=True):
    """Quantizes values with the power-of-two scale that their largest magnitude asks for."""
    highest = integer_range(bits, signed=signed).highest
    scale = scale_for_maximum(np.abs(values).max(), highest, power_of_two=True)
    return quantize(values, QuantizedFormat(bits, signed, scale))


@pytest.mark.parametrize("bits", range(3, 17))
def test_fractional_bits_are_not_limited_by_the_width(bits):
    values = np.array([0.01, -0.004, 0.0])
    result, saturations = fixed_point(values, bits)
    assert result.format.fractional_bits == bits - 1 + 6  # 2^-7 < 0.01 < 2^-6
    assert result.format.fractional_bits > bits
    assert saturations == 0
    assert result.integers[0] > integer_range(bits).highest / 2


@pytest.mark.parametrize("bits", range(3, 17))
def test_fractional_bits_of_large_values_are_negative(bits):
    result, saturations = fixed_point(np.array([3.0 * 2**20]), bits)
    assert result.format.fractional_bits == bits - 1 - 22
    assert saturations == 0


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", range(2, 17))
def test_an_exact_power_of_two_is_represented_exactly(bits, signed):
    for exponent in (-20, -7, -1, 0, 1, 6, 30):
        value = 2.0**exponent
        result, saturations = fixed_point(np.array([value]), bits, signed)
        assert result.real.tolist() == [value]
        assert saturations == 0


@pytest.mark.parametrize("bits", range(3, 17))
def test_integer_valued_tensors_get_their_fractional_bits(bits):
    result, saturations = fixed_point(np.array([3.0, -2.0, 1.0, 0.0]), bits)
    assert result.format.fractional_bits == bits - 3  # 3 has two integer bits, beside the sign
    assert result.real.tolist() == [3.0, -2.0, 1.0, 0.0]
    assert saturations == 0
    assert fixed_point(np.array([3, -2]), bits)[0].format.fractional_bits == bits - 3


def test_ties_are_the_same_in_every_operation():
    whole, half = QuantizedFormat(8, True, 1.0), QuantizedFormat(8, True, 0.5)
    in_halves = QuantizedTensor((HALVES * 2).astype(int), half)
    float_scale = np.float32(0.3)
    assert round_half_even(HALVES).tolist() == EVEN
    assert quantize(HALVES, whole).tensor.integers.tolist() == EVEN
    assert requantize(in_halves, whole).tensor.integers.tolist() == EVEN
    assert drop_bits(in_halves, 1).integers.tolist() == EVEN
    in_float_halves = QuantizedTensor(in_halves.integers, QuantizedFormat(8, True, float_scale / 2))
    assert requantize(in_float_halves, QuantizedFormat(8, True, float_scale)).tensor.integers.tolist() == EVEN


def test_the_zero_point_does_not_turn_ties():
    odd = QuantizedFormat(8, True, 1.0, zero_point=3)
    assert quantize(HALVES, odd).tensor.integers.tolist() == [q + 3 for q in EVEN]
