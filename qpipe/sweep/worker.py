"""Worker processes of launchers: they end when the process that started them is gone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

LOOKING_SECONDS = 2.0


class _Watch:
    """Looks whether this process' parent is still the one that it had, and ends the process when it is not.

    A worker of joblib whose parent was killed waits for its next job for ever, with TensorFlow in memory. A job that
    is running when the parent goes is finished first: its result is found by the next start of the sweep.
    """

    def __init__(self):
        self._parent = os.getppid()
        self._idle = threading.Lock()
        threading.Thread(target=self._look, name="qpipe-parent-watch", daemon=True).start()

    @contextmanager
    def job(self) -> Iterator[None]:
        with self._idle:
            yield

    def _look(self) -> None:
        while os.getppid() == self._parent:
            time.sleep(LOOKING_SECONDS)
        with self._idle:
            os._exit(1)


_watch: _Watch | None = None


@contextmanager
def job_of_worker() -> Iterator[None]:
    """Runs a job in a process that a launcher has started for jobs."""
    global _watch
    if _watch is None:
        _watch = _Watch()
    with _watch.job():
        yield
