"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qpipe.errors import StorageError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Lets a block write a file under a temporary name; it gets its own when the block ends well.

    Args:
        path: where the file belongs; its folder is made where it does not exist.

    Yields:
        The temporary path, in the same folder and with the same ending.

    Raises:
        StorageError: the disk is full, or the folder can't be written; an older file stays as it was.
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        flush_to_disk(temporary)
        temporary.replace(path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
        raise StorageError(
            f"{path} can't be written ({reason}): free some space, get permission, or set runs_dir to another folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text as `whole_file` does."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def flush_to_disk(path: Path) -> None:
    """Returns when the file's or folder's content is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
