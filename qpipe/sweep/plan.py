"""What a multirun is going to do, with every mistake found that can be found before its first job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from omegaconf import DictConfig

from qpipe.config.composition import composed, to_job_config
from qpipe.config.errors import plain_errors
from qpipe.config.overrides import rewrite_overrides
from qpipe.config.schema import JobConfig
from qpipe.config.sweep_validation import validate_objectives
from qpipe.config.validation import validate
from qpipe.errors import ConfigError
from qpipe.launch import command_line
from qpipe.sweep.identity import command_identity
from qpipe.sweep.space import SweptSpace, read_space


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What a multirun is going to do.

    Attributes:
        config: of the first job; its `tracking`, `runs_dir` and `sweep` are those of all jobs.
        command: the command line that repeats the sweep.
        identity: hash by which the same command is recognized.
        space: what is swept.
        is_search: whether a sweeper chooses the values; else the jobs are all combinations.
        jobs: how many there will be; None where the sweeper does not say.
    """

    config: JobConfig
    command: list[str]
    identity: str
    space: SweptSpace
    is_search: bool
    jobs: int | None

    @property
    def runs_dir(self) -> Path:
        """Where results go."""
        return Path(self.config.runs_dir)


def plan_sweep(overrides: Sequence[str], config_dir: Path | None) -> SweepPlan:
    """Reads a multirun's overrides, and checks each of the swept values.

    Args:
        overrides: as typed.
        config_dir: the user's own configuration folder, absolute.

    Raises:
        ConfigError: something in one of the jobs is wrong.
    """
    arguments = rewrite_overrides(overrides)
    with plain_errors(config_dir), composed([], config_dir):
        typed = read_space(arguments)
    with composed(typed.first_job, config_dir) as tree:
        sweeper = tree.hydra.sweeper
        parameters = dict(sweeper.params) if sweeper.get("params") else {}
        is_search = sweeper._target_ != _name_of(BasicSweeper)
        with plain_errors(config_dir):
            space = read_space(arguments, parameters)
        if not is_search and space.jobs is None:
            raise ConfigError(_interval_in_grid(space))
        jobs = _trials(sweeper) if is_search else space.jobs
    config = _checked_job(space.first_job, config_dir)
    for job in space.each_value_once():
        _checked_job(job, config_dir)
    command = command_line(["--multirun", *arguments], config_dir)
    return SweepPlan(
        config=config,
        command=command,
        identity=command_identity(arguments, config_dir),
        space=space,
        is_search=is_search,
        jobs=jobs,
    )


def _checked_job(overrides: Sequence[str], config_dir: Path | None) -> JobConfig:
    with composed(overrides, config_dir) as tree:
        config = to_job_config(tree)
    validate(config)
    validate_objectives(config.sweep, config.data.task)
    return config


def _trials(sweeper: DictConfig) -> int | None:
    """Returns how many jobs a search starts, as far as its settings say."""
    return sweeper.get("n_trials")


def _interval_in_grid(space: SweptSpace) -> str:
    key, values = next((key, text) for key, text in space.shown.items() if text.startswith("interval("))
    return f"{key}={values}: a grid takes listed values or range(...); an interval needs a search, such as sweep=tpe"


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
