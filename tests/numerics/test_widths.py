import numpy as np
import pytest
from exact_values import exact_scales, exact_values, formats, tensors
from hypothesis import given
from hypothesis import strategies as st

from qpipe.errors import QuantizationError
from qpipe.numerics import QuantizedFormat, QuantizedTensor, drop_bits, integer_range, promote, remove_zero_point


@given(tensors(formats()), st.integers(1, 40))
def test_promote_keeps_integers_scale_and_zero_point(tensor, more):
    wider = promote(tensor, tensor.format.bitwidth + more, signed=True)
    np.testing.assert_array_equal(wider.integers, tensor.integers)
    assert exact_values(wider) == exact_values(tensor)
    assert wider.format.signed
    assert wider.format.bitwidth == tensor.format.bitwidth + more
    assert promote(tensor, tensor.format.bitwidth).format.integers == tensor.format.integers


@pytest.mark.parametrize(
    ("signed", "bits", "to_signed", "message"),
    [
        (True, 7, None, "8 bits signed can't be promoted to 7 bits signed; allowed: 8 bits signed or more"),
        (False, 8, True, "8 bits unsigned can't be promoted to 8 bits signed; allowed: 9 bits signed or more"),
        (True, 16, False, "8 bits signed can't be promoted to 16 bits unsigned; allowed: 8 bits signed or more"),
    ],
)
def test_narrowing_is_an_error(signed, bits, to_signed, message):
    tensor = QuantizedTensor(np.array([1]), QuantizedFormat(8, signed, 1.0))
    with pytest.raises(QuantizationError, match=message):
        promote(tensor, bits, signed=to_signed)


def test_promoting_beyond_int64_is_an_error():
    with pytest.raises(QuantizationError, match="don't fit int64"):
        promote(QuantizedTensor(np.array([1]), QuantizedFormat(8, True, 1.0)), 65)


@given(tensors(formats()))
def test_removing_the_zero_point_keeps_the_values_in_the_fewest_bits(tensor):
    result = remove_zero_point(tensor)
    assert result.format.zero_point == 0
    assert exact_values(result) == exact_values(tensor)
    if tensor.format.zero_point != 0:
        needed = tensor.format.centred_integers
        assert result.format.signed == (needed.lowest < 0)
        one_less = result.format.bitwidth - 1
        if one_less >= (2 if result.format.signed else 1):
            narrower = integer_range(one_less, signed=result.format.signed)
            assert needed.lowest < narrower.lowest or needed.highest > narrower.highest


@given(tensors(formats()), st.integers(0, 20))
def test_drop_bits_divides_by_a_power_of_two_with_one_rounding_to_even(tensor, bits):
    result = drop_bits(tensor, bits)
    coarser = [scale * 2**bits for scale in exact_scales(tensor.format)]
    assert exact_scales(result.format) == coarser
    assert (result.integers - result.format.zero_point).tolist() == [
        [round(value / scale) for value, scale in zip(row, coarser, strict=True)] for row in exact_values(tensor)
    ]


def test_dropping_bits_makes_room_but_for_the_carry():
    tensor = QuantizedTensor(np.array([127, -128, 5, 7, -5]), QuantizedFormat(8, True, 2.0**-7))
    result = drop_bits(tensor, 1)
    assert result.integers.tolist() == [64, -64, 2, 4, -2]
    assert result.format.bitwidth == 8
    assert result.format.fractional_bits == 6
    assert drop_bits(tensor, 5).format.bitwidth == 4


def test_a_negative_number_of_bits_is_an_error():
    with pytest.raises(QuantizationError, match="-1 bits can't be dropped; allowed: 0 or more"):
        drop_bits(QuantizedTensor(np.array([1]), QuantizedFormat(8, True, 1.0)), -1)


def test_a_scale_beyond_float32_is_an_error():
    with pytest.raises(QuantizationError, match="scale inf is not allowed"):
        drop_bits(QuantizedTensor(np.array([1]), QuantizedFormat(8, True, 2.0**120)), 8)
