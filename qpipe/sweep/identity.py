"""By what a job and a sweep are recognized when the same command is given again."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import qpipe
from qpipe import targets
from qpipe.config.fingerprint import fingerprint
from qpipe.config.schema import JobConfig
from qpipe.content import sha256, targets_in, with_contents
from qpipe.models.identity import model_identity
from qpipe.sweep.space import ONE_PLACE
from qpipe.tracking.provenance import pinned

NOT_THE_RESULT = (*ONE_PLACE, "dry_run")
"""Sections and keys that a job's result does not depend on."""


def job_identity(config: JobConfig) -> str:
    """Returns a hash that is equal for jobs with the same result.

    Files count with name and content, wherever they are; of each `_target_` the source of its module counts, and of
    qpipe itself every source file, with the versions of the packages that compute.

    Args:
        config: the resolved configuration.
    """
    settings = dataclasses.asdict(config)
    for key in (*NOT_THE_RESULT, "model"):
        del settings[key]
    named = with_contents(settings)
    sources = {path: [sha256(file) for file in targets.source_files(path)] for path in sorted(set(targets_in(named)))}
    return fingerprint(model_identity(config.model), type(config.data).__name__, named, sources, code_version())


def command_identity(overrides: Sequence[str], config_dir: Path | None) -> str:
    """Returns a hash that is equal for the same swept command, wherever its results go and however it is launched.

    Args:
        overrides: as Hydra takes them.
        config_dir: the user's own configuration folder.
    """
    counted = [text for text in overrides if not _is_apart(text)]
    return fingerprint(sorted(counted), None if config_dir is None else str(config_dir), code_version())


@functools.cache
def code_version() -> dict[str, Any]:
    """Returns what computes: the versions of the packages, and a hash of qpipe's own source files."""
    package = Path(qpipe.__file__).parent
    files = sorted(package.rglob("*.py"))
    versions = {name: pinned(name) for name in ("qpipe", "keras", "tensorflow", "numpy")}
    return {"versions": versions, "source": fingerprint([[str(f.relative_to(package)), sha256(f)] for f in files])}


def _is_apart(override: str) -> bool:
    key = override.lstrip("+~").partition("=")[0]
    if key == "sweep" or key.startswith("hydra.sweeper.params"):
        return False
    return key.split(".")[0] in NOT_THE_RESULT or key.startswith(("hydra.", "hydra/"))
