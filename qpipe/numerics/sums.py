"""Sums of integers on different scales, as LiteRT's default path computes them."""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np

from qpipe.numerics.array_module import array_module, cast, reinterpret
from qpipe.numerics.scales import EXPONENT_MASK

FACTOR_BITS = 21
"""Bits of the largest factor of a sum."""


def sum_factors(ratios: list) -> list:
    """Rounds the factors of a sum to fixed point: the largest to 21 bits, the others to multiples of its last one.

    Args:
        ratios: s_i / s_y of every term, positive float32 NumPy numbers or scalar Keras tensors, each below 2^100.

    Returns:
        As many float32 numbers of the same kind.
    """
    module = array_module(*ratios)
    largest = reduce(module.maximum, (cast(ratio, "float32") for ratio in ratios))
    power = reinterpret(module.bitwise_and(reinterpret(largest, "int32"), EXPONENT_MASK), "float32")
    unit = power * np.float32(2.0 ** (1 - FACTOR_BITS))
    return [module.round(ratio / unit) * unit for ratio in ratios]


def rounded_sum(terms: list, factors: list):
    """Returns floor(sum of terms_i * factors_i + 1/2), the sum exact: one rounding, ties up.

    Args:
        terms: whole numbers below 2^30, NumPy arrays or Keras tensors that broadcast against each other.
        factors: those of `sum_factors`, with a sign each.

    Returns:
        Whole float32 numbers.
    """
    total = reduce(
        add, (cast(x, "float64") * cast(factor, "float64") for x, factor in zip(terms, factors, strict=True))
    )
    return cast(array_module(total).floor(total + 0.5), "float32")
