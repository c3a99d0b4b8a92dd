"""Operators with several inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qpipe.errors import QuantizationError
from qpipe.integer.operator import Notes
from qpipe.integer.operators.requantization import Requantization
from qpipe.numerics import QuantizedTensor


@dataclass(frozen=True, eq=False)
class Sum:
    """Sum or difference of tensors of different scales: rint(sum of (q_i - z_i) * (s_i / s_y)), one rounding.

    The sum is taken in float32, in the order of the inputs.

    Attributes:
        factors: float32 s_i / s_y, negative for a tensor that is subtracted.
        requantization: of the sum; its multiplier is not used.
    """

    factors: tuple[np.float32, ...]
    requantization: Requantization

    def __call__(self, *inputs: QuantizedTensor, notes: Notes) -> QuantizedTensor:
        """Returns the quantized sum."""
        terms = [x.centred.astype(np.float32) * factor for x, factor in zip(inputs, self.factors, strict=True)]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return self.requantization.round(total, notes)


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
