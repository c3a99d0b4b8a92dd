from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qpipe.errors import QuantizationError
from qpipe.quantizers import AlignedWeightQuantizer

SCALE = np.array([0.001, 0.002, 0.25], "float32")


def test_with_the_buffers_width_a_bias_lies_exactly_on_the_accumulators_grid(rng):
    bias = rng.normal(size=3).astype("float32")
    quantizer = AlignedWeightQuantizer()
    integers = np.array(quantizer.integer(bias, SCALE))
    np.testing.assert_array_equal(integers, np.rint(bias / SCALE))
    np.testing.assert_array_equal(quantizer(bias, SCALE), integers * SCALE)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("factor", [0.001, 1.0, 37.0, 5e4])
def test_a_narrow_mantissa_is_shifted_by_the_smallest_k_that_fits(bits, factor, rng):
    bias = rng.normal(size=3).astype("float32") * np.float32(factor)
    highest = 2 ** (bits - 1) - 1
    shift = 0
    while np.abs(bias.astype("float64") / SCALE).max() > highest * 2**shift:
        shift += 1
    quantizer = AlignedWeightQuantizer(bitwidth=bits)
    integers = np.array(quantizer.integer(bias, SCALE)).astype("int64")
    mantissas = integers / 2**shift
    np.testing.assert_array_equal(mantissas, np.rint(bias / (SCALE * np.float32(2**shift))))
    assert np.abs(mantissas).max() <= highest
    np.testing.assert_array_equal(quantizer(bias, SCALE), (integers * SCALE).astype("float32"))


@pytest.mark.parametrize("bits", [None, 4, 8, 16])
@pytest.mark.parametrize("bias", [1e6, 32767.0, 32767.4, 20000.0, 16400.0])
def test_never_leaves_a_narrow_buffer(bits, bias):
    quantizer = AlignedWeightQuantizer(bitwidth=bits, buffer_bitwidth=16)
    integers = np.array(quantizer.integer(np.array([bias, -bias], "float32"), np.float32(1.0)))
    assert integers.max() <= 2**15 - 1
    assert integers.min() >= -(2**15)
    assert integers[0] > 2**14 - 1
    np.testing.assert_array_equal(quantizer(np.array([bias, -bias], "float32"), np.float32(1.0)), integers)


def test_a_wide_buffer_takes_a_wide_bias():
    quantizer = AlignedWeightQuantizer(buffer_bitwidth=64)
    assert float(quantizer.integer(np.array([1000.0], "float32"), np.float32(2.0**-40))[0]) == 1000 * 2.0**40
    assert float(AlignedWeightQuantizer().integer(np.array([1000.0], "float32"), np.float32(2.0**-40))[0]) < 2**31


@pytest.mark.parametrize("bits", [None, 16, 20])
def test_training_rounds_but_does_not_cut_off_in_a_wide_buffer(bits):
    quantizer = AlignedWeightQuantizer(bitwidth=bits)
    bias = np.array([1e6, -1e4, 3e-5], "float32")
    np.testing.assert_allclose(quantizer(bias, np.float32(2.0**-20)), bias, atol=2.0**-5)
    np.testing.assert_allclose(quantizer(bias, np.float32(1e-30)), bias, rtol=2.0**-15, atol=1e-6)


def smallest_weight_scale(quantizer, bias, input_scale):
    demands = quantizer.demands(bias, input_scale)
    return np.array(demands.steps) * np.float32(1.0 / demands.largest)


def test_a_bias_fits_at_the_smallest_weight_scale(rng):
    bias = rng.normal(size=5).astype("float32") * 100
    quantizer = AlignedWeightQuantizer(buffer_bitwidth=16)
    smallest = smallest_weight_scale(quantizer, bias, np.float32(0.02))
    integers = quantizer.int64(bias, smallest * np.float32(0.02))
    np.testing.assert_array_equal(np.abs(integers), 2**15 - 1)
    error = np.abs(np.array(quantizer(bias, smallest * np.float32(0.02))) - bias)
    assert (error <= np.abs(bias) * 1e-4).all()
    quantizer.require_fit(bias, smallest * np.float32(0.02), "conv")


@pytest.mark.parametrize("buffer", [8, 16, 24, 32, 64])
@pytest.mark.parametrize("bits", [None, 4, 8, 16])
@settings(deadline=None, max_examples=30)
@given(st.floats(2.0**-20, 2.0**20, width=32), st.floats(2.0**-20, 2.0**20, width=32))
def test_nothing_saturates_at_the_smallest_weight_scale(buffer, bits, bias, input_scale):
    """Whatever the rounding of float32 does, the bias stays inside, and loses no more than its mantissa does."""
    quantizer = AlignedWeightQuantizer(bitwidth=bits, buffer_bitwidth=buffer)
    bias, input_scale = np.array([bias, -bias], "float32"), np.float32(input_scale)
    scale = smallest_weight_scale(quantizer, bias, input_scale) * input_scale
    quantizer.require_fit(bias, scale, "conv")
    integers = quantizer.int64(bias, scale)
    assert np.abs(integers).max() <= 2 ** (buffer - 1) - 1
    error = max(
        abs(Fraction(int(i)) * Fraction(float(s)) / Fraction(float(b)) - 1)
        for i, s, b in zip(integers, scale, bias, strict=True)
    )
    assert error <= Fraction(1, quantizer.highest) + Fraction(1, 2**22)


@pytest.mark.parametrize("buffer", [32, 64])
@pytest.mark.parametrize("steps", [1, 2**24 - 1, 2**24 + 2, 2**30 + 2**8, 2**31 - 2**8])
def test_integers_near_the_end_of_float32_and_of_the_buffer_are_exact(buffer, steps):
    """A scale that is a power of two makes the quotient exact: every integer that float32 holds comes back."""
    scale = np.float32(2.0**-20)
    bias = np.array([steps * 2.0**-20], "float32")
    assert int(bias[0] * 2.0**20) == steps
    assert AlignedWeightQuantizer(buffer_bitwidth=buffer).int64(bias, scale).tolist() == [steps]


@settings(deadline=None, max_examples=100)
@given(st.floats(-(2.0**14), 2.0**14, width=32), st.floats(2.0**-30, 2.0**-6, width=32))
def test_the_integer_is_the_rounded_float32_quotient(bias, scale):
    quotient = np.float32(bias) / np.float32(scale)
    assume(abs(quotient) < 2**62)
    integer = int(AlignedWeightQuantizer(buffer_bitwidth=64).int64(np.array([bias], "float32"), np.float32(scale))[0])
    assert integer == round(Fraction(float(quotient)))
    exact = Fraction(float(np.float32(bias))) / Fraction(float(np.float32(scale)))
    assert abs(integer - exact) <= Fraction(1, 2) + abs(exact) / 2**24


def test_an_8_bit_bias_beyond_a_narrow_buffer_is_an_error_that_says_what_it_needs():
    quantizer = AlignedWeightQuantizer(bitwidth=8, buffer_bitwidth=16)
    bias, scale = np.array([0.5, -2.25, 0.1], "float32"), np.float32(2.0**-14)
    with pytest.raises(
        QuantizationError, match=r"^conv1: the bias -2\.25 of channel 1 .* buffer_bitwidth=17, received 16"
    ):
        quantizer.require_fit(bias, scale, "conv1")
    AlignedWeightQuantizer(bitwidth=8, buffer_bitwidth=17).require_fit(bias, scale, "conv1")
    quantizer.require_fit(bias * np.float32(0.88), scale, "conv1")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_bias_that_is_not_finite_is_an_error(value):
    with pytest.raises(QuantizationError, match=r"conv1: the bias of channel 2 is (nan|inf)"):
        AlignedWeightQuantizer().require_fit(np.array([1, 2, value], "float32"), SCALE, "conv1")


def test_zero_bias_stays_zero():
    for bits in (None, 8):
        quantizer = AlignedWeightQuantizer(bitwidth=bits)
        assert np.array(quantizer.integer(np.zeros(3, "float32"), SCALE)).tolist() == [0, 0, 0]


def test_mantissa_is_never_wider_than_the_buffer():
    assert AlignedWeightQuantizer(bitwidth=24, buffer_bitwidth=16).mantissa_bitwidth == 16
    assert AlignedWeightQuantizer(buffer_bitwidth=32).mantissa_bitwidth == 32
