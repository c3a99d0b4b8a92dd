"""What every operator of the integer engine is, and what it notes while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from qpipe.numerics import QuantizedTensor

Value = QuantizedTensor | np.ndarray
"""A tensor between operators: quantized, or real float32 values outside of the quantized part."""


@dataclass
class Notes:
    """What an operator saw while it ran, added up over all its calls.

    Attributes:
        lowest_accumulator: smallest sum before it was saturated.
        highest_accumulator: largest sum before it was saturated.
        buffer_saturations: sums that did not fit the buffer.
        output_saturations: results that the output's integers cut off, beyond what a fused activation does.
        values: results computed.
    """

    lowest_accumulator: int = 0
    highest_accumulator: int = 0
    buffer_saturations: int = 0
    output_saturations: int = 0
    values: int = 0

    def see(self, accumulator: np.ndarray) -> None:
        """Takes note of the extrema of an accumulator."""
        if accumulator.size:
            self.lowest_accumulator = min(self.lowest_accumulator, int(accumulator.min()))
            self.highest_accumulator = max(self.highest_accumulator, int(accumulator.max()))

    @property
    def accumulator_bits(self) -> int:
        """Bits of a signed integer that holds every sum seen."""
        return 1 + max(self.highest_accumulator.bit_length(), (~self.lowest_accumulator).bit_length())


class Operator(Protocol):
    """Computes one tensor, or several for a layer in float; a frozen dataclass of plain NumPy values."""

    def __call__(self, *inputs: Value, notes: Notes) -> Value | list[Value]:
        """Runs on one batch."""
