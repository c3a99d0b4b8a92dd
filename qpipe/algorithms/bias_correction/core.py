"""Expected outputs and their errors (Nagel et al., arXiv 1906.04721, section 4.2). NumPy in float64."""

from __future__ import annotations

import math

import numpy as np


def clipped_normal_mean(mean: np.ndarray, deviation: np.ndarray, low: float, high: float) -> np.ndarray:
    """Returns E[clip(x, low, high)] of x ~ N(mean, deviation²), for each channel (section 4.2.1).

    Args:
        mean: per channel: the beta of a batch normalization.
        deviation: per channel, at least 0: the magnitude of its gamma.
        low: lower bound, -inf for none.
        high: upper bound, inf for none.
    """
    mean, deviation = np.asarray(mean, np.float64), np.asarray(deviation, np.float64)
    safe = np.where(deviation > 0.0, deviation, 1.0)
    a, b = (low - mean) / safe, (high - mean) / safe
    below, above = _cumulative(a), 1.0 - _cumulative(b)
    inside = mean * (1.0 - below - above) + safe * (_density(a) - _density(b))
    expected = inside + _times(low, below) + _times(high, above)
    return np.where(deviation > 0.0, expected, np.clip(mean, low, high))


def expected_shift(difference: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Returns E[(w̃ - w)ᵀ a] of every output channel (section 4.2), (groups, columns).

    Args:
        difference: w̃ - w, (groups, rows, columns).
        inputs: E[a], (groups, rows).
    """
    return np.einsum("gk,gkm->gm", inputs, difference)


def _times(bound: float, share: np.ndarray) -> np.ndarray:
    return np.zeros_like(share) if math.isinf(bound) else bound * share


def _density(x: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * np.square(x)) / math.sqrt(2.0 * math.pi)


def _cumulative(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2.0)))
