"""Scales and zero points from ranges: value = scale * (integer - zero point)."""

from __future__ import annotations

from keras import ops

from qpipe.numerics.integers import IntegerRange
from qpipe.numerics.rounding import round_half_even


def scale_for_maximum(maximum, highest: int, *, power_of_two: bool = False):
    """Returns the scale that maps `maximum` to at most the integer `highest`.

    Args:
        maximum: float32 tensor, non-negative.
        highest: largest integer of the range.
        power_of_two: false gives maximum / highest; true gives 2^-f with the largest f for which
            maximum * 2^f <= highest, so that an exact power of two does not saturate.

    Returns:
        Positive float32 tensor of the shape of `maximum`; 1 where `maximum` is 0.
    """
    maximum = ops.convert_to_tensor(maximum, "float32")
    scale = maximum / float(highest)
    positive = scale > 0.0
    scale = ops.where(positive, scale, ops.ones_like(scale))
    if not power_of_two:
        return scale
    return ops.where(positive, _next_power_of_two(scale, maximum, highest), ops.ones_like(scale))


def affine_parameters(low, high, integers: IntegerRange, *, power_of_two: bool = False):
    """Returns the scale and the integer zero point with which `integers` cover [low, high] and exactly 0.

    Args:
        low: float32 scalar tensor, lower end of the range; values above 0 count as 0.
        high: float32 scalar tensor, upper end of the range; values below 0 count as 0.
        integers: the integers to use.
        power_of_two: whether the scale is a power of two.

    Returns:
        `(scale, zero_point)`, float32 scalars; the zero point holds an integer inside the range.
    """
    low = ops.minimum(low, 0.0)
    high = ops.maximum(high, 0.0)
    scale = scale_for_maximum(high - low, integers.highest - integers.lowest, power_of_two=power_of_two)
    zero_point = round_half_even(integers.lowest - low / scale)
    return scale, ops.clip(zero_point, integers.lowest, integers.highest)


def _next_power_of_two(scale, maximum, highest: int):
    power = ops.power(2.0, ops.ceil(ops.log2(scale)))
    power = ops.where(maximum > power * highest, power * 2.0, power)
    return ops.where(maximum <= power * 0.5 * highest, power * 0.5, power)
