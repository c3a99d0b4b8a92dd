"""Weights and activations of the layers with the most quantization noise, and the grids that they are rounded to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from qpipe.layers.inventory import output_quantizers
from qpipe.layers.linear import QuantizedLinear
from qpipe.numerics import QuantizedFormat
from qpipe.reports.figure import FLOAT, QUANTIZED, VERMILION, new_figure, plain, short
from qpipe.reports.layers import LayerRow
from qpipe.reports.noise import LayerNoise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WORST = 4
WEIGHT_BINS = 100
MOST_LINES = 33
"""Points of a grid beyond which its ends alone are drawn."""


def histogram_figure(rows: Sequence[LayerRow], model: keras.Model, noise: Mapping[str, LayerNoise]) -> Figure | None:
    """Draws a row for each of the worst layers: its kernel in steps of its scales, and its output in real values.

    Layers without a kernel are drawn where there are no others.

    Args:
        rows: of the layer report.
        model: the quantized model.
        noise: as `measure_noise` gives it.

    Returns:
        None where nothing was measured.
    """
    layers = {layer.name: layer for layer in model.layers}
    measured = [row for row in rows if row.sqnr_db is not None and row.plan.name in noise]
    with_kernel = [row for row in measured if _has_kernel(layers[row.plan.name])]
    worst = sorted(with_kernel or measured, key=lambda row: row.sqnr_db or 0.0)[:WORST]
    if not worst:
        return None
    quantizers = output_quantizers(model)
    figure = new_figure(10.0, 2.5 * len(worst) + 0.5)
    grid = figure.subplots(len(worst), 2, squeeze=False)
    for (left, right), row in zip(grid, worst, strict=True):
        name = row.plan.name
        if _has_kernel(layers[name]):
            _kernel(left, layers[name], short(name))
        else:
            left.set_axis_off()
            left.set_title(short(name), fontsize=9)
        _output(right, noise[name], quantizers[name].format())
        right.set_title(f"output, {row.plan.output_bits} bits, {row.sqnr_db:.1f} dB", fontsize=9)
    figure.suptitle("layers with the most quantization noise, the worst first", fontsize=11)
    return figure


def _has_kernel(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, QuantizedLinear) and layer.kernel_quantizer is not None


def _kernel(axes: Axes, layer: QuantizedLinear, name: str) -> None:
    """The kernel divided by its scales, and the integers that it is rounded to."""
    kernel, bias = layer.folded_weights()
    scale = layer.weight_scale(kernel, bias)
    steps = (np.asarray(kernel) / np.asarray(scale)).ravel()
    quantizer = layer.kernel_quantizer
    lowest, highest = quantizer.integers
    uniform = quantizer.kind == "uniform"
    integers = np.arange(lowest, highest + 1) if uniform else np.unique(quantizer.integer(kernel, scale))
    counts, edges = np.histogram(steps, WEIGHT_BINS)
    _stairs(axes, counts, edges, FLOAT)
    grid = _grid(axes, integers)
    scales = "a scale per channel" if quantizer.per_channel else "one scale"
    axes.set_title(f"{name}: kernel, {quantizer.bitwidth} bits, {scales}", fontsize=9)
    axes.set_xlabel(f"kernel in steps of its scale ({grid})", fontsize=8)


def _output(axes: Axes, noise: LayerNoise, target: QuantizedFormat) -> None:
    """The output of the float network, and the values that integers stand for."""
    histogram = noise.histogram
    assert histogram is not None
    _stairs(axes, histogram.counts, histogram.edges, QUANTIZED)
    lowest, highest = target.centred_integers
    grid = _grid(axes, np.arange(lowest, highest + 1) * float(target.scale))
    axes.set_xlabel(f"value, step {float(target.scale):.3g} ({grid})", fontsize=8)


def _stairs(axes: Axes, counts: np.ndarray, edges: np.ndarray, colour: str) -> None:
    """Shares of all values, on a logarithmic axis."""
    from matplotlib.ticker import NullLocator

    share = counts / max(counts.sum(), 1)
    axes.stairs(share, edges, fill=True, color=colour, alpha=0.75)
    axes.set_yscale("log")
    axes.yaxis.set_minor_locator(NullLocator())
    largest = share.max()
    axes.set_ylim(min(share[share > 0].min(initial=1.0) / 2, largest / 30), 2 * largest)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylabel("share of values", fontsize=8)
    axes.tick_params(labelsize=8)
    plain(axes)


def _grid(axes: Axes, points: np.ndarray) -> str:
    """Draws every point of the grid, or its ends where there are many, and says which."""
    every = len(points) <= MOST_LINES
    for point in points if every else (points[0], points[-1]):
        axes.axvline(point, color=VERMILION, linewidth=0.7 if every else 1.2, linestyle="-" if every else "--")
    low, high = min(axes.get_xlim()[0], points[0]), max(axes.get_xlim()[1], points[-1])
    axes.set_xlim(low - 0.03 * (high - low), high + 0.03 * (high - low))
    return "lines: its grid" if every else "dashed: the ends of its grid"
