"""The rounding rules, in one place."""

from __future__ import annotations

import numpy as np

from qpipe.numerics.array_module import array_module


def round_half_even(x):
    """Rounds to the nearest integer, ties to even: the rule everywhere but in average pooling.

    Args:
        x: floating-point NumPy array or number, or a Keras tensor; any shape.

    Returns:
        Whole numbers of the type and shape of `x`.
    """
    return array_module(x).round(x)


def shift_right_half_even(integers: np.ndarray, bits: int | np.ndarray) -> np.ndarray:
    """Divides integers by 2^bits and rounds to the nearest integer, ties to even; exact, in int64.

    Args:
        integers: int64, any shape.
        bits: non-negative, of any size; broadcasts against `integers`.

    Returns:
        int64 array of the shape to which both broadcast.
    """
    bits = np.asarray(bits, np.int64)
    shift = np.minimum(bits, 63)
    floor = np.right_shift(integers, shift)
    remainder = integers - np.left_shift(floor, shift)
    half = np.left_shift(np.int64(1), np.maximum(shift - 1, 0))
    up = (remainder > half) | ((remainder == half) & (shift > 0) & (floor & 1 == 1))
    return np.where(bits > 63, 0, floor + up)


def divide_half_away(total, count):
    """Divides whole numbers and rounds to the nearest, ties away from zero, without leaving the integers.

    Args:
        total: integer NumPy array or Keras tensor; 2 |total| + count must fit its type.
        count: positive integers that broadcast against `total`.

    Returns:
        Integers of the shape to which both broadcast.
    """
    module = array_module(total, count)
    return module.sign(total) * module.floor_divide(2 * module.abs(total) + count, 2 * count)
