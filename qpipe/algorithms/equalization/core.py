"""Factors of cross-layer equalization (Nagel et al., arXiv 1906.04721, section 4.1). NumPy in float64."""

from __future__ import annotations

import numpy as np

HEADROOM = 0.9
"""Share of a cap that a channel's largest value may reach after it was scaled."""


def equalizing_factors(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns s with which W1 / s and W2 * s have equal ranges per channel (equation 11): sqrt(r1 / r2).

    Args:
        first: r1, largest magnitude of the weights that make each channel.
        second: r2, of those that read it.

    Returns:
        One positive factor per channel; 1 where one of the ranges is 0.
    """
    alive = (first > 0.0) & (second > 0.0)
    return np.sqrt(np.divide(first, second, out=np.ones_like(first), where=alive))


def below_cap(factors: np.ndarray, largest: np.ndarray, cap: float) -> np.ndarray:
    """Returns factors with which a cap between the layers changes nothing.

    Dividing a channel by s moves its cap to cap / s, which one number for the layer can't express. A channel that
    never reaches the cap has no need of it, before and after, if s is at least largest / cap; a channel that does
    keeps its factor of 1.

    Args:
        factors: s of each channel.
        largest: largest value of each channel before the clamp, on samples.
        cap: of the clamp between the layers.
    """
    return np.where(largest >= HEADROOM * cap, 1.0, np.maximum(factors, largest / (HEADROOM * cap)))
