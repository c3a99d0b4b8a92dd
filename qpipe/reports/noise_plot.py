"""The signal-to-quantization-noise ratio of every layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from qpipe.reports.figure import BLUE, GREY, VERMILION, height_of_rows, label_rows, new_figure, note_rows
from qpipe.reports.layers import LayerRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORST = 5


def noise_figure(rows: Sequence[LayerRow]) -> Figure | None:
    """Draws a row for each measured layer, in the order of the network, with its ratio in dB; the worst stand out.

    Args:
        rows: of the layer report.

    Returns:
        None where nothing was measured.
    """
    measured = [(row.plan.name, row.plan.output_bits, row.sqnr_db) for row in rows if row.sqnr_db is not None]
    if not measured:
        return None
    names = [f"{name}  ({bits} bits)" if _mixed(measured) else name for name, bits, _ in measured]
    ratios = np.array([ratio for _, _, ratio in measured])
    worst = set(np.argsort(ratios, kind="stable")[: min(WORST, len(ratios) // 2)])
    colours = [VERMILION if index in worst else BLUE for index in range(len(ratios))]
    figure = new_figure(7.5, height_of_rows(len(ratios)))
    axes = figure.add_subplot()
    positions = np.arange(len(ratios))
    start = min(0.0, float(ratios.min()) - 2.0)
    axes.hlines(positions, start, ratios, color=colours, linewidth=1.6)
    axes.scatter(ratios, positions, s=22, color=colours, zorder=3)
    axes.axvline(float(np.median(ratios)), color=GREY, linewidth=1.0, linestyle="--")
    label_rows(axes, names)
    note_rows(axes, [f"{ratio:.1f}" for ratio in ratios], "dB")
    axes.set_xlim(start, float(ratios.max()) + 2.0)
    lowest = f"; red: the {len(worst)} lowest" if worst else ""
    axes.set_xlabel(f"signal-to-quantization-noise ratio, dB (dashed: median {np.median(ratios):.1f}{lowest})")
    axes.set_title("quantization noise by layer, from input to output")
    return figure


def _mixed(measured: Sequence[tuple]) -> bool:
    """Whether outputs have different widths."""
    return len({bits for _, bits, _ in measured}) > 1
