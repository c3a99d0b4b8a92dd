"""From an accumulator to the integers of a quantized output."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qpipe.integer.operator import Notes
from qpipe.numerics import (
    IntegerRange,
    QuantizedFormat,
    QuantizedTensor,
    integer_range,
    round_half_even,
    saturate_integers,
)

HALF = np.float32(0.5)


@dataclass(frozen=True, eq=False)
class Requantization:
    """Saturates an accumulator to its buffer and brings it to an output's integers, with one rounding.

    q = clip(rint(float32(accumulator) * multiplier) + zero point), the product in float32; the clip is to the
    output's integers and to those of a fused activation, zero point + rint(bound / s_y).

    Attributes:
        multiplier: float32, of shape () or (channels,): float32(s_x * s_w) / s_y.
        output: format of the result.
        bounds: real values to which a fused activation clamps.
        buffer_bitwidth: width of the accumulator.
    """

    multiplier: np.ndarray | np.float32
    output: QuantizedFormat
    bounds: tuple[float, float] = (-math.inf, math.inf)
    buffer_bitwidth: int = 64

    @property
    def clamp(self) -> IntegerRange:
        """Smallest and largest integer of the result."""
        lowest, highest = self.output.integers
        low, high = self._activation
        zero_point = self.output.zero_point
        return IntegerRange(
            lowest if math.isinf(low) else max(lowest, zero_point + int(round_half_even(low))),
            highest if math.isinf(high) else min(highest, zero_point + int(round_half_even(high))),
        )

    def __call__(self, accumulator: np.ndarray, notes: Notes) -> QuantizedTensor:
        """Requantizes whole numbers, int64 or exact in float64."""
        saturated = saturate(accumulator, self.buffer_bitwidth, notes)
        return self.round(saturated.astype(np.float32) * self.multiplier, notes)

    def round(self, scaled: np.ndarray, notes: Notes) -> QuantizedTensor:
        """Rounds float32 values in units of the output's scale, relative to its zero point."""
        return self.clip(round_half_even(scaled), notes)

    def clip(self, rounded: np.ndarray, notes: Notes) -> QuantizedTensor:
        """Clips whole float32 numbers that are relative to the output's zero point."""
        zero_point = self.output.zero_point
        lowest, highest = (end - zero_point for end in self.clamp)
        notes.values += rounded.size
        notes.output_saturations += self._cut_off(rounded)
        return QuantizedTensor(np.clip(rounded, lowest, highest).astype(np.int64) + zero_point, self.output)

    @property
    def _activation(self) -> tuple[np.ndarray, np.ndarray]:
        """The fused activation's bounds in units of the output's scale, float32."""
        low, high = (np.asarray(np.float32(bound) / self.output.scale) for bound in self.bounds)
        return low, high

    def _cut_off(self, rounded: np.ndarray) -> int:
        """How many values the output's integers cut off beyond what the fused activation cuts off anyway."""
        wanted = np.clip(rounded, *self._activation)
        lowest, highest = (end - self.output.zero_point for end in self.output.integers)
        return int(np.count_nonzero((wanted < lowest) | (wanted > highest + HALF)))


@dataclass(frozen=True, eq=False)
class RealOutput:
    """Saturates an accumulator to its buffer and returns its real values: a layer without an output quantizer.

    Attributes:
        scale: float32, of shape () or (channels,): the accumulator's.
        bounds: real values to which a fused activation clamps.
        buffer_bitwidth: width of the accumulator.
    """

    scale: np.ndarray | np.float32
    bounds: tuple[float, float] = (-math.inf, math.inf)
    buffer_bitwidth: int = 64

    def __call__(self, accumulator: np.ndarray, notes: Notes) -> np.ndarray:
        """Returns float32 values."""
        saturated = saturate(accumulator, self.buffer_bitwidth, notes)
        low, high = (np.float32(bound) for bound in self.bounds)
        return np.clip(saturated.astype(np.float32) * self.scale, low, high)


def saturate(accumulator: np.ndarray, buffer_bitwidth: int, notes: Notes) -> np.ndarray:
    """Saturates whole numbers to a buffer, and takes note of their extrema and of how many did not fit."""
    notes.see(accumulator)
    saturated, outside = saturate_integers(accumulator, *integer_range(buffer_bitwidth))
    notes.buffer_saturations += outside
    return saturated
