"""Runs one job: compose, validate, give it a folder, hand it to the pipeline."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import run_job as run_hydra_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from qpipe.config.composition import CONFIG_NAME, composed, to_job_config
from qpipe.config.errors import plain_errors
from qpipe.config.location import user_directory
from qpipe.config.overrides import rewrite_overrides
from qpipe.config.schema import JobConfig
from qpipe.config.validation import validate
from qpipe.errors import ConfigError, QpipeError
from qpipe.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from qpipe.pipeline import JobResult
    from qpipe.sweep.membership import Membership

TRACE_FILE = "traceback.txt"
log = logging.getLogger("qpipe")


def run(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> JobResult:
    """Runs one job, as `python -m qpipe` does with the same overrides.

    Args:
        overrides: as on the command line, such as `["experiment=mobilenet_8bit", "seed=1"]`.
        config_dir: a folder with configuration files of your own, as `--config-dir` takes it.

    Returns:
        The job's result: `metrics`, `model`, `run_id`, `directory`.

    Raises:
        QpipeError: something that the user can mend is wrong; nothing was computed if it is a `ConfigError`.

    Example:
        >>> result = qpipe.run(["experiment=mobilenet_8bit_ptq", "debug=fast"])
        >>> result.metrics["quantized/accuracy"]
    """
    return launch(overrides, user_directory(config_dir), configure_logging=False)


def launch(overrides: Sequence[str], config_dir: Path | None, *, configure_logging: bool) -> JobResult:
    """Runs one job in a folder of its own.

    Args:
        overrides: as on the command line.
        config_dir: the user's own configuration folder, absolute.
        configure_logging: whether logging is set up for the whole process, as an application does.

    Raises:
        QpipeError: something that the user can mend is wrong.
    """
    with composed(overrides, config_dir) as tree:
        _expand_runs_dir(tree)
        config = to_job_config(tree)
        warnings = validate(config)
        if tree.hydra.mode == RunMode.MULTIRUN:
            raise ConfigError("hydra.mode: MULTIRUN needs --multirun on the command line")
        if tree.hydra.sweeper.get("params"):
            raise ConfigError("hydra.sweeper.params: values to sweep (sweep=...) need --multirun on the command line")
        tree.hydra.mode = RunMode.RUN
        _make_directory(tree)
        command = command_line(rewrite_overrides(overrides), config_dir)
        callbacks = Callbacks(tree)
        callbacks.on_run_start(config=tree, config_name=CONFIG_NAME)
        job = run_hydra_job(
            task_function=lambda _: execute(config, warnings=warnings, command=command),
            config=tree,
            job_dir_key="hydra.run.dir",
            job_subdir_key=None,
            hydra_context=HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=callbacks),
            configure_logging=configure_logging,
        )
        callbacks.on_run_end(config=tree, config_name=CONFIG_NAME, job_return=job)
        with contextlib.redirect_stderr(io.StringIO()):  # Hydra announces the failure that our caller tells
            return job.return_value


def execute(
    config: JobConfig, *, warnings: Sequence[str], command: list[str], sweep: Membership | None = None
) -> JobResult:
    """Hands a validated job to the pipeline, inside Hydra's job context.

    An unexpected error leaves its stack trace in the job's folder, and a note on the error says where.
    """
    directory = Path(HydraConfig.get().runtime.output_dir)
    for warning in warnings:
        log.warning(warning)
    try:
        check_sources(config)
        import_tensorflow()
        from qpipe.pipeline import run_job

        return run_job(config, directory=directory, command=command, sweep=sweep)
    except QpipeError:
        raise
    except Exception as error:
        trace = directory / TRACE_FILE
        trace.write_text(traceback.format_exc(), encoding="utf-8")
        error.add_note(f"the stack trace is in {trace}")
        raise


def check_sources(config: JobConfig) -> None:
    """Checks names, files and the tracking store, before anything heavy is imported.

    Raises:
        QpipeError: a name is unknown, a file is missing, unreadable or foreign, or the store does not answer.
    """
    from qpipe.data import check_data_source
    from qpipe.models import check_model_source
    from qpipe.tracking.store import open_store
    from qpipe.training import check_training

    check_model_source(config.model)
    check_data_source(config.data)
    check_training(config.training)
    if not config.dry_run:
        open_store(config.tracking, runs_dir=Path(config.runs_dir))


def command_line(overrides: Sequence[str], config_dir: Path | None) -> list[str]:
    """Returns the command that runs the same job again."""
    options = ["--config-dir", str(config_dir)] if config_dir else []
    return ["python", "-m", "qpipe", *options, *overrides]


def _expand_runs_dir(tree: DictConfig) -> None:
    """Replaces a leading `~` of `runs_dir` by the home folder it stands for."""
    with plain_errors():
        text = tree.runs_dir
    if text.startswith("~"):
        try:
            tree.runs_dir = str(Path(text).expanduser())
        except RuntimeError:
            raise ConfigError(f"runs_dir: {text.split('/')[0]} of {text!r} is no known home folder") from None


def _make_directory(tree: DictConfig) -> None:
    with plain_errors():
        directory = Path(tree.hydra.run.dir)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(
            f"runs_dir: can't create the folder {str(directory)!r} ({reason}); give runs_dir=PATH"
        ) from error
