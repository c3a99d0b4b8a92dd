"""What a sweep leaves behind in its run: the table of its jobs as JSON, CSV and description, and the Pareto plot."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from qpipe.sweep.membership import label
from qpipe.sweep.objectives import COSTS
from qpipe.sweep.outcome import Outcome, value_of
from qpipe.sweep.parent import Parent
from qpipe.sweep.pareto_plot import fronts_figure
from qpipe.tracking.location import MODEL_TRAINING

NOTE = "mlflow.note.content"
"""Tag that the MLflow UI shows as the run's description."""
ON_FRONT = "on_front/"
"""Prefix of the columns that say whether a job is on the Pareto front against a cost."""


def keep_report(parent: Parent, outcome: Outcome) -> None:
    """Stores `sweep/jobs.json`, `sweep/jobs.csv`, `plots/pareto.png` and the description in the sweep's run.

    Raises:
        TrackingError: the store refuses or does not answer.
    """
    rows = table_rows(outcome)
    parent.run.log_json("sweep/jobs.json", summary(outcome, parent.space(), rows))
    parent.run.log_text("sweep/jobs.csv", rows_as_csv(rows))
    page = compare_page(parent.run.experiment_id, [attempt.run_id for attempt in outcome.done])
    parent.run.set_tags({NOTE: description(outcome, rows, page)})
    if (figure := fronts_figure(outcome)) is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pareto.png"
            figure.savefig(path, dpi=110)
            parent.run.log_file(path, "plots")


def table_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """Returns one row for each job: number, swept values, status, objectives, costs, fronts, run and error."""
    metrics = dict.fromkeys([*(entry.metric for entry in outcome.objectives), *COSTS])
    fronts = {cost: {attempt.run_id for attempt in outcome.front(cost)} for cost in COSTS}
    rows = []
    for attempt in outcome.attempts:
        measured = {metric: _known(value_of(attempt, metric)) for metric in metrics}
        on_front = {f"{ON_FRONT}{cost}": attempt.run_id in fronts[cost] for cost in COSTS}
        rows.append(
            {
                "job": attempt.number,
                **attempt.swept,
                "status": attempt.status,
                **measured,
                **on_front,
                "run_id": attempt.run_id,
                "error": attempt.error,
            }
        )
    return rows


def summary(outcome: Outcome, space: dict[str, str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the whole result as plain data."""
    best = outcome.best
    return {
        "name": outcome.name,
        "space": space,
        "progress": {
            "jobs": outcome.total,
            "done": len(outcome.done),
            "failed": len(outcome.failed),
            "left": outcome.left,
        },
        "objectives": [
            {"metric": entry.metric, "direction": "maximize" if entry.maximize else "minimize"}
            for entry in outcome.objectives
        ],
        "best": None if best is None else {"job": best.number, "run_id": best.run_id, **best.swept},
        "pareto": {cost: [attempt.number for attempt in outcome.front(cost)] for cost in COSTS},
        "jobs": rows,
    }


def compare_page(experiment_id: str, run_ids: list[str]) -> str:
    """Returns the address of MLflow's page that compares runs, from the `#` on."""
    runs, experiments = (quote(json.dumps(ids)) for ids in (run_ids, [experiment_id]))
    return f"#/compare-runs?runs={runs}&experiments={experiments}&{MODEL_TRAINING}"


def description(outcome: Outcome, rows: list[dict[str, Any]], page: str) -> str:
    """Returns the table as Markdown, for the run's page, with a link to the page that compares the jobs."""
    best = outcome.best
    lines = [f"**{outcome.progress}** ([compare the jobs]({page}))"]
    if best is not None:
        first = outcome.objectives[0].metric
        lines += ["", f"Best by `{first}`: **{label(best.swept)}**, {value_of(best, first):.4f}"]
    if rows:
        titles = [title for title in _titles(rows) if title != "run_id" and not title.startswith(ON_FRONT)]
        lines += ["", f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
        lines += [f"| {' | '.join(_cell(row, title) for title in titles)} |" for row in rows]
        lines += ["", "● is on the Pareto front: no other job is as good and cheaper, or as cheap and better."]
    return "\n".join(lines)


def rows_as_csv(rows: list[dict[str, Any]]) -> str:
    """Returns the rows as CSV with a line of titles."""
    titles = _titles(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, titles, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _titles(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _cell(row: dict[str, Any], title: str) -> str:
    value = row.get(title)
    if isinstance(value, float):
        shown = f"{value:,.0f}" if value == int(value) and abs(value) > 1 else f"{value:.4f}"
        return f"{shown} ●" if row.get(f"{ON_FRONT}{title}") else shown
    return "" if value is None else " ".join(str(value).replace("|", "\\|").split())
