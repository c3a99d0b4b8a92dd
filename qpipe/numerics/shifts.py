"""Shifts to the left that notice when int64 overflows."""

from __future__ import annotations

import numpy as np

from qpipe.numerics.quantized import INT64


def shift_left(integers: np.ndarray, bits: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Multiplies integers by 2^bits.

    Args:
        integers: int64, any shape.
        bits: non-negative, of any size; broadcasts against `integers`.

    Returns:
        The products, int64, and where they are beyond int64 (there: its nearer end).
    """
    bits = np.asarray(bits, np.int64)
    shift = np.minimum(bits, 63)
    too_large = (integers > INT64.highest >> shift) | (integers < INT64.lowest >> shift)
    overflowed = too_large | ((bits > 63) & (integers != 0))
    ends = np.where(integers > 0, INT64.highest, INT64.lowest)
    return np.where(overflowed, ends, np.left_shift(integers, np.where(overflowed, 0, shift))), overflowed
