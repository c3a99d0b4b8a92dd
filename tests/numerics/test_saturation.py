import numpy as np
import pytest
from exact_values import WIDTHS, formats, tensors
from hypothesis import given
from hypothesis import strategies as st

from qpipe.errors import QuantizationError
from qpipe.numerics import QuantizedFormat, QuantizedTensor, integer_range, saturate, saturate_integers

int64 = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(int64 | st.integers(-200, 200), min_size=1, max_size=20), WIDTHS | st.integers(17, 64))
def test_integers_are_cut_off_at_both_ends_and_counted(integers, bits):
    lowest, highest = integer_range(bits)
    clipped, count = saturate_integers(np.array(integers, np.int64), lowest, highest)
    assert clipped.dtype == np.int64
    assert clipped.tolist() == [min(max(integer, lowest), highest) for integer in integers]
    assert count == sum(not lowest <= integer <= highest for integer in integers)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(exponents=st.lists(st.integers(0, 100), min_size=1, max_size=10), bits=st.integers(2, 64), sign=st.booleans())
def test_whole_floats_of_any_size_are_cut_off_exactly(dtype, exponents, bits, sign):
    whole = [(-1 if sign else 1) * 2**exponent for exponent in exponents]
    lowest, highest = integer_range(bits)
    clipped, count = saturate_integers(np.array([float(number) for number in whole], dtype), lowest, highest)
    assert clipped.tolist() == [min(max(number, lowest), highest) for number in whole]
    assert count == sum(not lowest <= number <= highest for number in whole)


def test_infinity_saturates_also_where_the_range_is_all_of_int64():
    clipped, count = saturate_integers(np.array([np.inf, -np.inf, 2.0**63, 1.0]), *integer_range(64))
    assert clipped.tolist() == [2**63 - 1, -(2**63), 2**63 - 1, 1]
    assert count == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([0.0, np.nan, np.nan]), "2 of 3 numbers to saturate are NaN"),
        (np.zeros(2, "uint64"), "type uint64 can't be saturated; allowed: int64, or floats"),
    ],
)
def test_what_is_no_integer_is_an_error(values, message):
    with pytest.raises(QuantizationError, match=message):
        saturate_integers(values, -128, 127)


@given(tensors(formats()), WIDTHS)
def test_saturating_a_tensor_changes_only_its_width(tensor, bits):
    narrower = integer_range(bits, signed=tensor.format.signed, narrow=tensor.format.narrow)
    if not narrower.lowest <= tensor.format.zero_point <= narrower.highest:
        with pytest.raises(QuantizationError, match=r"zero point .* lies outside"):
            saturate(tensor, bits)
        return
    result, saturations = saturate(tensor, bits)
    assert result.format.integers == narrower
    assert result.format.zero_point == tensor.format.zero_point
    np.testing.assert_array_equal(result.format.scale, tensor.format.scale)
    np.testing.assert_array_equal(result.integers, np.clip(tensor.integers, *narrower))
    assert saturations == int(((tensor.integers < narrower.lowest) | (tensor.integers > narrower.highest)).sum())


def test_a_sixteen_bit_buffer_saturates_and_says_so():
    accumulator = QuantizedTensor(np.array([40000, -40000, 32767, -32768]), QuantizedFormat(32, True, 2.0**-14))
    buffer, saturations = saturate(accumulator, 16)
    assert buffer.integers.tolist() == [32767, -32768, 32767, -32768]
    assert saturations == 2
