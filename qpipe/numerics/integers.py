"""Ranges of integers of a given width."""

from __future__ import annotations

from typing import NamedTuple


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
    """
    if not signed:
        return IntegerRange(0, 2**bitwidth - 1)
    highest = 2 ** (bitwidth - 1) - 1
    return IntegerRange(-highest if narrow else -highest - 1, highest)
