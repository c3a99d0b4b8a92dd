import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpipe.numerics import integer_range


@given(st.integers(2, 16))
def test_signed_range_is_twos_complement(bits):
    lowest, highest = integer_range(bits)
    assert lowest == -(2 ** (bits - 1))
    assert highest == 2 ** (bits - 1) - 1
    assert highest - lowest + 1 == 2**bits


@given(st.integers(2, 16))
def test_narrow_range_leaves_out_only_the_lowest(bits):
    lowest, highest = integer_range(bits, narrow=True)
    assert -lowest == highest == integer_range(bits).highest


@given(st.integers(1, 16))
def test_unsigned_range_starts_at_zero(bits):
    assert integer_range(bits, signed=False) == (0, 2**bits - 1)


@pytest.mark.parametrize(
    ("bits", "signed", "expected"), [(8, True, (-128, 127)), (8, False, (0, 255)), (2, True, (-2, 1))]
)
def test_known_ranges(bits, signed, expected):
    assert integer_range(bits, signed=signed) == expected
