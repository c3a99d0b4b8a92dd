"""What AdaRound did to each layer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from qpipe.algorithms.adaround.optimize import Course


@dataclass
class LayerRounding:
    """What became of one layer.

    Errors are means over held-out samples and positions of the squared error, summed over output channels; behind
    the activation where it was part of the loss.

    Attributes:
        name: of the layer.
        solver: that rounded it; None where it was left alone.
        reason: why it was left alone, or rounded by another solver than the configured one.
        makes_up_for: layers whose outputs are added to this one's and whose errors it makes up for.
        error_before: of nearest rounding; None without held-out samples.
        error_after: of the result.
        signal: mean square of the output that it should have, in the same sum.
        kept_nearest: whether the nearest rounding stayed because the error got worse.
        changed: share of the weights that are not rounded to nearest.
        undecided: weights that were not decided before hardening.
        iterations: that were run.
        stopped_early: whether all weights were decided before the last one.
        seconds: that the layer took.
        course: of the iterations.
    """

    name: str
    solver: str | None = None
    reason: str | None = None
    makes_up_for: list[str] = field(default_factory=list)
    error_before: float | None = None
    error_after: float | None = None
    signal: float | None = None
    kept_nearest: bool = False
    changed: float = 0.0
    undecided: int = 0
    iterations: int = 0
    stopped_early: bool = False
    seconds: float = 0.0
    course: Course | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, without the course."""
        return {key: value for key, value in asdict(self).items() if key != "course"}

    def summary(self) -> str:
        """Returns one line for the terminal."""
        if self.solver is None:
            return f"{self.name}: nearest rounding ({self.reason})"
        parts = [f"{self.name}: {self.solver}"]
        if self.reason:
            parts.append(self.reason)
        if self.makes_up_for:
            parts.append(f"makes up for {', '.join(repr(name) for name in self.makes_up_for)}")
        if self.error_before is not None and self.error_after is not None:
            parts.append(f"held-out error {self.error_before:.4g} to {self.error_after:.4g}")
        if self.kept_nearest:
            parts.append("it got worse: the nearest rounding stays")
        parts.append(f"{self.changed:.1%} of the roundings changed")
        if self.undecided:
            parts.append(f"{self.undecided} undecided before hardening")
        return ", ".join(parts)


@dataclass
class RoundingReport:
    """All layers in the order in which they were rounded, and what it took.

    Attributes:
        layers: one record for each quantized linear layer.
        peak_cache_mb: the most that cached layer inputs and outputs took in memory.
        spilled_mb: what of them went to disk.
        peak_memory_mb: the process's largest memory so far; None where the system does not tell.
        resumed: how many layers came from a run that was interrupted.
    """

    layers: list[LayerRounding] = field(default_factory=list)
    peak_cache_mb: float = 0.0
    spilled_mb: float = 0.0
    peak_memory_mb: float | None = None
    resumed: int = 0

    def of(self, name: str) -> LayerRounding | None:
        """Returns the record of a layer."""
        return next((record for record in self.layers if record.name == name), None)

    def metrics(self) -> dict[str, float]:
        """Returns the metrics of the job: totals, and errors before and after for each layer."""
        rounded = [record for record in self.layers if record.solver is not None]
        metrics = {
            "adaround/layers": float(len(rounded)),
            "adaround/kept_nearest": float(sum(record.kept_nearest for record in rounded)),
            "adaround/undecided": float(sum(record.undecided for record in rounded)),
            "adaround/peak_cache_mb": self.peak_cache_mb,
            "adaround/spilled_mb": self.spilled_mb,
        }
        if self.peak_memory_mb is not None:
            metrics["adaround/peak_memory_mb"] = self.peak_memory_mb
        for record in rounded:
            metrics[f"adaround/{record.name}/changed"] = record.changed
            if record.error_before is not None and record.error_after is not None:
                metrics[f"adaround/{record.name}/error_before"] = record.error_before
                metrics[f"adaround/{record.name}/error_after"] = record.error_after
        return metrics
