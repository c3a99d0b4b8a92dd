import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpipe.errors import QuantizationError
from qpipe.numerics import bits_for, integer_range, storage_offset


@given(st.integers(2, 64))
def test_signed_range_is_twos_complement(bits):
    lowest, highest = integer_range(bits)
    assert lowest == -(2 ** (bits - 1))
    assert highest == 2 ** (bits - 1) - 1
    assert highest - lowest + 1 == 2**bits


@given(st.integers(2, 64))
def test_narrow_range_leaves_out_only_the_lowest(bits):
    lowest, highest = integer_range(bits, narrow=True)
    assert -lowest == highest == integer_range(bits).highest


@given(st.integers(1, 63))
def test_unsigned_range_starts_at_zero(bits):
    assert integer_range(bits, signed=False) == (0, 2**bits - 1)


@pytest.mark.parametrize(
    ("bits", "signed", "expected"), [(8, True, (-128, 127)), (8, False, (0, 255)), (2, True, (-2, 1))]
)
def test_known_ranges(bits, signed, expected):
    assert integer_range(bits, signed=signed) == expected


@pytest.mark.parametrize(("bits", "signed", "smallest"), [(1, True, 2), (0, False, 1), (-3, True, 2)])
def test_too_few_bits_are_an_error(bits, signed, smallest):
    with pytest.raises(QuantizationError, match=rf"can't have {bits} bits; allowed: {smallest} or more"):
        integer_range(bits, signed=signed)


@given(st.integers(-(2**20), 0), st.integers(0, 2**20))
def test_bits_for_are_enough_and_not_one_too_many(lowest, highest):
    bits, signed = bits_for(lowest, highest)
    range_ = integer_range(bits, signed=signed)
    assert signed == (lowest < 0)
    assert range_.lowest <= lowest
    assert highest <= range_.highest
    if bits > (2 if signed else 1):
        narrower = integer_range(bits - 1, signed=signed)
        assert lowest < narrower.lowest or highest > narrower.highest


@pytest.mark.parametrize(
    ("bits", "signed", "offset"), [(8, False, 128), (16, False, 32768), (8, True, 0), (16, True, 0), (7, False, 0)]
)
def test_only_unsigned_integers_that_fill_their_type_are_stored_with_an_offset(bits, signed, offset):
    lowest, highest = integer_range(bits, signed=signed)
    stored = integer_range(8 if bits <= 8 else 16)
    assert storage_offset(bits, signed=signed) == offset
    assert stored.lowest <= lowest - offset
    assert highest - offset <= stored.highest
