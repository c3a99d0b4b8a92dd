from fractions import Fraction

import numpy as np
import pytest
from exact_values import (
    CHANNELS,
    WIDTHS,
    exact_integers,
    exact_values,
    float_scales,
    formats,
    power_of_two_scales,
    tensors,
)
from hypothesis import given
from hypothesis import strategies as st

from qpipe.errors import QuantizationError
from qpipe.numerics import QuantizedFormat, QuantizedTensor, quantize, requantize

fixed_point = power_of_two_scales()
half_integers = st.integers(-(2**18), 2**18).map(lambda whole: Fraction(whole, 2))
reals = st.floats(-(2.0**20), 2.0**20, width=32)


def row_of(elements):
    return st.lists(elements, min_size=CHANNELS, max_size=CHANNELS)


@given(formats(fixed_point), row_of(half_integers))
def test_quantize_to_fixed_point_is_exact_with_ties_to_even(format, halves):
    scales = [Fraction(float(scale)) for scale in np.broadcast_to(format.scale, CHANNELS)]
    values = [half * scale for half, scale in zip(halves, scales, strict=True)]
    result, saturations = quantize(np.array([[float(value) for value in values]], "float32"), format)
    assert (result.integers.tolist(), saturations) == exact_integers([values], format)


@given(formats(fixed_point), row_of(reals))
def test_quantize_reals_to_fixed_point_is_exact(format, values):
    result, saturations = quantize(np.array([values], "float32"), format)
    assert (result.integers.tolist(), saturations) == exact_integers([[Fraction(value) for value in values]], format)


@given(formats(float_scales()), row_of(reals))
def test_quantize_rounds_the_float32_quotient(format, values):
    x = np.array([values], "float32")
    quotients = (x.astype("float64") / format.scale.astype("float64")).astype("float32")
    in_units = [[Fraction(float(quotient)) for quotient in quotients[0]]]
    units = QuantizedFormat(format.bitwidth, format.signed, 1.0, format.zero_point, format.narrow)
    result, saturations = quantize(x, format)
    assert (result.integers.tolist(), saturations) == exact_integers(in_units, units)


@given(tensors(formats()))
def test_values_on_the_grid_are_kept(tensor):
    result, saturations = quantize(tensor.real, tensor.format)
    np.testing.assert_array_equal(result.integers, tensor.integers)
    assert saturations == 0


def test_zero_is_the_zero_point():
    format = QuantizedFormat(8, False, 0.1, 77)
    assert quantize(np.zeros(3), format).tensor.integers.tolist() == [77, 77, 77]


@given(WIDTHS, st.booleans(), st.booleans())
def test_the_ends_of_the_range_do_not_saturate_and_one_step_more_does(bits, signed, upper):
    format = QuantizedFormat(bits, signed, 0.25)
    end = format.integers.highest if upper else format.integers.lowest
    beyond = end + (1 if upper else -1)
    assert quantize(np.array([end * 0.25]), format).saturations == 0
    result, saturations = quantize(np.array([beyond * 0.25]), format)
    assert (result.integers.tolist(), saturations) == ([end], 1)


def test_huge_values_saturate_in_wide_and_narrow_formats():
    for bits in (2, 8, 16, 32, 64):
        format = QuantizedFormat(bits, True, 2.0**-120)
        result, saturations = quantize(np.array([3e38, -3e38]), format)
        assert result.integers.tolist() == list(format.integers)[::-1]
        assert saturations == 2


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[0.0, 1.0], [np.nan, np.inf]], r"2 of 4 values .* the first \(nan\) at index \(1, 0\); allowed: finite"),
        ([1.0, -np.inf], r"1 of 2 values .* the first \(-inf\) at index \(1\)"),
        (np.nan, r"1 of 1 values .* the first \(nan\) at index \(\)"),
    ],
)
def test_nan_and_infinity_are_errors(x, message):
    with pytest.raises(QuantizationError, match=message):
        quantize(x, QuantizedFormat(8, True, 1.0))


@given(tensors(formats(fixed_point, widths=st.integers(2, 40))), formats(fixed_point, widths=st.integers(2, 40)))
def test_requantize_between_powers_of_two_is_exact(tensor, format):
    result, saturations = requantize(tensor, format)
    assert result.format is format
    assert (result.integers.tolist(), saturations) == exact_integers(exact_values(tensor), format)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-120, 120), st.integers(-120, 120), st.integers(2, 64))
def test_requantize_shifts_by_any_number_of_bits_without_wrapping(integer, f_in, f_out, bits):
    tensor = QuantizedTensor(np.full((1, CHANNELS), integer), QuantizedFormat(64, True, 2.0**-f_in))
    format = QuantizedFormat(bits, True, 2.0**-f_out)
    result, saturations = requantize(tensor, format)
    assert (result.integers.tolist(), saturations) == exact_integers(exact_values(tensor), format)


def test_a_shift_past_all_of_int64_saturates_every_integer_but_zero():
    tensor = QuantizedTensor(np.array([-1, 0, 1]), QuantizedFormat(8, True, 2.0**32))
    result, saturations = requantize(tensor, QuantizedFormat(64, True, 2.0**-32))
    assert result.integers.tolist() == [-(2**63), 0, 2**63 - 1]
    assert saturations == 2


@given(tensors(formats(float_scales())), formats(float_scales()))
def test_requantize_between_float_scales_rounds_the_float32_product_once(tensor, format):
    ratio = (tensor.format.scale.astype("float64") / format.scale.astype("float64")).astype("float32")
    product = (tensor.centred.astype("float64") * ratio.astype("float64")).astype("float32")
    in_units = [[Fraction(float(value)) for value in row] for row in product]
    units = QuantizedFormat(format.bitwidth, format.signed, 1.0, format.zero_point, format.narrow)
    result, saturations = requantize(tensor, format)
    assert (result.integers.tolist(), saturations) == exact_integers(in_units, units)


@given(tensors(formats(fixed_point)), formats(fixed_point))
def test_float_arithmetic_and_shifts_agree_below_two_to_the_24(tensor, format):
    product = tensor.centred.astype("float32") * (tensor.format.scale / format.scale)
    expected = np.clip(np.rint(product), *format.centred_integers) + format.zero_point
    np.testing.assert_array_equal(requantize(tensor, format).tensor.integers, expected)


@given(tensors(formats()))
def test_requantize_to_the_same_format_changes_nothing(tensor):
    result, saturations = requantize(tensor, tensor.format)
    np.testing.assert_array_equal(result.integers, tensor.integers)
    assert saturations == 0


def test_unsigned_becomes_signed_by_another_zero_point():
    unsigned = QuantizedTensor(np.array([0, 77, 255]), QuantizedFormat(8, False, 0.1, 77))
    result, saturations = requantize(unsigned, QuantizedFormat(8, True, 0.1, 77 - 128))
    assert result.integers.tolist() == [-128, -51, 127]
    assert saturations == 0


def test_scales_too_far_apart_are_an_error_that_names_both():
    tensor = QuantizedTensor(np.array([1]), QuantizedFormat(8, True, 1.5e30))
    with pytest.raises(QuantizationError, match=r"scale 1\.49999995e\+30 can't .* to the scale 9\.99999968e-21"):
        requantize(tensor, QuantizedFormat(8, True, 1e-20))
