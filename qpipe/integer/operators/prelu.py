"""A ReLU with a slope for each channel or value below zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qpipe.integer.operator import Notes
from qpipe.integer.operators.requantization import Requantization
from qpipe.numerics import QuantizedTensor


@dataclass(frozen=True, eq=False)
class PReLU:
    """Multiplies integers below the zero point by a slope, and rounds once.

    Attributes:
        slopes: int64, one for each value of a sample; axes that share a slope have length 1.
        positive: float32 multiplier from the zero point on: s_x / s_y.
        negative: float32 multiplier below it: s_a * s_x / s_y, of a shape that broadcasts against `slopes`.
        requantization: to the output; its multiplier is not used.
    """

    slopes: np.ndarray
    positive: np.float32
    negative: np.ndarray
    requantization: Requantization

    def __call__(self, x: QuantizedTensor, *, notes: Notes) -> QuantizedTensor:
        """Returns the integers of the result."""
        above = x.centred >= 0
        accumulator = np.where(above, x.centred, x.centred * self.slopes)
        notes.see(accumulator)
        scaled = accumulator.astype(np.float32) * np.where(above, self.positive, self.negative)
        return self.requantization.round(scaled, notes)
