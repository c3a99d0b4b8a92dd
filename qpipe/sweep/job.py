"""One job of a sweep: Hydra's task function, in whatever process the launcher runs it."""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from qpipe.config.composition import to_job_config
from qpipe.config.registry import register_schema
from qpipe.config.schema import JobConfig, TrackingConfig
from qpipe.config.validation import validate
from qpipe.errors import QpipeError, StorageError
from qpipe.launch import command_line, execute
from qpipe.lock import locked
from qpipe.sweep import current
from qpipe.sweep.attempts import FINISHED, Attempt, attempts_of
from qpipe.sweep.identity import job_identity
from qpipe.sweep.membership import IDENTITY, PARENT_VARIABLE, Membership, label, membership, short_names
from qpipe.sweep.objectives import objective_values, objectives
from qpipe.sweep.parent import Parent
from qpipe.sweep.worker import job_of_worker
from qpipe.tracking.parameters import flat_parameters
from qpipe.tracking.run import start_run

USER_PROVIDER = "command-line"
"""Hydra's name for what `--config-dir` adds."""
NO_VALUE = float("nan")
logger = logging.getLogger("qpipe")


class JobFailedError(QpipeError):
    """A job of a sweep that failed, as the sweeper is told; any process can read it, whatever the cause was."""


def run_sweep_job(tree: DictConfig) -> Any:
    """Runs one job of a sweep, unless an earlier start of the same command has finished it.

    Args:
        tree: the job's composed configuration without the `hydra` node.

    Returns:
        The value of `sweep.metric`, a tuple of several. Of a job that failed: not a number, so that the other jobs of
        a grid run; the reason is in MLflow.

    Raises:
        JobFailedError: the job failed, and the sweeper counts failures itself.
    """
    register_schema()  # a launcher's worker process needs the resolver as well
    sweep_id = os.environ.get(PARENT_VARIABLE)
    if sweep_id is None:
        return _run(to_job_config(tree), None)
    at_once = HydraConfig.get().launcher.get("n_jobs", 1)  # joblib's; other launchers give each job its own cores
    with job_of_worker(at_once) if current.sweep() is None else nullcontext():
        return _run_and_keep(tree, sweep_id)


def _run_and_keep(tree: DictConfig, sweep_id: str) -> Any:
    job = _Job(tree, Parent.attached(_tracking(tree), Path(tree.runs_dir), sweep_id))
    try:
        return job.run()
    except QpipeError as error:
        job.keep_failure(error)
        message = str(error)
    except Exception as error:
        job.keep_failure(error)
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
    logger.error("job %d (%s) failed: %s", job.number, label(job.swept), message)
    if "max_failure_rate" in HydraConfig.get().sweeper:
        raise JobFailedError(message)
    return job.no_values()


@dataclass
class _Job:
    tree: DictConfig
    parent: Parent

    def __post_init__(self):
        hydra = HydraConfig.get()
        self.number = int(hydra.job.num)
        self.directory = str(Path(hydra.runtime.output_dir).absolute())
        values = dict(text.split("=", 1) for text in hydra.overrides.task if "=" in text)
        self.names = short_names(self.parent.keys)
        self.swept = {short: values[key] for key, short in self.names.items() if key in values}
        self.name = f"{self.number}: {label(self.swept)}" if self.parent.is_search else label(self.swept)
        self.config: JobConfig | None = None
        self.identity = ""

    def run(self) -> Any:
        config = self.config = to_job_config(self.tree)
        self.identity = job_identity(config)
        if self.parent.is_search:
            return _run(config, self._membership(config.name))
        with self._alone():
            finished = self._finished_before()
            if finished is not None:
                logger.info("job %d (%s) has finished before: run %s", self.number, self.name, finished.run_id)
                return objective_values(finished.metrics, config.sweep)
            return _run(config, self._membership(config.name))

    def keep_failure(self, error: Exception) -> None:
        """Makes a run of a failure that came before the job's run began."""
        tagged = f"tags.`qpipe.directory` = '{self.directory}'"
        if attempts_of(self.parent.store, self.parent.run.id, tagged):
            return
        member = self._membership(str(self.tree.get("name", "job")))
        tags = {**member.tags, "qpipe.directory": self.directory}
        try:
            with start_run(
                _tracking(self.tree),
                runs_dir=Path(self.tree.runs_dir),
                name=member.name,
                parameters=member.parameters,
                tags=tags,
            ):
                raise error
        except type(error):
            return

    def no_values(self) -> Any:
        count = len(objectives(self.config.sweep)) if self.config else 1
        is_one = self.config is None or isinstance(self.config.sweep.metric, str)
        return NO_VALUE if is_one else (NO_VALUE,) * count

    def _alone(self) -> AbstractContextManager[object]:
        """Waits while another process does the same job of the same sweep: one that outlived a launcher's death."""
        path = Path(self.tree.runs_dir) / "cache" / "sweeps" / f"{self.parent.run.id}-{self.identity}.lock"
        try:
            return locked(path, f"job {self.number} ({self.name}) is running in another process")
        except OSError as error:
            reason = error.strerror or error
            raise StorageError(
                f"{path} can't be written ({reason}): get permission, or set runs_dir to another folder"
            ) from error

    def _finished_before(self) -> Attempt | None:
        attempts = attempts_of(self.parent.store, self.parent.run.id, f"tags.`{IDENTITY}` = '{self.identity}'")
        return next((attempt for attempt in attempts if attempt.status == FINISHED), None)

    def _membership(self, name: str) -> Membership:
        parameters = {} if self.config is None else flat_parameters(self.config)
        return membership(
            name,
            self.parent.run.id,
            job=self.name,
            number=self.number,
            swept=self.swept,
            groups=[short for key, short in self.names.items() if key.lstrip("+") not in parameters],
            identity=self.identity,
        )


def _run(config: JobConfig, sweep: Membership | None) -> Any:
    warnings = validate(config)
    overrides = HydraConfig.get()
    user_folders = [
        Path(source.path) for source in overrides.runtime.config_sources if source.provider == USER_PROVIDER
    ]
    command = command_line(list(overrides.overrides.task), user_folders[0] if user_folders else None)
    result = execute(config, warnings=warnings, command=command, sweep=sweep)
    return None if config.dry_run else objective_values(result.metrics, config.sweep)


def _tracking(tree: DictConfig) -> TrackingConfig:
    tracking = OmegaConf.to_object(tree.tracking)
    assert isinstance(tracking, TrackingConfig)
    return tracking
