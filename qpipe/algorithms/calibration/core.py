"""Ranges from what was seen of a tensor: batch extrema and a histogram. NumPy only."""

from __future__ import annotations

import numpy as np

from qpipe.numerics import IntegerRange, affine_parameters, scale_for_maximum

PERCENTILE = 99.99
EMA_MOMENTUM = 0.99
MSE_CANDIDATES = 100
SMALLEST_MSE_SHARE = 0.1


def minmax_range(lows: np.ndarray, highs: np.ndarray) -> tuple[float, float]:
    """Returns the smallest and the largest value over all batches."""
    return float(lows.min()), float(highs.max())


def ema_range(lows: np.ndarray, highs: np.ndarray, momentum: float = EMA_MOMENTUM) -> tuple[float, float]:
    """Returns the exponential moving average of the batch extrema; the first batch sets it."""
    low, high = float(lows[0]), float(highs[0])
    for batch_low, batch_high in zip(lows[1:], highs[1:], strict=True):
        low = momentum * low + (1.0 - momentum) * float(batch_low)
        high = momentum * high + (1.0 - momentum) * float(batch_high)
    return low, high


def percentile_range(counts: np.ndarray, edges: np.ndarray, percentile: float = PERCENTILE) -> tuple[float, float]:
    """Returns the central range that leaves out (100 - percentile) percent of the values at each end.

    Args:
        counts: (bins,) how many values fell into each bin.
        edges: (bins + 1,) edges of the bins.
        percentile: in percent.
    """
    below = np.cumsum(counts) / counts.sum()
    tail = 1.0 - percentile / 100.0
    first = int(np.searchsorted(below, tail, side="right"))
    last = int(np.searchsorted(below, 1.0 - tail, side="left"))
    return float(edges[first]), float(edges[min(last + 1, len(edges) - 1)])


def mse_range(
    counts: np.ndarray, edges: np.ndarray, integers: IntegerRange, *, symmetric: bool, power_of_two: bool = False
) -> tuple[float, float]:
    """Returns the share of the full range with the least squared quantization error over a histogram.

    Args:
        counts: (bins,) how many values fell into each bin.
        edges: (bins + 1,) edges of the bins.
        integers: the quantizer's integers.
        symmetric: whether the zero point is 0, so that the range is that of the largest magnitude.
        power_of_two: whether the scale is a power of two.
    """
    values = (edges[:-1] + edges[1:]) / 2.0
    low, high = min(float(edges[0]), 0.0), max(float(edges[-1]), 0.0)
    best, best_error = (low, high), np.inf
    for share in np.linspace(1.0, SMALLEST_MSE_SHARE, MSE_CANDIDATES):
        scale, zero_point = _parameters(low * share, high * share, integers, symmetric, power_of_two)
        error = float(np.sum(counts * _squared_error(values, scale, zero_point, integers)))
        if error < best_error:
            best, best_error = (low * share, high * share), error
    return best


def _parameters(low, high, integers, symmetric, power_of_two):
    if symmetric:
        return scale_for_maximum(max(-low, high), integers.highest, power_of_two=power_of_two), 0.0
    return affine_parameters(low, high, integers, power_of_two=power_of_two)


def _squared_error(values, scale, zero_point, integers):
    quantized = np.clip(np.rint(values / scale) + zero_point, *integers)
    return (scale * (quantized - zero_point) - values) ** 2
