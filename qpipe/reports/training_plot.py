"""Loss and quality over the epochs of both trainings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qpipe.reports.figure import FLOAT, QUANTIZED, VERMILION, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

History = Mapping[str, list[float]]
TITLES = {"float": "training of the float model", "qat": "quantization-aware training"}
COLOURS = {"float": FLOAT, "qat": QUANTIZED}


def training_figure(histories: Mapping[str, History], freeze_epoch: float | None = None) -> Figure | None:
    """Draws a column for each training and a row for each quantity: the loss, and the first metric that was measured.

    Args:
        histories: by stage (`float`, `qat`) the metrics of every epoch, under Keras' names.
        freeze_epoch: how many epochs of the quantized model's training passed until statistics and ranges froze.

    Returns:
        None where nothing was trained.
    """
    trained = {stage: history for stage, history in histories.items() if any(history.values())}
    if not trained:
        return None
    quantities = _quantities(trained)
    figure = new_figure(4.6 * len(trained) + 0.6, 2.7 * len(quantities) + 0.5)
    grid = figure.subplots(len(quantities), len(trained), squeeze=False)
    for column, (stage, history) in enumerate(trained.items()):
        for row, quantity in enumerate(quantities):
            axes = grid[row, column]
            _draw(axes, history, quantity, COLOURS[stage])
            if stage == "qat" and freeze_epoch is not None:
                axes.set_xlim(left=min(0.5, freeze_epoch - 0.1))
                axes.axvline(freeze_epoch, color=VERMILION, linestyle=":", label="ranges and statistics freeze")
            axes.set(ylabel=quantity.replace("_", " "), xlabel="epochs" if row == len(quantities) - 1 else None)
            if row == 0:
                axes.set_title(TITLES[stage])
            axes.legend(frameon=False, fontsize=8)
            plain(axes)
    return figure


def _quantities(trained: Mapping[str, History]) -> list[str]:
    """`loss`, and the first metric that is neither a loss nor measured on the validation part."""
    names = [name for history in trained.values() for name in history]
    metrics = [name for name in names if not name.startswith("val_") and not name.endswith("loss")]
    return ["loss", *metrics[:1]]


def _draw(axes, history: History, quantity: str, colour: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for name, style, label in ((quantity, "-", "training"), (f"val_{quantity}", "--", "validation")):
        values = history.get(name, [])
        if values:
            marker = "o" if style == "-" else "s"
            axes.plot(range(1, len(values) + 1), values, style, marker=marker, ms=4, color=colour, label=label)
    epochs = max((len(values) for values in history.values()), default=1)
    axes.set_xlim(0.5, epochs + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.grid(color="#E6E6E6", linewidth=0.6)
