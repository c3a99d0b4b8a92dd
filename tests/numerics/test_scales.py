from fractions import Fraction
from math import frexp

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpipe.numerics import affine_parameters, integer_range, scale_for_maximum

bitwidths = st.integers(2, 16)
maxima = st.floats(2.0**-60, 2.0**60, width=32)
ends = st.floats(-(2.0**30), 2.0**30, width=32, allow_subnormal=False)


def is_power_of_two(value: float) -> bool:
    return frexp(value)[0] == 0.5


def largest_fraction_bits(maximum: float, highest: int) -> int:
    """The definition, in exact arithmetic: the largest f for which maximum * 2^f <= highest."""
    f = 80
    while Fraction(maximum) * Fraction(2) ** f > highest:
        f -= 1
    return f


@given(maxima, bitwidths, st.booleans())
def test_power_of_two_scale_is_the_definition_exactly(maximum, bits, signed):
    highest = integer_range(bits, signed=signed).highest
    scale = float(scale_for_maximum(maximum, highest, power_of_two=True))
    assert is_power_of_two(scale)
    assert Fraction(scale) == Fraction(2) ** -largest_fraction_bits(maximum, highest)


@given(st.integers(-40, 40), bitwidths)
def test_exact_powers_of_two_do_not_saturate(exponent, bits):
    highest = integer_range(bits).highest
    maximum = 2.0**exponent
    scale = float(scale_for_maximum(maximum, highest, power_of_two=True))
    assert maximum / scale <= highest
    assert (maximum / scale).is_integer()


@given(st.integers(-40, 40), bitwidths)
def test_the_largest_representable_value_gets_the_finest_scale(exponent, bits):
    highest = integer_range(bits).highest
    scale = float(scale_for_maximum(highest * 2.0**exponent, highest, power_of_two=True))
    assert scale == 2.0**exponent


@given(maxima, bitwidths)
def test_float_scale_maps_the_maximum_to_the_highest_integer(maximum, bits):
    highest = integer_range(bits).highest
    scale = np.float32(scale_for_maximum(maximum, highest))
    assert scale == np.float32(maximum) / np.float32(highest)
    assert np.rint(np.float32(maximum) / scale) == highest


@pytest.mark.parametrize("power_of_two", [False, True])
def test_zero_has_scale_one(power_of_two):
    scales = scale_for_maximum(np.array([0.0, 1.0, 0.0], "float32"), 127, power_of_two=power_of_two)
    assert np.array(scales)[[0, 2]].tolist() == [1, 1]
    assert np.array(scales)[1] < 1


def test_small_maxima_get_the_fraction_bits_that_they_deserve():
    assert float(scale_for_maximum(0.01, 127, power_of_two=True)) == 2.0**-13


@given(ends, ends, bitwidths, st.booleans(), st.booleans())
def test_affine_parameters_hold_zero_exactly(first, second, bits, signed, power_of_two):
    integers = integer_range(bits, signed=signed)
    low, high = sorted((first, second))
    scale, zero_point = map(float, affine_parameters(low, high, integers, power_of_two=power_of_two))
    assert scale > 0
    assert zero_point.is_integer()
    assert integers.lowest <= zero_point <= integers.highest
    assert not power_of_two or is_power_of_two(scale)


@given(ends, ends, bitwidths, st.booleans())
def test_affine_integers_cover_the_range_to_half_a_step(first, second, bits, power_of_two):
    integers = integer_range(bits, signed=False)
    low, high = sorted((first, second))
    scale, zero_point = map(float, affine_parameters(low, high, integers, power_of_two=power_of_two))
    slack = scale * (0.5 + 1e-6 * 2**bits)
    assert scale * (integers.lowest - zero_point) <= min(low, 0) + slack
    assert scale * (integers.highest - zero_point) >= max(high, 0) - slack


def test_a_range_without_zero_is_widened_to_zero():
    scale, zero_point = affine_parameters(2.0, 5.1, integer_range(8, signed=False))
    assert float(zero_point) == 0
    assert float(scale) == pytest.approx(5.1 / 255)
    _, zero_point = affine_parameters(-5.1, -2.0, integer_range(8, signed=False))
    assert float(zero_point) == 255
