"""Softmax by a table of exponentials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qpipe.integer.operator import Notes
from qpipe.integer.operators.requantization import Requantization
from qpipe.numerics import QuantizedTensor, round_half_even

UNIT = 2.0**23
"""The integer that stands for exp(0) in the table of exponentials."""


def exponentials(scale: float, bitwidth: int) -> np.ndarray:
    """Returns the table of a softmax over integers: T[d] = rint(2^23 * exp(-scale * d)), (2^bitwidth,) int64."""
    return round_half_even(UNIT * np.exp(-np.arange(2**bitwidth, dtype=np.float64) * scale)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Softmax:
    """Softmax over the last axis: clip(rint(T[d] / sum(T[d]) / s_y) + z_y) with d = max(q) - q.

    Sums of the table's integers are exact; the quotient is one division in float64.

    Attributes:
        exponentials: (2^b,) int64, T[d] = rint(2^23 * exp(-s_x * d)).
        requantization: to the output; its multiplier is not used.
    """

    exponentials: np.ndarray
    requantization: Requantization

    def __call__(self, x: QuantizedTensor, *, notes: Notes) -> QuantizedTensor:
        """Returns the quantized shares."""
        exponentials = self.exponentials[x.integers.max(axis=-1, keepdims=True) - x.integers]
        total = exponentials.sum(axis=-1, keepdims=True)
        share = exponentials.astype(np.float64) / total.astype(np.float64)
        steps = round_half_even(share / self.requantization.output.scale.astype(np.float64))
        return self.requantization.clip(steps.astype(np.float32), notes)
