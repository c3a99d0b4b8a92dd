"""Several jobs of one command, and what else Hydra's own command line does."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ValueType
from omegaconf import DictConfig

from qpipe.config.composition import CONFIG_NAME, VERSION_BASE, composed, to_job_config
from qpipe.config.errors import HYDRA_FAILURES, plain_errors
from qpipe.config.location import conf_directory
from qpipe.config.overrides import rewrite_overrides
from qpipe.config.registry import register_schema
from qpipe.config.validation import validate
from qpipe.launch import command_line, execute

USER_PROVIDER = "command-line"
"""Hydra's name for what `--config-dir` adds."""
LISTED_VALUES = (ValueType.CHOICE_SWEEP, ValueType.SIMPLE_CHOICE_SWEEP, ValueType.RANGE_SWEEP)


def sweep(overrides: Sequence[str], config_dir: Path | None) -> None:
    """Runs one job for each combination of the swept values, through Hydra's sweeper and launcher.

    Every value that is listed on the command line is checked before the first job starts.

    Raises:
        QpipeError: of the first job that failed; the others have run.
    """
    with plain_errors(config_dir):
        jobs = list(_jobs_to_check(rewrite_overrides(overrides)))
    for job in jobs:
        with composed(job, config_dir) as tree:
            validate(to_job_config(tree))
    run_hydra(["--multirun"], overrides, config_dir)


def run_hydra(options: Sequence[str], overrides: Sequence[str], config_dir: Path | None) -> None:
    """Calls Hydra's own command line.

    Args:
        options: Hydra's options, such as `["--multirun"]`.
        overrides: as typed.
        config_dir: the user's own configuration folder, absolute.
    """
    register_schema()
    if config_dir is not None:
        options = [*options, "--config-dir", str(config_dir)]
    application = hydra.main(version_base=VERSION_BASE, config_path=str(conf_directory()), config_name=CONFIG_NAME)
    with _hydra_command_line([*options, *rewrite_overrides(overrides)]), plain_errors(config_dir, HYDRA_FAILURES):
        application(run_sweep_job)()


def run_sweep_job(tree: DictConfig) -> None:
    """Runs one job of a sweep: Hydra's task function, also in another process.

    Args:
        tree: the job's composed configuration without the `hydra` node.
    """
    register_schema()  # a launcher's worker process needs the resolver as well
    config = to_job_config(tree)
    job = HydraConfig.get()
    user_folders = [Path(source.path) for source in job.runtime.config_sources if source.provider == USER_PROVIDER]
    command = command_line(list(job.overrides.task), user_folders[0] if user_folders else None)
    execute(config, warnings=validate(config), command=command)


def _jobs_to_check(overrides: Sequence[str]) -> Iterator[list[str]]:
    """Yields one job for each listed value, the other keys at their first value: the sum, not the product."""
    choices: list[list[str]] = []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.value_type in LISTED_VALUES:
            choices.append([f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()])
        elif not override.is_sweep_override():
            choices.append([str(override.input_line)])
    first = [values[0] for values in choices]
    yield first
    for index, values in enumerate(choices):
        for value in values[1:]:
            yield [*first[:index], value, *first[index + 1 :]]


@contextmanager
def _hydra_command_line(arguments: Sequence[str]) -> Iterator[None]:
    """Lets Hydra read its arguments, and raise errors instead of printing them."""
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = ["qpipe", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = before[0]
        if before[1] is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before[1]
