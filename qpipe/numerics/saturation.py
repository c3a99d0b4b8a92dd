"""Saturation, counted."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from qpipe.errors import QuantizationError
from qpipe.numerics.quantized import INT64, QuantizedTensor


class Saturated(NamedTuple):
    """A tensor, and how many of its values were cut off at an end of the range.

    Attributes:
        tensor: the result.
        saturations: number of values that lay outside.
    """

    tensor: QuantizedTensor
    saturations: int


def saturate(tensor: QuantizedTensor, bitwidth: int) -> Saturated:
    """Cuts integers off at the ends of `bitwidth` bits; scale, zero point and signedness stay.

    Args:
        tensor: any quantized tensor.
        bitwidth: of the result.

    Raises:
        QuantizationError: if the zero point lies outside of `bitwidth` bits.
    """
    narrower = replace(tensor.format, bitwidth=bitwidth)
    integers, count = saturate_integers(tensor.integers, *narrower.integers)
    return Saturated(QuantizedTensor(integers, narrower), count)


def saturate_integers(integers: np.ndarray, lowest: int, highest: int) -> tuple[np.ndarray, int]:
    """Cuts integers off at both ends of a range.

    Args:
        integers: array of any integer type that int64 holds, or whole floating-point numbers (also infinite).
        lowest: smallest integer allowed.
        highest: largest integer allowed.

    Returns:
        The integers inside the range, int64, and how many were outside.

    Raises:
        QuantizationError: if a number is NaN, or of another type.
    """
    integers = np.asarray(integers)
    if np.issubdtype(integers.dtype, np.floating):
        return clip_and_count(*_whole_numbers(integers), lowest, highest)
    if not np.can_cast(integers.dtype, np.int64):
        raise QuantizationError(f"numbers of type {integers.dtype} can't be saturated; allowed: int64, or floats")
    return clip_and_count(integers.astype(np.int64, copy=False), np.False_, lowest, highest)


def clip_and_count(
    integers: np.ndarray, overflowed: np.ndarray | np.bool_, lowest: int, highest: int
) -> tuple[np.ndarray, int]:
    """Cuts integers off, some of which stand at an end of int64 because their true value is beyond (`overflowed`)."""
    clipped = np.clip(integers, max(lowest, INT64.lowest), min(highest, INT64.highest))
    return clipped, int(np.count_nonzero((clipped != integers) | overflowed))


def _whole_numbers(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns whole floating-point numbers as int64, and where they are beyond int64 (there: its nearer end)."""
    if np.isnan(values).any():
        raise QuantizationError(f"{np.count_nonzero(np.isnan(values))} of {values.size} numbers to saturate are NaN")
    limit = -float(INT64.lowest)
    overflowed = (values >= limit) | (values < -limit)
    if not overflowed.any():
        return values.astype(np.int64), overflowed
    integers = np.where(overflowed, 0, values).astype(np.int64)
    return np.where(overflowed, np.where(values > 0, INT64.highest, INT64.lowest), integers), overflowed
