"""Ranges of integers of a given width."""

from __future__ import annotations

from typing import NamedTuple

from qpipe.errors import QuantizationError


class IntegerRange(NamedTuple):
    """Lowest and highest integer of a quantized tensor, both included."""

    lowest: int
    highest: int


def integer_range(bitwidth: int, *, signed: bool = True, narrow: bool = False) -> IntegerRange:
    """Returns the integers that `bitwidth` bits hold.

    Args:
        bitwidth: number of bits, at least 1 unsigned and 2 signed.
        signed: two's complement if true, else 0 ... 2^b - 1.
        narrow: leaves out the lowest signed integer, so that the range is symmetric (weights).

    Returns:
        Signed: -2^(b-1) (narrow: -(2^(b-1) - 1)) ... 2^(b-1) - 1.

    Raises:
        QuantizationError: if there are too few bits.
    """
    smallest = 2 if signed else 1
    if bitwidth < smallest:
        kind = "signed" if signed else "unsigned"
        raise QuantizationError(f"a range of {kind} integers can't have {bitwidth} bits; allowed: {smallest} or more")
    if not signed:
        return IntegerRange(0, 2**bitwidth - 1)
    highest = 2 ** (bitwidth - 1) - 1
    return IntegerRange(-highest if narrow else -highest - 1, highest)


def bits_for(lowest: int, highest: int) -> tuple[int, bool]:
    """Returns the smallest `(bitwidth, signed)` whose integers include lowest ... highest; unsigned if it can be."""
    if lowest >= 0:
        return max(highest.bit_length(), 1), False
    return 1 + max(highest.bit_length(), (-lowest - 1).bit_length(), 1), True


def storage_offset(bitwidth: int, *, signed: bool) -> int:
    """Returns what targets subtract to store an integer in a signed type of 8 or 16 bits.

    Unsigned integers that fill the type are stored less half their range; others fit as they are.
    """
    return 2 ** (bitwidth - 1) if not signed and bitwidth in (8, 16) else 0
