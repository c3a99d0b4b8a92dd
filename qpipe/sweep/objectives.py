"""What the jobs of a sweep are compared by: one metric, or several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qpipe.config.schema import SweepConfig
from qpipe.errors import ConfigError, nearest

COSTS = {"size/packed_weight_bytes": "packed weights in bytes", "cost/bit_operations": "bit operations per sample"}
"""What a job's quality is held against, and how it is called where it is shown."""


@dataclass(frozen=True)
class Objective:
    """A metric and which of its ends is good."""

    metric: str
    maximize: bool


def objectives(config: SweepConfig) -> list[Objective]:
    """Returns the objectives of a sweep, the first one first."""
    metrics = [config.metric] if isinstance(config.metric, str) else config.metric
    directions = [config.direction] if isinstance(config.direction, str) else config.direction
    return [Objective(metric, direction == "maximize") for metric, direction in zip(metrics, directions, strict=True)]


def quality(listed: list[Objective]) -> Objective:
    """Returns the objective that costs are held against: the first that is no cost itself."""
    return next((objective for objective in listed if objective.metric not in COSTS), listed[0])


def objective_values(metrics: Mapping[str, float], config: SweepConfig) -> float | tuple[float, ...]:
    """Returns what a sweeper gets of a job: the value of `sweep.metric`, or a tuple of several.

    Raises:
        ConfigError: the job has no such metric.
    """
    listed = objectives(config)
    for objective in listed:
        if objective.metric not in metrics:
            raise ConfigError(
                f"sweep.metric: the job has ended, but it has no metric {objective.metric!r}; "
                f"{nearest(objective.metric, metrics)}"
            )
    values = tuple(float(metrics[objective.metric]) for objective in listed)
    return values[0] if isinstance(config.metric, str) else values
