"""The part of the schema that says what a multirun looks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(kw_only=True)
class SweepConfig:
    """What the jobs of a multirun are compared by; a single job looks at none of it."""

    metric: Any = "quantized/accuracy"
    """Metric by which the best job is found, and which a search gets; a list where there are several objectives."""
    direction: Any = "maximize"
    """`maximize` or `minimize`; a list, one for each metric, where there are several objectives."""
    rerun: bool = False
    """Whether jobs run again that an earlier start of the same command has finished."""
