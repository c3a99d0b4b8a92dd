"""A picture of how the roundings of a layer were decided."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qpipe.algorithms.adaround.optimize import Course
from qpipe.reports.figure import new_figure, save_figure, short


def plot_histogram(course: Course, layer: str, path: Path) -> None:
    """Writes a PNG: the distribution of h (vertically) over the iterations (horizontally).

    Args:
        course: of the layer's optimization.
        layer: its name, for the title.
        path: of the file.

    Raises:
        StorageError: the file can't be written.
    """
    counts = np.array(course.histograms, float).T
    share = counts / np.maximum(counts.sum(axis=0), 1.0)
    figure = new_figure(7.0, 4.0)
    axes = figure.add_subplot()
    ends = [0, *course.iterations]
    image = axes.pcolormesh(ends, np.linspace(0.0, 1.0, len(counts) + 1), np.log10(share + 1e-4), cmap="viridis")
    axes.set(xlabel="iteration", ylabel="h", title=f"roundings of {short(layer)}")
    figure.colorbar(image, label="share of the weights, log10")
    save_figure(figure, path)
