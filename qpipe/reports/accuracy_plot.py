"""The float and the quantized model side by side: class by class, or value by value for a regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from qpipe.config.schema import Task
from qpipe.reports.class_scores import scores_by_class
from qpipe.reports.figure import BLACK, FLOAT, GREY, QUANTIZED, height_of_rows, label_rows, new_figure, note_rows, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 40
MOST_POINTS = 4000
SMALLEST_CHANGE = 0.05
"""Points of a percentage that are not 0 when they are rounded."""


def accuracy_figure(
    float_outputs: np.ndarray,
    quantized_outputs: np.ndarray,
    labels: np.ndarray,
    task: Task,
    class_names: Sequence[str] | None,
    *,
    probabilities: bool = True,
) -> Figure | None:
    """Draws how the quantized model changes what the float model gives for the test part.

    Args:
        float_outputs: (samples, ..., classes) scores, or values for a regression.
        quantized_outputs: likewise.
        labels: as in `qpipe.evaluation.quality`.
        task: what the outputs mean.
        class_names: one per class; None numbers them.
        probabilities: as in `qpipe.evaluation.quality`.

    Returns:
        For classes a row each, with the score of both models, the classes that changed most where there are more than
        `MOST_CLASSES`. For a regression the quantized model's values against the float model's; None where no pair of
        them is finite.
    """
    if task is Task.regression:
        return _values(float_outputs, quantized_outputs)
    scores = np.array(
        [
            scores_by_class(outputs, labels, task, probabilities=probabilities)
            for outputs in (float_outputs, quantized_outputs)
        ]
    )
    shown = np.flatnonzero(~np.isnan(scores[0]))
    title = _title(task, labels)
    if len(shown) > MOST_CLASSES:
        change = np.abs(scores[1] - scores[0])[shown]
        title += f"\nthe {MOST_CLASSES} of {len(shown)} classes that changed most"
        shown = np.sort(shown[np.argsort(-change, kind="stable")[:MOST_CLASSES]])
    names = [f"class {index}" if class_names is None else class_names[int(index)] for index in shown]
    before, after = 100 * scores[:, shown]
    return _classes(names, before, after, title, task)


def _title(task: Task, labels: np.ndarray) -> str:
    measure = "F1 score" if task is Task.multilabel else "pixel accuracy" if labels.ndim > 1 else "accuracy"
    return f"{measure} by class on the test part"


def _classes(names: list[str], before: np.ndarray, after: np.ndarray, title: str, task: Task) -> Figure:
    figure = new_figure(7.5, height_of_rows(len(names)) + 0.3)
    axes = figure.add_subplot()
    rows = np.arange(len(names))
    axes.hlines(rows, before, after, color=GREY, linewidth=2.0)
    axes.scatter(before, rows, s=46, facecolor="white", edgecolor=FLOAT, linewidth=1.8, label="float", zorder=3)
    axes.scatter(after, rows, s=20, color=QUANTIZED, label="quantized", zorder=4)
    label_rows(axes, names)
    lowest = float(min(before.min(), after.min()))
    axes.set_xlim(max(lowest - 0.08 * (100 - lowest) - 0.5, -3.0), 100 + max(0.08 * (100 - lowest), 0.5))
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= 100 and tick >= axes.get_xlim()[0]])
    axes.set_xlabel("F1 score, %" if task is Task.multilabel else "recognized of the class, %")
    axes.set_title(title)
    changes = [
        f"{change:+.1f}".replace("-", "−") if abs(change) >= SMALLEST_CHANGE else "0" for change in after - before
    ]
    note_rows(axes, changes, "change")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _signed(points: float) -> str:
    return f"{points:+.1f}".replace("-", "−") if abs(points) >= SMALLEST_CHANGE else "0"


def _values(before: np.ndarray, after: np.ndarray) -> Figure | None:
    """One point for each value that the models predict, at most `MOST_POINTS` of them."""
    before, after = (array.reshape(-1).astype(np.float64) for array in (before, after))
    finite = np.isfinite(before) & np.isfinite(after)
    before, after = before[finite], after[finite]
    if not before.size:
        return None
    deviation = float(np.sqrt(np.mean((after - before) ** 2)))
    spread = float(before.std())
    every = -(-len(before) // MOST_POINTS)
    figure = new_figure(6.0, 5.6)
    axes = figure.add_subplot()
    ends = [min(before.min(), after.min()), max(before.max(), after.max())]
    axes.plot(ends, ends, color=BLACK, linewidth=1.0, label="equal")
    axes.scatter(before[::every], after[::every], s=10, color=QUANTIZED, alpha=0.5, linewidth=0, label="test samples")
    relative = f" ({deviation / spread:.1%} of the values' spread)" if spread > 0 else ""
    axes.set(xlabel="value of the float model", ylabel="value of the quantized model")
    axes.set_title(f"predicted values on the test part\nroot mean square difference {deviation:.3g}{relative}")
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(frameon=False)
    plain(axes)
    return figure
