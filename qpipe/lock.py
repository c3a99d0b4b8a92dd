"""What only one process may do at a time."""

from __future__ import annotations

import logging
from pathlib import Path

import filelock

logger = logging.getLogger("qpipe")


def locked(path: Path, reason: str) -> filelock.AcquireReturnProxy:
    """Locks a file; where another process holds it, says so and waits. The system frees what a dead process held.

    Args:
        path: the lock's file, made where it does not exist, with its folder.
        reason: what the other process does, for the sentence that is logged.

    Returns:
        A context manager whose end frees the lock.

    Raises:
        OSError: the file can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except filelock.Timeout:
        logger.info("%s: waiting for it (%s).", reason, path)
        return lock.acquire()
