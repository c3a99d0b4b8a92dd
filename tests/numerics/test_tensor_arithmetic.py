from dataclasses import replace

import numpy as np
import pytest
from exact_values import exact_scales, exact_values, formats, power_of_two_scales, tensors
from hypothesis import given
from hypothesis import strategies as st

from qpipe.errors import QuantizationError
from qpipe.numerics import QuantizedFormat, QuantizedTensor, add, align, multiply, saturate

fixed_point_tensors = tensors(formats(power_of_two_scales(-10, 20)))


def one_row(tensor):
    return tensor.with_integers(tensor.integers[:1])


def combined(function, a, b):
    """The exact result for every row of `a` with the one row of `b`."""
    return [[function(x, y) for x, y in zip(row, exact_values(b)[0], strict=True)] for row in exact_values(a)]


@given(fixed_point_tensors, fixed_point_tensors)
def test_align_is_exact_and_takes_the_finer_scale(a, b):
    left, right = align(a, b)
    assert exact_values(left) == exact_values(a)
    assert exact_values(right) == exact_values(b)
    finer = [min(pair) for pair in zip(exact_scales(a.format), exact_scales(b.format), strict=True)]
    assert exact_scales(left.format) == exact_scales(right.format) == finer


@given(tensors(formats(power_of_two_scales(), zero_points=False, per_channel=False)), st.integers(0, 20))
def test_align_widens_only_what_it_shifts_and_no_more_than_needed(tensor, finer):
    other = QuantizedTensor(np.array([1]), QuantizedFormat(8, True, tensor.format.scale * np.float32(2.0**-finer)))
    left, right = align(tensor, other)
    assert left.format.bitwidth == tensor.format.bitwidth + finer
    assert right.format.bitwidth == 8


def test_float_scales_that_differ_cannot_be_aligned():
    a = QuantizedTensor(np.array([1]), QuantizedFormat(8, True, 0.3))
    b = QuantizedTensor(np.array([1]), QuantizedFormat(8, True, 0.5))
    with pytest.raises(QuantizationError, match=r"scales 0\.300000012 and 0\.5 can't be aligned; allowed: equal"):
        align(a, b)
    left, right = align(a, a)
    assert left.real.tolist() == right.real.tolist() == a.real.tolist()


def test_aligning_beyond_int64_is_an_error():
    a = QuantizedTensor(np.array([1]), QuantizedFormat(8, True, 2.0**40))
    b = QuantizedTensor(np.array([1]), QuantizedFormat(8, True, 2.0**-40))
    with pytest.raises(QuantizationError, match="aligned tensor needs 88 bits signed; allowed: 64"):
        align(a, b)


@given(tensors(formats()), tensors(formats()))
def test_add_is_exact(a, b):
    b = one_row(replace(b, format=replace(b.format, scale=a.format.scale)))
    assert exact_values(add(a, b)) == combined(lambda x, y: x + y, a, b)


@given(fixed_point_tensors, fixed_point_tensors)
def test_aligned_tensors_add_exactly(a, b):
    b = one_row(b)
    assert exact_values(add(*align(a, b))) == combined(lambda x, y: x + y, a, b)


@pytest.mark.parametrize(
    ("first", "second", "bits", "signed"),
    [((8, True), (8, True), 9, True), ((8, False), (6, False), 9, False), ((8, False), (8, True), 10, True)],
)
def test_the_width_of_a_sum(first, second, bits, signed):
    a, b = (
        QuantizedTensor(np.array(form.integers), form) for form in (QuantizedFormat(*x, 1.0) for x in (first, second))
    )
    result = add(a, b)
    assert (result.format.bitwidth, result.format.signed) == (bits, signed)


@pytest.mark.parametrize(
    ("scale_a", "scale_b", "message"),
    [
        (0.5, 0.25, r"scales 0\.5 and 0\.25 can't be added; allowed: equal scales"),
        (np.nextafter(np.float32(0.1), np.float32(1)), 0.1, r"scales 0\.100000009 and 0\.100000001 can't"),
        ([0.5, 0.5, 0.25], 0.5, r"scales 0\.25 \.\.\. 0\.5 of 3 channels and 0\.5 can't be added"),
    ],
)
def test_unequal_scales_cannot_be_added(scale_a, scale_b, message):
    a, b = (QuantizedTensor(np.ones((1, 3), int), QuantizedFormat(8, True, scale)) for scale in (scale_a, scale_b))
    with pytest.raises(QuantizationError, match=message):
        add(a, b)


def test_a_sum_that_int64_cannot_hold_is_an_error_and_never_wraps():
    widest = QuantizedTensor(np.array([2**63 - 1]), QuantizedFormat(64, True, 1.0))
    with pytest.raises(QuantizationError, match="the sum needs 65 bits signed; allowed: 64"):
        add(widest, widest)
    narrower, saturations = saturate(widest, 63)
    assert saturations == 1
    assert add(narrower, narrower).integers.tolist() == [2**63 - 2]


@given(fixed_point_tensors, fixed_point_tensors)
def test_multiply_is_exact_for_powers_of_two(a, b):
    b = one_row(b)
    result = multiply(a, b)
    assert exact_values(result) == combined(lambda x, y: x * y, a, b)
    np.testing.assert_array_equal(
        result.format.fractional_bits, np.add(a.format.fractional_bits, b.format.fractional_bits)
    )


@given(tensors(formats()), tensors(formats()))
def test_multiply_multiplies_integers_exactly_and_scales_in_float32(a, b):
    b = one_row(b)
    result = multiply(a, b)
    expected = [[x * y for x, y in zip(row, b.centred[0].tolist(), strict=True)] for row in a.centred.tolist()]
    assert result.integers.tolist() == expected
    scale = a.format.scale.astype("float64") * b.format.scale.astype("float64")
    np.testing.assert_array_equal(result.format.scale, scale.astype("float32"))


@given(tensors(formats(zero_points=False)), tensors(formats(zero_points=False)))
def test_the_widths_of_a_product_add(a, b):
    assert multiply(a, one_row(b)).format.bitwidth == a.format.bitwidth + b.format.bitwidth


@pytest.mark.parametrize("signed", [True, False])
def test_a_product_of_extremes_fits(signed):
    format = QuantizedFormat(32 if signed else 31, signed, 1.0)
    ends = QuantizedTensor(np.array(format.integers), format)
    expected = [end * end for end in format.integers]
    assert multiply(ends, ends).integers.tolist() == expected


@pytest.mark.parametrize(("signed", "message"), [(True, "66 bits signed; allowed: 64"), (False, "66 bits unsigned")])
def test_a_product_that_int64_cannot_hold_is_an_error(signed, message):
    x = QuantizedTensor(np.array([2**31]), QuantizedFormat(33, signed, 1.0))
    with pytest.raises(QuantizationError, match=f"the product needs {message}"):
        multiply(x, x)


def test_a_scale_that_float32_cannot_hold_is_an_error():
    x = QuantizedTensor(np.array([1]), QuantizedFormat(8, True, 2.0**-80))
    with pytest.raises(QuantizationError, match="scale 0 is not allowed"):
        multiply(x, x)


def test_other_numbers_of_channels_are_an_error():
    a, b = (
        QuantizedTensor(np.ones(channels, int), QuantizedFormat(8, True, np.full(channels, 0.5))) for channels in (2, 3)
    )
    with pytest.raises(QuantizationError, match="of 2 and 3 channels can't be multiplied"):
        multiply(a, b)
    with pytest.raises(QuantizationError, match="can't be added"):
        add(a, b)
    with pytest.raises(QuantizationError, match="can't be aligned"):
        align(a, b)
