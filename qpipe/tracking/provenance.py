"""Tags that say where a run comes from: machine, process, code and versions."""

from __future__ import annotations

import getpass
import platform
import subprocess
from importlib import metadata

from qpipe.tracking.process import host_name, own_process

HOST, PID, PROCESS_START = "qpipe.host", "qpipe.pid", "qpipe.process_start"

_DISTRIBUTIONS = {
    "qpipe": ("qpipe",),
    "keras": ("keras",),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tensorflow-intel", "tf-nightly"),
    "mlflow": ("mlflow", "mlflow-skinny"),
    "numpy": ("numpy",),
}


def provenance_tags() -> dict[str, str]:
    """Tags of a new run."""
    pid, started = own_process()
    tags = {
        HOST: host_name(),
        PID: str(pid),
        PROCESS_START: started,
        "qpipe.version.python": platform.python_version(),
        "mlflow.source.name": "qpipe",
        "mlflow.source.type": "LOCAL",
    }
    for package in _DISTRIBUTIONS:
        if (requirement := pinned(package)) is not None:
            tags["qpipe.version" if package == "qpipe" else f"qpipe.version.{package}"] = requirement.partition("==")[2]
    if (user := _user()) is not None:
        tags["mlflow.user"] = user
    if (commit := git_commit()) is not None:
        tags["mlflow.source.git.commit"] = commit
    return tags


def pinned(package: str) -> str | None:
    """The requirement that names the installed distribution of a package, such as `tensorflow-cpu==2.21.0`.

    Args:
        package: `qpipe`, `keras`, `tensorflow`, `mlflow` or `numpy`.

    Returns:
        The requirement, or None where no distribution is found.
    """
    for distribution in _DISTRIBUTIONS[package]:
        try:
            return f"{distribution}=={metadata.version(distribution)}"
        except metadata.PackageNotFoundError:
            continue
    return None


def git_commit() -> str | None:
    """The revision of the repository that the working folder is in; None where it is in none."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return None
