"""Paths of a user's own files and folders."""

from __future__ import annotations

from pathlib import Path

from qpipe.errors import QpipeError


def source_path(text: str, where: str, failure: type[QpipeError], needed: str = "") -> Path:
    """Returns the path of a file or folder that exists, with `~` expanded.

    Args:
        text: as the user wrote it.
        where: config path, for messages.
        failure: what to raise.
        needed: what is allowed there, to be told where no such file exists.

    Raises:
        QpipeError: as `failure`; there is no such file or no such user's home, or a folder above it can't be searched.
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise failure(f"{where}={text} can't be read: {text.split('/')[0]} is no known home folder.") from None
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        advice = f"; {needed}" if needed else ""
        raise failure(f"{where}={path} does not exist (absolute path: {path.absolute()}){advice}.") from None
    except OSError as error:
        raise failure(f"{where}={path} can't be read: {error.strerror or error}.") from None
    except ValueError as error:  # a null byte
        raise failure(f"{where}={text!r} is no path: {error}.") from None
    return path
