"""Factor and offset that bring a channel's moments back. NumPy in float64.

What re-estimating a batch normalization on the quantized network's activations does (Nagel et al., arXiv 2203.11086,
who do so after training): the normalized output has its trained mean and deviation again.
"""

from __future__ import annotations

import numpy as np

LARGEST_FACTOR = 2.0
"""A channel that would need a larger factor, or one below its reciprocal, only gets its mean back."""


def factor_and_mean(
    mean: np.ndarray, variance: np.ndarray, wanted_mean: np.ndarray, wanted_variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (factor, offset) of each channel with which factor * y + offset has the wanted moments.

    Args:
        mean: of the quantized layer's output y.
        variance: of y.
        wanted_mean: of the float output.
        wanted_variance: of the float output.
    """
    ratio = np.sqrt(np.divide(wanted_variance, variance, out=np.ones_like(variance), where=variance > 0.0))
    sensible = (ratio <= LARGEST_FACTOR) & (ratio >= 1.0 / LARGEST_FACTOR)
    factor = np.where(sensible, ratio, 1.0)
    return factor, wanted_mean - factor * mean


def distance(mean: np.ndarray, variance: np.ndarray, wanted_mean: np.ndarray, wanted_variance: np.ndarray) -> float:
    """Returns the sum over channels of the squared differences of means and of deviations.

    Args:
        mean: of the quantized layer's output.
        variance: of it.
        wanted_mean: of the float output.
        wanted_variance: of the float output.
    """
    deviation, wanted = (np.sqrt(np.maximum(part, 0.0)) for part in (variance, wanted_variance))
    return float(np.sum((mean - wanted_mean) ** 2 + (deviation - wanted) ** 2))
