"""The closing table of a sweep, and the sentences below it."""

from __future__ import annotations

import math

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from qpipe.sweep.attempts import FINISHED, RUNNING, Attempt
from qpipe.sweep.membership import label
from qpipe.sweep.objectives import COSTS
from qpipe.sweep.outcome import Outcome, value_of

UNKNOWN = "–"
ON_FRONT = "●"
STATES = {FINISHED: "done", RUNNING: "running", "FAILED": "failed", "KILLED": "killed"}
SHORT_COSTS = {"size/packed_weight_bytes": "weight bytes", "cost/bit_operations": "bit operations"}


def closing_table(outcome: Outcome) -> Table:
    """Returns one row for each job: swept values, state, objectives, costs, and on which Pareto front it is."""
    names = list(dict.fromkeys(name for attempt in outcome.attempts for name in attempt.swept))
    metrics = list(dict.fromkeys([*(entry.metric for entry in outcome.objectives if entry.metric not in COSTS)]))
    fronts = {cost: {attempt.run_id for attempt in outcome.front(cost)} for cost in COSTS}
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in ("job", *names, "state", *metrics):
        table.add_column(title, justify="left" if title in ("state", *names) else "right", no_wrap=True)
    for cost in COSTS:
        table.add_column(SHORT_COSTS[cost], justify="right", no_wrap=True)
        table.add_column("front", justify="center")
    best = outcome.best
    for attempt in outcome.attempts:
        cells = [str(attempt.number), *(attempt.swept.get(name, UNKNOWN) for name in names)]
        cells += [STATES.get(attempt.status, attempt.status), *(_number(value_of(attempt, key)) for key in metrics)]
        for cost in COSTS:
            cells += [_number(value_of(attempt, cost)), ON_FRONT if attempt.run_id in fronts[cost] else ""]
        table.add_row(*cells, style="bold" if best is not None and attempt.run_id == best.run_id else None)
    return table


def closing_lines(outcome: Outcome) -> list[str]:
    """Returns what belongs below the table: the best job, and of each failed one why it failed."""
    lines = [f"sweep: {outcome.progress}; ● is on the Pareto front of {outcome.quality.metric} against this cost"]
    if (best := outcome.best) is not None:
        first = outcome.objectives[0].metric
        lines.append(f"best by {first}: {_named(best)}, {_number(value_of(best, first))}, run {best.run_id}")
    lines += [
        f"{STATES[attempt.status]}: {_named(attempt)}: {escape(attempt.error or UNKNOWN)}" for attempt in outcome.failed
    ]
    return lines


def _named(attempt: Attempt) -> str:
    return escape(f"job {attempt.number} ({label(attempt.swept)})")


def _number(value: float) -> str:
    if math.isnan(value):
        return UNKNOWN
    return f"{value:,.0f}" if value == int(value) and abs(value) > 1 else f"{value:.4f}"
