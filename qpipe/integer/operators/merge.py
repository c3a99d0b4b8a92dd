"""Operators with several inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qpipe.errors import QuantizationError
from qpipe.integer.operator import Notes
from qpipe.integer.operators.requantization import Requantization
from qpipe.numerics import QuantizedTensor, rounded_sum, sum_factors


@dataclass(frozen=True, eq=False)
class Sum:
    """Sum or difference of tensors of different scales: floor(sum of (q_i - z_i) * m_i + 1/2), one rounding, ties up.

    The factors m_i are s_i / s_y in fixed point, with 21 bits for the largest: LiteRT's default path (XNNPACK).

    Attributes:
        ratios: float32 s_i / s_y.
        signs: 1, or -1 for a tensor that is subtracted.
        requantization: of the sum; its multiplier is not used.
    """

    ratios: tuple[np.float32, ...]
    signs: tuple[int, ...]
    requantization: Requantization

    def __call__(self, *inputs: QuantizedTensor, notes: Notes) -> QuantizedTensor:
        """Returns the quantized sum."""
        factors = [sign * factor for sign, factor in zip(self.signs, sum_factors(list(self.ratios)), strict=True)]
        return self.requantization.clip(rounded_sum([x.centred for x in inputs], factors), notes)


@dataclass(frozen=True, eq=False)
class Product:
    """Product of two tensors: the integers' product is the accumulator, on the product of their scales.

    Attributes:
        requantization: of the product.
    """

    requantization: Requantization

    def __call__(self, first: QuantizedTensor, second: QuantizedTensor, *, notes: Notes) -> QuantizedTensor:
        """Returns the quantized product; the shapes broadcast."""
        return self.requantization(first.centred * second.centred, notes)


@dataclass(frozen=True, eq=False)
class Concatenation:
    """Joins tensors of one format along an axis.

    Attributes:
        axis: as in NumPy.
    """

    axis: int

    def __call__(self, *inputs: QuantizedTensor, notes: Notes) -> QuantizedTensor:
        """Returns the joined tensor.

        Raises:
            QuantizationError: if the inputs do not share one scale and zero point.
        """
        first = inputs[0]
        for x in inputs[1:]:
            if x.format.scale != first.format.scale or x.format.zero_point != first.format.zero_point:
                raise QuantizationError(
                    f"tensors of the scales {first.format.scale} and {x.format.scale} can't be concatenated; "
                    "allowed: one scale and zero point"
                )
        return first.with_integers(np.concatenate([x.integers for x in inputs], axis=self.axis))
