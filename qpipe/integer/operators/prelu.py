"""A ReLU with a slope for each channel or value below zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qpipe.integer.operator import Notes
from qpipe.integer.operators.requantization import Requantization
from qpipe.numerics import QuantizedFormat, QuantizedTensor


@dataclass(frozen=True, eq=False)
class PReLU:
    """Multiplies integers below the zero point by a slope, and rounds once.

    Attributes:
        slopes: int64, one for each value of a sample; axes that share a slope have length 1.
        slope_scale: float32, s_a, of a shape that broadcasts against `slopes`.
        requantization: to the output; its multiplier is not used.
    """

    slopes: np.ndarray
    slope_scale: np.ndarray
    requantization: Requantization

    def __call__(self, x: QuantizedTensor, *, notes: Notes) -> QuantizedTensor:
        """Returns the integers of the result."""
        above = x.centred >= 0
        accumulator = np.where(above, x.centred, x.centred * self.slopes)
        notes.see(accumulator)
        positive, negative = self.multipliers(x.format)
        return self.requantization.round(accumulator.astype(np.float32) * np.where(above, positive, negative), notes)

    def multipliers(self, source: QuantizedFormat) -> tuple[np.ndarray, np.ndarray]:
        """Returns s_x / s_y and s_a * s_x / s_y in float32, for integers from the zero point on and below it.

        Args:
            source: format of the input.
        """
        step = self.requantization.output.scale
        return source.scale / step, self.slope_scale * source.scale / step
