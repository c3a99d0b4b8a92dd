"""Worker processes of launchers: they share the machine's cores, and end when the process that started them is gone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

LOOKING_SECONDS = 2.0
THREAD_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
"""What TensorFlow reads when it starts; without them it takes a thread for every core, in every process."""


class _Watch:
    """Looks whether this process' parent is still the one that it had, and ends the process when it is not.

    A worker of joblib whose parent was killed waits for its next job for ever, with TensorFlow in memory. A job that
    is running when the parent goes is finished first: its result is found by the next start of the sweep. No other is
    begun.
    """

    def __init__(self):
        self._parent = os.getppid()
        self._idle = threading.Lock()
        threading.Thread(target=self._look, name="qpipe-parent-watch", daemon=True).start()

    @contextmanager
    def job(self) -> Iterator[None]:
        with self._idle:
            if os.getppid() != self._parent:
                os._exit(1)
            yield

    def _look(self) -> None:
        while os.getppid() == self._parent:
            time.sleep(LOOKING_SECONDS)
        with self._idle:
            os._exit(1)


_watch: _Watch | None = None


def share_cores(at_once: int) -> None:
    """Gives TensorFlow, before it starts, its share of the cores; what the user has set in the environment stays.

    Args:
        at_once: as in `job_of_worker`.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = at_once if at_once > 0 else max(1, cores + 1 + at_once)
    if processes > 1:
        for variable in THREAD_VARIABLES:
            os.environ.setdefault(variable, str(max(1, cores // processes)))


@contextmanager
def job_of_worker(at_once: int = 1) -> Iterator[None]:
    """Runs a job in a process that a launcher has started for jobs.

    Args:
        at_once: how many such processes run jobs at the same time; 0 and less as joblib counts them: -1 is one for
            every core, -2 one less.
    """
    global _watch
    if _watch is None:
        _watch = _Watch()
        share_cores(at_once)
    with _watch.job():
        yield
