"""Functions of one quantized tensor, value by value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qpipe.integer.operator import Notes
from qpipe.integer.operators.requantization import Requantization
from qpipe.numerics import QuantizedFormat, QuantizedTensor


@dataclass(frozen=True, eq=False)
class Lookup:
    """Reads the result for each input integer from a table.

    The table holds the function rounded once. LiteRT differs for LEAKY_RELU, whose multipliers have only 8 fraction
    bits there (4 to 9 % of the values are off by one), and for HARD_SWISH, which it computes in 16 bits (0.5 %).

    Attributes:
        rounded: (2^b,) whole float32 numbers in units of the output's scale, relative to its zero point, before any
            clamp: one for each input integer, the lowest first.
        requantization: to the output; its multiplier is not used.
        function: name of what the table holds.
    """

    rounded: np.ndarray
    requantization: Requantization
    function: str

    def __call__(self, x: QuantizedTensor, *, notes: Notes) -> QuantizedTensor:
        """Returns the table's entries for the integers of `x`."""
        return self.requantization.clip(self.rounded[x.integers - x.format.integers.lowest], notes)

    @property
    def table(self) -> np.ndarray:
        """The output's integers for each input integer, the lowest first: (2^b,) int64."""
        return self.requantization.clip(self.rounded, Notes()).integers

    @property
    def output(self) -> QuantizedFormat:
        """Format of the result."""
        return self.requantization.output
