"""Operators that compute means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import numpy as np

from qpipe.integer.operator import Notes
from qpipe.integer.operators.requantization import Requantization
from qpipe.integer.operators.windows import taps
from qpipe.numerics import QuantizedTensor, divide_half_away, round_half_even

ONE = np.float32(1.0)


@dataclass(frozen=True, eq=False)
class AveragePooling:
    """Mean over the valid positions of each window, rounded half away from zero; keeps scale and zero point.

    The integers are rounded as targets store them: relative to `storage_offset`.

    Attributes:
        window: size for each spatial axis.
        strides: for each spatial axis.
        padding: `valid` or `same`; padded positions do not count.
    """

    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str

    def __call__(self, x: QuantizedTensor, *, notes: Notes) -> QuantizedTensor:
        """Returns the pooled tensor."""
        stored = x.integers - x.format.storage_offset
        total = self._sum(stored)
        count = self._sum(np.ones((1, *stored.shape[1:-1], 1), np.int64))
        return x.with_integers(divide_half_away(total, count) + x.format.storage_offset)

    def _sum(self, x: np.ndarray) -> np.ndarray:
        apart = (1,) * len(self.window)
        return reduce(np.add, (values for _, values in taps(x, self.window, self.strides, apart, self.padding)))


@dataclass(frozen=True, eq=False)
class GlobalMean:
    """Mean over all n positions: q = clip(rint(float32(sum of q_x) * M + b)), all in float32, as XNNPACK computes it.

    M = float32(s_x / s_y) * float32(1 / n) and b = z_y - float32(z_x * n) * M, with integers and zero points as
    targets store them. Ties go to even stored integers.

    Attributes:
        keepdims: whether the spatial axes stay, with size 1.
        requantization: of the mean; its multiplier is s_x / s_y.
    """

    keepdims: bool
    requantization: Requantization

    def __call__(self, x: QuantizedTensor, *, notes: Notes) -> QuantizedTensor:
        """Returns the quantized mean."""
        axes = tuple(range(1, x.integers.ndim - 1))
        positions = math.prod(x.integers.shape[1:-1])
        output = self.requantization.output
        total = (x.integers - x.format.storage_offset).sum(axis=axes, keepdims=self.keepdims)
        notes.see(total)
        multiplier = self.requantization.multiplier * (ONE / np.float32(positions))
        input_zero, output_zero = (np.float32(f.zero_point - f.storage_offset) for f in (x.format, output))
        bias = output_zero - input_zero * np.float32(positions) * multiplier
        stored = round_half_even(total.astype(np.float32) * multiplier + bias)
        return self.requantization.clip(stored - output_zero, notes)
