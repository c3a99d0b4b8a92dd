"""Paths of a user's own files and folders."""

from __future__ import annotations

from pathlib import Path

from qpipe.errors import QpipeError


def source_path(text: str, where: str, failure: type[QpipeError]) -> Path:
    """Returns the path of a file or folder that exists, with `~` expanded.

    Args:
        text: as the user wrote it.
        where: config path, for messages.
        failure: what to raise.

    Raises:
        QpipeError: as `failure`; there is no such file, or a folder above it can't be searched.
    """
    path = Path(text).expanduser()
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise failure(f"{where}={path} does not exist (absolute path: {path.absolute()}).") from None
    except OSError as error:
        raise failure(f"{where}={path} can't be read: {error.strerror or error}.") from None
    return path
