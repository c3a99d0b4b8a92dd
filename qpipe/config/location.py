"""Where configuration files are found: the package's own, and a folder of the user's."""

from __future__ import annotations

import os
from pathlib import Path

from qpipe.errors import ConfigError


def conf_directory() -> Path:
    """Returns the package's configuration folder: inside the package (wheel) or beside it (source tree).

    Raises:
        ConfigError: neither exists, so the installation is incomplete.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(f"the configuration folder is missing beside {package}: install qpipe again")


def user_directory(path: str | Path | None) -> Path | None:
    """Returns the user's own configuration folder as an absolute path.

    Args:
        path: what `--config-dir` received, relative to the working folder; None if it was not given.

    Raises:
        ConfigError: there is no such folder.
    """
    if path is None:
        return None
    folder = Path(os.path.expanduser(path)).resolve()
    if not folder.is_dir():
        raise ConfigError(f"--config-dir: there is no folder {str(path)!r}")
    return folder


def config_directories(config_dir: Path | None) -> list[Path]:
    """Returns the folders that are searched for configuration files, the package's own first."""
    return [conf_directory(), *([config_dir] if config_dir else [])]
