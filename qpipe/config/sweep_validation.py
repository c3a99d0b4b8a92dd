"""Checks of the section `sweep`."""

from __future__ import annotations

import re
from typing import Any

from qpipe.config.ranges import refuse
from qpipe.config.schema import SweepConfig, Task
from qpipe.errors import nearest

DIRECTIONS = ("maximize", "minimize")
QUALITY = {
    Task.classification: ("accuracy", "top5_accuracy", "mean_iou"),
    Task.multilabel: ("accuracy", "f1"),
    Task.regression: ("mae", "rmse", "r2"),
}
"""What `qpipe.evaluation.quality` measures."""
LIKENESS = {Task.classification: "agreement", Task.multilabel: "agreement", Task.regression: "deviation"}


def validate_sweep(config: SweepConfig) -> None:
    """Checks that there is a direction for each metric.

    Raises:
        ConfigError: the first mistake.
    """
    metrics, directions = _listed(config.metric), _listed(config.direction)
    for index, metric in enumerate(metrics):
        if not isinstance(metric, str) or not metric.strip():
            refuse(_path("sweep.metric", config.metric, index), metric, "give the name of a metric")
    if not metrics:
        refuse("sweep.metric", config.metric, "give the name of a metric, or several in a list")
    for index, direction in enumerate(directions):
        if direction not in DIRECTIONS:
            refuse(_path("sweep.direction", config.direction, index), direction, nearest(str(direction), DIRECTIONS))
    if len(directions) != len(metrics):
        refuse("sweep.direction", config.direction, f"give {len(metrics)} direction(s), one for each of sweep.metric")


def validate_objectives(config: SweepConfig, task: Task) -> None:
    """Checks, for a multirun, that the jobs will measure what they are compared by.

    Raises:
        ConfigError: a metric of the quality or the likeness of models that the task does not have.
    """
    for index, metric in enumerate(_listed(config.metric)):
        path = _path("sweep.metric", config.metric, index)
        measured = re.fullmatch(r"(float|folded|quantized)/(\w+)", metric)
        if measured and measured[2] not in QUALITY[task]:
            allowed = [f"{measured[1]}/{name}" for name in QUALITY[task]]
            refuse(path, metric, f"of task={task.name}, {nearest(metric, allowed)}")
        if metric in LIKENESS.values() and metric != LIKENESS[task]:
            refuse(path, metric, f"task={task.name} has {LIKENESS[task]!r}")


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _path(path: str, value: Any, index: int) -> str:
    return f"{path}[{index}]" if isinstance(value, list | tuple) else path
