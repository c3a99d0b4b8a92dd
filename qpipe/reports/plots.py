"""The plots of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from qpipe.config.schema import Task
from qpipe.reports.accuracy_plot import accuracy_figure
from qpipe.reports.figure import save_figure
from qpipe.reports.histogram_plot import histogram_figure
from qpipe.reports.layers import LayerReport
from qpipe.reports.noise import LayerNoise
from qpipe.reports.noise_plot import noise_figure
from qpipe.reports.size_plot import size_figure
from qpipe.reports.training_plot import History, training_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class TestPart:
    """What the float and the quantized model gave for the test part, at their first output; as in `accuracy_figure`."""

    float_model: np.ndarray
    quantized_model: np.ndarray
    labels: np.ndarray
    task: Task
    class_names: Sequence[str] | None
    probabilities: bool = True


@dataclass(frozen=True, eq=False)
class RunResults:
    """What the plots of a run show.

    Attributes:
        model: the quantized model.
        report: its layers.
        noise: of each layer, as `measure_noise` gives it.
        test: outputs for the test part.
        histories: by stage (`float`, `qat`) the metrics of every epoch.
        freeze_epoch: epochs of the quantized model's training until statistics and ranges froze, if they did.
    """

    model: keras.Model
    report: LayerReport
    noise: Mapping[str, LayerNoise]
    test: TestPart
    histories: Mapping[str, History] = field(default_factory=dict)
    freeze_epoch: float | None = None


def write_plots(results: RunResults, folder: Path) -> list[Path]:
    """Writes every plot that has something to show as a PNG file, and returns the paths.

    Raises:
        StorageError: a file can't be written.
    """
    return [save_figure(figure, folder / f"{name}.png") for name, figure in _figures(results) if figure is not None]


def _figures(results: RunResults) -> Iterator[tuple[str, Figure | None]]:
    rows, test = results.report.rows, results.test
    yield (
        "accuracy",
        accuracy_figure(
            test.float_model,
            test.quantized_model,
            test.labels,
            test.task,
            test.class_names,
            probabilities=test.probabilities,
        ),
    )
    yield "noise", noise_figure(rows)
    yield "histograms", histogram_figure(rows, results.model, results.noise)
    yield "training", training_figure(results.histories, results.freeze_epoch)
    yield "sizes", size_figure(rows, results.model)
