"""What each layer's weights take when they are packed, by their width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from qpipe.reports.costs import layer_cost
from qpipe.reports.figure import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    height_of_rows,
    label_rows,
    new_figure,
    note_rows,
)
from qpipe.reports.layers import LayerRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IN_FLOAT = "float32"
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, YELLOW)
KIB = 1024
FLOAT_BYTES = 4


def size_figure(rows: Sequence[LayerRow], model: keras.Model) -> Figure | None:
    """Draws a bar for each layer with weights: bytes of kernel and bias as packed, coloured by the kernel's width.

    Args:
        rows: of the layer report.
        model: the quantized model.

    Returns:
        None for a model without weights.
    """
    layers = {layer.name: layer for layer in model.layers}
    costs = {row.plan.name: layer_cost(layers[row.plan.name]) for row in rows if row.plan.name in layers}
    sized = [row for row in rows if row.plan.name in costs and costs[row.plan.name].packed_bytes]
    if not sized:
        return None
    sizes = np.array([costs[row.plan.name].packed_bytes for row in sized], float)
    unit, factor = ("KiB", KIB) if sizes.max() >= KIB else ("bytes", 1)
    sizes /= factor
    widths = [IN_FLOAT if row.plan.weight_bits is None else f"{row.plan.weight_bits} bits" for row in sized]
    figure = new_figure(7.5, height_of_rows(len(sized)) + 0.5)
    axes = figure.add_subplot()
    for width, colour in _colours(widths).items():
        chosen = np.array([other == width for other in widths])
        total = f"{_amount(sizes[chosen].sum(), unit)} {unit} in {np.count_nonzero(chosen)} layer(s)"
        axes.barh(np.flatnonzero(chosen), sizes[chosen], height=0.75, color=colour, label=f"{width}: {total}")
    label_rows(axes, [row.plan.name for row in sized])
    note_rows(axes, [_amount(size, unit) for size in sizes], unit)
    parameters = sum(row.parameters for row in sized)
    axes.set_xlim(0, float(sizes.max()) * 1.03)
    axes.set_xlabel(f"packed kernel and bias, {unit}")
    total, unpacked = (_amount(size, unit) for size in (sizes.sum(), FLOAT_BYTES * parameters / factor))
    axes.set_title(f"{total} {unit} of weights; in float32 {unpacked} {unit}")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def _amount(size: float, unit: str) -> str:
    if unit == "bytes":
        return f"{size:,.0f}"
    return f"{size:,.1f}" if size >= 1 else f"{size:.2f}"


def _colours(widths: Sequence[str]) -> dict[str, str]:
    """A colour for each width, the most frequent first; what stays in float is grey."""
    quantized = sorted(set(widths) - {IN_FLOAT}, key=lambda width: (-widths.count(width), width))
    colours = {width: COLOURS[index % len(COLOURS)] for index, width in enumerate(quantized)}
    return colours | ({IN_FLOAT: GREY} if IN_FLOAT in widths else {})
