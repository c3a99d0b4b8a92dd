"""Sliding windows over one or two spatial axes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

Taps = Iterator[tuple[tuple[int, ...], np.ndarray]]


def padding_of(padding: str, size: int, window: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Returns how many positions are padded before and after an axis, by TensorFlow's rule.

    Args:
        padding: `valid`, `same` (the larger half after), or `causal` (all before).
        size: of the axis.
        window: size of the window.
        stride: of the window.
        dilation: distance between the window's taps.
    """
    span = (window - 1) * dilation
    if padding == "same":
        total = max((-(-size // stride) - 1) * stride + span + 1 - size, 0)
        return total // 2, total - total // 2
    return (span, 0) if padding == "causal" else (0, 0)


def taps(
    x: np.ndarray,
    window: tuple[int, ...],
    strides: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: str,
    fill: int = 0,
) -> Taps:
    """Yields for every tap of a window its index and what all windows see there.

    Args:
        x: (batch, *spatial, channels).
        window: size of the window on each spatial axis.
        strides: for each spatial axis.
        dilation: for each spatial axis.
        padding: `valid`, `same` or `causal`.
        fill: value of padded positions.

    Yields:
        `(index, values)`, values of shape (batch, *output, channels).
    """
    axes = range(len(window))
    pads = [padding_of(padding, x.shape[1 + a], window[a], strides[a], dilation[a]) for a in axes]
    padded = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)
    sizes = [(padded.shape[1 + a] - (window[a] - 1) * dilation[a] - 1) // strides[a] + 1 for a in axes]
    for index in product(*(range(size) for size in window)):
        starts = [index[a] * dilation[a] for a in axes]
        ends = [starts[a] + (sizes[a] - 1) * strides[a] + 1 for a in axes]
        spatial = tuple(slice(starts[a], ends[a], strides[a]) for a in axes)
        yield index, padded[(slice(None), *spatial)]
