"""`range: output_mse`: per channel the scale with the least output error (w̃ - w)ᵀ G (w̃ - w). NumPy in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CANDIDATES = 60
SMALLEST_SHARE = 0.25
FINE_SHARES = np.linspace(0.75, 1.3, 12)

Rounding = Callable[[np.ndarray], np.ndarray]
"""From a scale (groups, columns) to integers (groups, rows, columns)."""


def output_mse_scale(
    gram: np.ndarray,
    kernel: np.ndarray,
    lowest: int,
    highest: int,
    *,
    per_channel: bool = True,
    power_of_two: bool = False,
    rounding: Rounding | None = None,
) -> np.ndarray:
    """Returns the scale with the least output error, of shares of the one that cuts nothing off.

    Args:
        gram: E[a aᵀ], (groups, rows, rows).
        kernel: continuous weights, (groups, rows, columns).
        lowest: smallest integer.
        highest: largest integer.
        per_channel: one scale per output channel, else one for all.
        power_of_two: whether scales are powers of two.
        rounding: rounds better than to nearest; decides, around the best scale for nearest rounding, which scale is
            the best for it.

    Returns:
        (groups, columns), positive; 1 for channels of zeros.
    """

    def to_nearest(scale):
        return np.clip(np.rint(kernel / scale[:, np.newaxis, :]), lowest, highest)

    def prepared(scale):
        scale = np.where(scale > 0.0, scale, 1.0)
        return 2.0 ** np.rint(np.log2(scale)) if power_of_two else scale

    largest = np.abs(kernel).max(axis=1)
    largest = largest if per_channel else np.full_like(largest, largest.max())
    shares = np.linspace(1.0, SMALLEST_SHARE, CANDIDATES)
    candidates = [prepared(largest * share / highest) for share in shares]
    best = _best(gram, kernel, candidates, to_nearest, per_channel)
    if rounding is None:
        return best
    factors = [0.5, 1.0, 2.0] if power_of_two else FINE_SHARES
    return _best(gram, kernel, [best * factor for factor in factors], rounding, per_channel)


def output_error(gram: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """Returns dᵀ G d of every column of (groups, rows, columns), as (groups, columns)."""
    return np.einsum("gkm,gkm->gm", difference, gram @ difference)


def _best(gram, kernel, candidates, rounding: Rounding, per_channel: bool) -> np.ndarray:
    best = candidates[0]
    least = np.full(best.shape, np.inf)
    for scale in candidates:
        error = output_error(gram, rounding(scale) * scale[:, np.newaxis, :] - kernel)
        error = error if per_channel else np.full_like(error, error.sum())
        better = error < least
        best, least = np.where(better, scale, best), np.where(better, error, least)
    return best
