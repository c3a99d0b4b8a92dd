"""How a sweep stands: what is done, failed and left, which job is best, what lies on the Pareto fronts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qpipe.sweep.attempts import FINISHED, RUNNING, Attempt
from qpipe.sweep.objectives import COSTS, Objective, quality
from qpipe.sweep.pareto import pareto_front


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a sweep stands.

    Attributes:
        name: of its jobs, as configured.
        attempts: one for each job that was begun, by number.
        total: how many jobs there are; None where a sweeper does not say.
        objectives: what jobs are compared by.
    """

    name: str
    attempts: list[Attempt]
    total: int | None
    objectives: list[Objective]

    @property
    def done(self) -> list[Attempt]:
        """Jobs that finished."""
        return [attempt for attempt in self.attempts if attempt.status == FINISHED]

    @property
    def failed(self) -> list[Attempt]:
        """Jobs that ended otherwise."""
        return [attempt for attempt in self.attempts if attempt.status not in (FINISHED, RUNNING)]

    @property
    def left(self) -> int:
        """How many jobs have not ended."""
        running = len(self.attempts) - len(self.done) - len(self.failed)
        return running if self.total is None else max(running, self.total - len(self.done) - len(self.failed))

    @property
    def progress(self) -> str:
        """Such as `5 of 8 done, 1 failed, 2 left`."""
        total = len(self.attempts) if self.total is None else self.total
        return f"{len(self.done)} of {total} done, {len(self.failed)} failed, {self.left} left"

    @property
    def best(self) -> Attempt | None:
        """The best job by the first objective; of equal ones the cheapest."""
        first = self.objectives[0]
        measured = [attempt for attempt in self.done if not math.isnan(value_of(attempt, first.metric))]
        sign = -1.0 if first.maximize else 1.0
        ranks = (first.metric, *COSTS)
        return min(
            measured,
            key=lambda attempt: [value_of(attempt, key) * (sign if key == first.metric else 1.0) for key in ranks],
            default=None,
        )

    @property
    def quality(self) -> Objective:
        """What costs are held against."""
        return quality(self.objectives)

    def front(self, cost: str) -> list[Attempt]:
        """Returns the jobs that no other one beats in both quality and cost, the cheapest first."""
        points = [(value_of(attempt, self.quality.metric), value_of(attempt, cost)) for attempt in self.done]
        front = [self.done[index] for index in pareto_front(points, (self.quality.maximize, False))]
        return sorted(front, key=lambda attempt: value_of(attempt, cost))


def value_of(attempt: Attempt, metric: str) -> float:
    """Returns a metric of a job; not a number where it has none."""
    return attempt.metrics.get(metric, math.nan)
