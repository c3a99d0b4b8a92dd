"""Timing several jobs in turns, so that what else the machine does slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

WARM_UP = 5


def medians(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Runs each job once per round and returns the medians of their times in seconds, without the first rounds."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(WARM_UP + rounds):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values[WARM_UP:]) for name, values in times.items()}


def report(title: str, seconds: dict[str, float]) -> None:
    """Prints the medians, and their ratio to the first one."""
    reference = next(iter(seconds.values()))
    print(title)
    for name, value in seconds.items():
        print(f"  {name:28} {value * 1e3:8.1f} ms   ratio {value / reference:.2f}", flush=True)
