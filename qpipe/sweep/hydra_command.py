"""What Hydra's own command line does for qpipe: multirun, and questions about the configuration."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra

from qpipe.config.composition import CONFIG_NAME, VERSION_BASE
from qpipe.config.errors import HYDRA_FAILURES, plain_errors
from qpipe.config.location import conf_directory
from qpipe.config.overrides import rewrite_overrides
from qpipe.config.registry import register_schema
from qpipe.sweep.job import run_sweep_job


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
