"""The runs below a sweep: each is one attempt at one of its jobs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qpipe.sweep.membership import IDENTITY, JOB, NUMBER, PARENT, SWEPT
from qpipe.tracking.orphans import is_alive
from qpipe.tracking.search import runs_matching
from qpipe.tracking.store import Store, mlflow_errors

if TYPE_CHECKING:
    from mlflow.entities import Run

FINISHED, RUNNING = "FINISHED", "RUNNING"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One run of a sweep's job.

    Attributes:
        run: MLflow's run.
        job: name of the job within its sweep.
        number: of the job.
        identity: hash of all that its result depends on.
        swept: its swept values under their short names.
    """

    run: Run
    job: str
    number: int
    identity: str
    swept: dict[str, str]

    @property
    def run_id(self) -> str:
        """MLflow's id."""
        return self.run.info.run_id

    @property
    def status(self) -> str:
        """MLflow's status: RUNNING, FINISHED, FAILED or KILLED."""
        return self.run.info.status

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each metric."""
        return self.run.data.metrics

    @property
    def is_alive(self) -> bool:
        """Whether a process of this machine still works at it."""
        return self.status == RUNNING and is_alive(self.run)

    @property
    def error(self) -> str | None:
        """Why it ended, where it did not finish."""
        return None if self.status in (FINISHED, RUNNING) else self.run.data.tags.get("error")


def attempts_of(store: Store, parent_id: str, condition: str | None = None) -> list[Attempt]:
    """Returns the attempts of a sweep, the newest first.

    Args:
        store: where the sweep is.
        parent_id: its run.
        condition: a further one, in MLflow's search language.
    """
    conditions = [f"tags.`{PARENT}` = '{parent_id}'", *([condition] if condition else [])]
    with mlflow_errors(store.location):
        runs = list(runs_matching(store.client, store.experiment_id, " and ".join(conditions)))
    return [_attempt(run) for run in runs if JOB in run.data.tags]


def latest(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Returns one attempt for each job, by number: the newest that finished, else the newest.

    Args:
        attempts: the newest first.
    """
    chosen: dict[str, Attempt] = {}
    for attempt in attempts:
        known = chosen.setdefault(attempt.job, attempt)
        if known.status not in (FINISHED, RUNNING) and attempt.status == FINISHED:
            chosen[attempt.job] = attempt
    return sorted(chosen.values(), key=lambda attempt: attempt.number)


def _attempt(run: Run) -> Attempt:
    tags, prefix = run.data.tags, f"{SWEPT}/"
    return Attempt(
        run=run,
        job=tags[JOB],
        number=int(tags.get(NUMBER, "0")),
        identity=tags.get(IDENTITY, ""),
        swept={key.removeprefix(prefix): value for key, value in tags.items() if key.startswith(prefix)},
    )
