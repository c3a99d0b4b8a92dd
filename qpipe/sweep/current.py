"""The sweep that this process has started: Hydra makes the callback itself, and here the two find each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qpipe.sweep.run import Sweep

_current: Sweep | None = None


def sweep() -> Sweep | None:
    """Returns the sweep that this process has started; None in the process of a job."""
    return _current


@contextmanager
def started(sweep: Sweep) -> Iterator[None]:
    """Makes `sweep` the current one as long as the block runs."""
    global _current
    _current = sweep
    try:
        yield
    finally:
        _current = None
