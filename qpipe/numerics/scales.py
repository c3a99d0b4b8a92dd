"""Scales and zero points from ranges: value = scale * (integer - zero point)."""

from __future__ import annotations

import numpy as np

from qpipe.errors import QuantizationError
from qpipe.numerics.array_module import array_module, cast, reinterpret
from qpipe.numerics.integers import IntegerRange
from qpipe.numerics.rounding import round_half_even

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""2^-126, the smallest normal float32: TensorFlow takes what is smaller for 0."""

LARGEST = float(np.finfo(np.float32).max)
MANTISSA_BITS = 23
EXPONENT_MASK = 0x7F800000


def scale_for_maximum(maximum, highest: int, *, power_of_two: bool = False):
    """Returns the scale that maps `maximum` to at most the integer `highest`.

    NumPy arrays, eager tensors and compiled graphs give the same float32 scale to the last bit.

    Args:
        maximum: non-negative float32 NumPy array or number, or Keras tensor; any shape.
        highest: largest integer of the range, below 2^28.
        power_of_two: false gives maximum / highest, correctly rounded; true gives 2^-f with the largest f for
            which maximum * 2^f <= highest, so that an exact power of two does not saturate.

    Returns:
        Positive float32 array or tensor of the shape of `maximum`, at least 2^-126; 1 where `maximum` is below
        2^-126 and so counts as 0. In tensors, a maximum that is NaN or infinite, or for which only 2^128 would do,
        gives a scale that is not finite either.

    Raises:
        QuantizationError: if an element of a NumPy `maximum` is negative or gives no finite scale.
    """
    module = array_module(maximum)
    maximum = cast(maximum, "float32")
    find_scale = _smallest_power_of_two if power_of_two else _quotient
    scale = module.where(maximum < SMALLEST_SCALE, np.float32(1.0), find_scale(maximum, highest))
    if module is np:
        _require_scales(maximum, scale)
    return scale


def affine_parameters(low, high, integers: IntegerRange, *, power_of_two: bool = False):
    """Returns the scale and the integer zero point with which `integers` cover [low, high] and exactly 0.

    Args:
        low: lower end of the range, float32 NumPy array or number, or Keras tensor; values above 0 count as 0.
        high: upper end of the range, likewise; values below 0 count as 0.
        integers: the integers to use.
        power_of_two: whether the scale is a power of two.

    Returns:
        `(scale, zero_point)`, float32 arrays or tensors of the shape of `low`; the zero point holds an integer
        inside the range.

    Raises:
        QuantizationError: if the range is given in NumPy and its width is not finite.
    """
    module = array_module(low, high)
    low = module.minimum(cast(low, "float32"), np.float32(0.0))
    high = module.maximum(cast(high, "float32"), np.float32(0.0))
    scale = scale_for_maximum(high - low, integers.highest - integers.lowest, power_of_two=power_of_two)
    zero_point = round_half_even(integers.lowest - low / scale)
    return scale, module.clip(zero_point, integers.lowest, integers.highest)


def _quotient(maximum, highest: int):
    """Returns float32(maximum / highest), at least 2^-126.

    Compilers replace the division by a constant by a product with its reciprocal. In float64 that is harmless:
    the quotient of 24 by 28 bits is never as near to a tie of float32 as the product is wrong.
    """
    quotient = cast(cast(maximum, "float64") / float(highest), "float32")
    return array_module(maximum).maximum(quotient, np.float32(SMALLEST_SCALE))


def _smallest_power_of_two(maximum, highest: int):
    """Returns the smallest 2^k >= 2^-126 with 2^k * highest >= maximum, from the bits of the float32 numbers.

    With maximum = 1.m * 2^e and highest = 1.h * 2^g, k is e - g, and one more if 1.m > 1.h: adding 1 - 2^-23 - 0.h to
    the bits of the mantissa carries into the exponent just then. No logarithm, no rounding.
    """
    module = array_module(maximum)
    exponent_of_highest = highest.bit_length() - 1
    mantissa_of_highest = (highest << MANTISSA_BITS >> exponent_of_highest) - (1 << MANTISSA_BITS)
    carrying = reinterpret(maximum, "int32") + ((1 << MANTISSA_BITS) - 1 - mantissa_of_highest)
    exponent = module.bitwise_and(carrying, EXPONENT_MASK) - (exponent_of_highest << MANTISSA_BITS)
    power = reinterpret(module.maximum(exponent, 1 << MANTISSA_BITS), "float32")
    return module.where(maximum <= LARGEST, power, maximum)


def _require_scales(maximum: np.ndarray, scale: np.ndarray) -> None:
    wrong = ~np.isfinite(scale) | (maximum < 0)
    if wrong.any():
        raise QuantizationError(
            f"{np.count_nonzero(wrong)} of {wrong.size} maxima give no scale, the first of them {maximum[wrong][0]}; "
            "allowed: finite float32 numbers that are not negative"
        )
