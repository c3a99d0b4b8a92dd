from fractions import Fraction
from math import frexp

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from qpipe.errors import QuantizationError
from qpipe.numerics import affine_parameters, integer_range, scale_for_maximum

SMALLEST_NORMAL = 2.0**-126
LARGEST = float(np.finfo(np.float32).max)

bitwidths = st.integers(2, 16)
maxima = st.floats(SMALLEST_NORMAL, LARGEST, width=32, allow_subnormal=False)
ends = st.floats(-(2.0**30), 2.0**30, width=32, allow_subnormal=False)


def is_power_of_two(value: float) -> bool:
    return frexp(value)[0] == 0.5


def smallest_power_of_two(maximum: float, highest: int) -> Fraction:
    """The definition, in exact arithmetic: 2^-f with the largest f <= 126 for which maximum * 2^f <= highest."""
    f = 126
    while Fraction(maximum) * Fraction(2) ** f > highest:
        f -= 1
    return Fraction(2) ** -f


@pytest.fixture(scope="module")
def many_maxima():
    """Maxima of every magnitude, ties of the mantissa with every width's largest integer, and their neighbours."""
    rng = np.random.default_rng(4)
    powers = np.float32(2.0) ** np.arange(-126, 127, dtype=np.float32)
    fractions = [integer_range(bits, signed=signed).highest for bits in range(2, 17) for signed in (True, False)]
    exact = np.outer(np.float32(fractions), np.float32(2.0) ** np.arange(-40, 40, 8, dtype=np.float32)).ravel()
    exact = np.concatenate([powers, exact])
    random = rng.uniform(1, 2, 2000).astype("float32") * rng.choice(powers, 2000)
    with np.errstate(under="ignore"):
        below = np.nextafter(exact, np.float32(0))
    special = np.array([0, 2.0**-149, 2.0**-127, SMALLEST_NORMAL, LARGEST / 2], "float32")
    return np.concatenate([exact, below, np.nextafter(exact, np.float32(np.inf)), random, special])


@pytest.fixture(scope="module")
def graphs():
    """`scale_for_maximum` as TensorFlow compiles it, with and without XLA, by kind and width."""

    def scales(maximum):
        return [
            scale_for_maximum(maximum, highest, power_of_two=power_of_two)
            for highest in (1, 3, 127, 255, 32767, 65535)
            for power_of_two in (False, True)
        ]

    return scales, tf.function(scales, autograph=False), tf.function(scales, autograph=False, jit_compile=True)


@given(maxima, bitwidths, st.booleans())
def test_power_of_two_scale_is_the_definition_exactly(maximum, bits, signed):
    highest = integer_range(bits, signed=signed).highest
    if maximum > 2.0**127 * highest:
        maximum = maximum / 2
    scale = float(scale_for_maximum(maximum, highest, power_of_two=True))
    assert Fraction(scale) == smallest_power_of_two(maximum, highest)


@given(st.integers(-125, 126), bitwidths, st.booleans(), st.sampled_from([0.0, np.inf]))
def test_neighbours_of_what_just_fits(exponent, bits, signed, direction):
    highest = integer_range(bits, signed=signed).highest
    fits = np.float32(highest * 2.0 ** min(exponent, 127 - bits))
    neighbour = np.nextafter(fits, np.float32(direction))
    for maximum in (fits, neighbour):
        scale = float(scale_for_maximum(maximum, highest, power_of_two=True))
        assert Fraction(scale) == smallest_power_of_two(float(maximum), highest)


@given(st.integers(-126, 127), bitwidths)
def test_exact_powers_of_two_do_not_saturate(exponent, bits):
    highest = integer_range(bits).highest
    maximum = 2.0**exponent
    scale = float(scale_for_maximum(maximum, highest, power_of_two=True))
    assert maximum / scale <= highest
    assert (maximum / scale).is_integer()


@given(st.integers(-126, 110), bitwidths)
def test_the_largest_representable_value_gets_the_finest_scale(exponent, bits):
    highest = integer_range(bits).highest
    scale = float(scale_for_maximum(highest * 2.0**exponent, highest, power_of_two=True))
    assert scale == 2.0**exponent


@given(st.floats(2.0**-100, LARGEST, width=32), bitwidths)
def test_float_scale_maps_the_maximum_to_the_highest_integer(maximum, bits):
    highest = integer_range(bits).highest
    scale = np.float32(scale_for_maximum(maximum, highest))
    assert scale == np.float32(maximum) / np.float32(highest)
    assert np.rint(np.float32(maximum) / scale) == highest


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("highest", [1, 127, 65535])
def test_no_scale_is_smaller_than_the_smallest_normal_number(highest, power_of_two):
    scale = scale_for_maximum(np.float32([SMALLEST_NORMAL, 3 * SMALLEST_NORMAL]), highest, power_of_two=power_of_two)
    assert scale.min() >= SMALLEST_NORMAL


@pytest.mark.parametrize("power_of_two", [False, True])
def test_zero_and_subnormal_maxima_have_scale_one(power_of_two):
    maximum = np.array([0.0, 1.0, 2.0**-149, 2.0**-127], "float32")
    scales = scale_for_maximum(maximum, 127, power_of_two=power_of_two)
    assert scales[[0, 2, 3]].tolist() == [1, 1, 1]
    assert scales[1] < 1


def test_small_maxima_get_the_fraction_bits_that_they_deserve():
    assert float(scale_for_maximum(0.01, 127, power_of_two=True)) == 2.0**-13


def test_numpy_tensors_and_compiled_graphs_agree_to_the_last_bit(graphs, many_maxima):
    eager, graph, compiled = graphs
    expected = eager(many_maxima)
    assert all(isinstance(scale, np.ndarray) and scale.dtype == np.float32 for scale in expected)
    tensor = tf.constant(many_maxima)
    for function in (eager, graph, compiled):
        for scale, reference in zip(function(tensor), expected, strict=True):
            np.testing.assert_array_equal(scale.numpy(), reference)


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0])
def test_numpy_maxima_that_give_no_scale_are_an_error(value, power_of_two):
    with pytest.raises(QuantizationError, match=rf"1 of 3 maxima give no scale, the first of them {value}"):
        scale_for_maximum(np.array([1.0, value, 2.0]), 127, power_of_two=power_of_two)


def test_a_maximum_beyond_the_largest_power_of_two_is_an_error():
    assert scale_for_maximum(2.0**127, 1, power_of_two=True) == 2.0**127
    with pytest.raises(QuantizationError, match="1 of 1 maxima give no scale"):
        scale_for_maximum(np.float32(LARGEST), 1, power_of_two=True)


@pytest.mark.parametrize("power_of_two", [False, True])
def test_tensors_that_are_not_finite_give_no_finite_scale(power_of_two):
    scales = scale_for_maximum(tf.constant([np.nan, np.inf]), 127, power_of_two=power_of_two)
    assert not np.isfinite(scales.numpy()).any()


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


def test_affine_parameters_agree_between_numpy_and_compiled_graphs():
    rng = np.random.default_rng(5)
    low = -rng.uniform(0, 4, 500).astype("float32")
    high = rng.uniform(0, 4, 500).astype("float32")

    def parameters(low, high):
        return [
            affine_parameters(low, high, integer_range(bits, signed=signed), power_of_two=power_of_two)
            for bits, signed, power_of_two in ((8, True, False), (16, False, False), (4, False, True))
        ]

    compiled = tf.function(parameters, autograph=False, jit_compile=True)(tf.constant(low), tf.constant(high))
    for (scale, zero_point), (other_scale, other_zero_point) in zip(parameters(low, high), compiled, strict=True):
        np.testing.assert_array_equal(other_scale.numpy(), scale)
        np.testing.assert_array_equal(other_zero_point.numpy(), zero_point)


@pytest.mark.parametrize(("low", "high"), [(-np.inf, 1.0), (0.0, np.nan), (-LARGEST, LARGEST)])
def test_an_endless_range_is_an_error(low, high):
    with np.errstate(over="ignore"), pytest.raises(QuantizationError, match="give no scale"):
        affine_parameters(low, high, integer_range(8))
