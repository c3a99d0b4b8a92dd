"""The run of a sweep, of which the runs of its jobs are children."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from qpipe.config.schema import SweepConfig, TrackingConfig
from qpipe.errors import TrackingError
from qpipe.sweep.attempts import RUNNING, Attempt, attempts_of, latest
from qpipe.sweep.membership import label, short_names
from qpipe.sweep.objectives import objectives
from qpipe.sweep.outcome import Outcome, value_of
from qpipe.sweep.plan import SweepPlan
from qpipe.tracking.orphans import close_as_killed, close_orphans, is_alive
from qpipe.tracking.provenance import PID, provenance_tags
from qpipe.tracking.run import TrackedRun
from qpipe.tracking.search import runs_matching
from qpipe.tracking.store import Store, mlflow_errors, open_store

if TYPE_CHECKING:
    from mlflow.entities import Run

COMMAND, NAME, KEYS, JOBS = "qpipe.sweep.command", "qpipe.sweep.name", "qpipe.sweep.keys", "qpipe.sweep.jobs"
KIND, PROGRESS, BEST = "qpipe.sweep.kind", "qpipe.sweep.progress", "qpipe.sweep.best"
SPACE = "space"
SEARCH, GRID = "search", "grid"


class Parent:
    """A sweep's run, as each of its processes sees it: all that is known about it is read from the store.

    Args:
        store: where it is.
        run_id: MLflow's id.
    """

    def __init__(self, store: Store, run_id: str):
        self.store = store
        self.run = TrackedRun(store, run_id)
        with mlflow_errors(store.location):
            self.tags: dict[str, str] = store.client.get_run(run_id).data.tags

    @classmethod
    def attached(cls, tracking: TrackingConfig, runs_dir: Path, run_id: str) -> Parent:
        """Opens the store in another process than the one that started the sweep.

        Raises:
            TrackingError: the store does not answer in time, or refuses.
        """
        return cls(open_store(tracking, runs_dir=runs_dir), run_id)

    @property
    def is_search(self) -> bool:
        """Whether a sweeper chooses the values."""
        return self.tags[KIND] == SEARCH

    @property
    def keys(self) -> list[str]:
        """The swept keys, as they stand on the command line."""
        return json.loads(self.tags[KEYS])

    def space(self) -> dict[str, str]:
        """Returns the swept values of each key, under its short name."""
        prefix = f"{SPACE}/"
        return {key.removeprefix(prefix): text for key, text in self.tags.items() if key.startswith(prefix)}

    def outcome(self, config: SweepConfig) -> Outcome:
        """Returns how the sweep stands."""
        jobs = self.tags[JOBS]
        return Outcome(
            name=self.tags[NAME],
            attempts=latest(attempts_of(self.store, self.run.id)),
            total=int(jobs) if jobs else None,
            objectives=objectives(config),
        )

    def record(self, outcome: Outcome) -> None:
        """Logs how the sweep stands: progress and the best job.

        Raises:
            TrackingError: the store refuses or does not answer.
        """
        counts = {"done": len(outcome.done), "failed": len(outcome.failed), "left": outcome.left}
        self.run.log_metrics({f"sweep/{name}": count for name, count in counts.items()})
        self.run.set_tags({PROGRESS: outcome.progress})
        if (best := outcome.best) is not None:
            self.run.set_tags({BEST: best.run_id, f"{BEST}.job": label(best.swept)})
            self.run.log_metrics({f"best/{entry.metric}": value_of(best, entry.metric) for entry in outcome.objectives})
        self.run.flush()

    def close_open_attempts(self) -> None:
        """Ends attempts as KILLED whose process is gone, or can't be asked because it is another machine's."""
        with mlflow_errors(self.store.location):
            for attempt in attempts_of(self.store, self.run.id, f"attributes.status = '{RUNNING}'"):
                if not attempt.is_alive:
                    close_as_killed(self.store.client, attempt.run, "its process ended without closing the run")

    def open_attempts(self) -> list[Attempt]:
        """Returns the attempts that a process of this machine still works at."""
        attempts = attempts_of(self.store, self.run.id, f"attributes.status = '{RUNNING}'")
        return [attempt for attempt in attempts if attempt.is_alive]


def open_parent(plan: SweepPlan) -> Parent:
    """Makes the run of a sweep, or takes up the one that an earlier start of the same command has left.

    Database and experiment are made here where they do not exist, so that no job has to.

    Raises:
        TrackingError: the store does not answer or refuses, or the same sweep is running.
    """
    store = open_store(plan.config.tracking, runs_dir=plan.runs_dir)
    with mlflow_errors(store.location):
        close_orphans(store.client, store.experiment_id)
        left = None if plan.is_search or plan.config.sweep.rerun else _left_behind(store, plan)
        if left is None:
            tags = {**provenance_tags(), **plan.config.tracking.tags, **_tags(plan)}
            created = store.client.create_run(store.experiment_id, run_name=_run_name(plan), tags=tags)
            parent = Parent(store, created.info.run_id)
        else:
            store.client.update_run(left.info.run_id, status=RUNNING)
            parent = Parent(store, left.info.run_id)
            parent.run.set_tags(provenance_tags())
            parent.close_open_attempts()
            _forget_error(parent, left)
    parent.record(parent.outcome(plan.config.sweep))
    return parent


def _left_behind(store: Store, plan: SweepPlan) -> Run | None:
    """Returns the newest run of the same command; the sweep must not be running."""
    found = next(runs_matching(store.client, store.experiment_id, f"tags.`{COMMAND}` = '{plan.identity}'"), None)
    if found is not None and found.info.status == RUNNING and is_alive(found):
        raise TrackingError(
            f"The same sweep is running in process {found.data.tags.get(PID)} (run {found.info.run_id}): wait for it, "
            "or start a second one with sweep.rerun=true."
        )
    return found


def _forget_error(parent: Parent, left: Run) -> None:
    if "error" in left.data.tags:
        parent.store.client.delete_tag(left.info.run_id, "error")


def _tags(plan: SweepPlan) -> dict[str, str]:
    names = short_names(list(plan.space.swept))
    return {
        "qpipe.command": " ".join(plan.command),
        COMMAND: plan.identity,
        NAME: plan.config.name,
        KEYS: json.dumps(list(plan.space.swept)),
        KIND: SEARCH if plan.is_search else GRID,
        JOBS: "" if plan.jobs is None else str(plan.jobs),
        **{f"{SPACE}/{names[key]}": values for key, values in plan.space.shown.items()},
    }


def _run_name(plan: SweepPlan) -> str:
    names = " × ".join(short_names(list(plan.space.swept)).values())
    return f"{plan.config.name} sweep: {names}" if names else f"{plan.config.name} sweep"
