"""What Hydra calls when a multirun starts, when a job of it has ended, and when the multirun has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from qpipe.config.schema import SweepConfig, TrackingConfig
from qpipe.reports.terminal import Terminal
from qpipe.sweep import current
from qpipe.sweep.membership import PARENT_VARIABLE


class SweepNotStarted(BaseException):
    """The sweep's run can't be made. Hydra makes warnings of a callback's exceptions; this one it lets through.

    Args:
        reason: what was raised.
    """

    def __init__(self, reason: Exception):
        super().__init__(str(reason))
        self.reason = reason


class SweepCallback(Callback):
    """Makes the sweep's run in MLflow before any job starts, and brings it up to date after each.

    It holds no state: launchers send copies of it to other processes and machines.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Makes the sweep's run, and lets every job know it, wherever the launcher runs the job."""
        sweep = current.sweep()
        if sweep is None:
            return
        try:
            run_id = sweep.begin()
        except Exception as error:
            raise SweepNotStarted(error) from error
        config.hydra.overrides.hydra.append(f"++hydra.job.env_set.{PARENT_VARIABLE}={run_id}")

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Records progress and the best job, in the process of the job."""
        run_id = config.hydra.job.env_set.get(PARENT_VARIABLE)
        if run_id is None:
            return
        from qpipe.sweep.parent import Parent

        tracking, settings = (OmegaConf.to_object(node) for node in (config.tracking, config.sweep))
        assert isinstance(tracking, TrackingConfig)
        assert isinstance(settings, SweepConfig)
        parent = Parent.attached(tracking, Path(config.runs_dir), run_id)
        outcome = parent.outcome(settings)
        parent.record(outcome)
        Terminal().say(f"[bold]sweep:[/] {outcome.progress}")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Notes that the sweeper has started all jobs that it wanted."""
        if (sweep := current.sweep()) is not None:
            sweep.is_complete = True
