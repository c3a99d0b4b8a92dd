"""The terminal: stage headings with times, progress, tables; plain lines where it is not a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

PLAIN_WIDTH = 150
LINES_PER_PROGRESS = 4
EPOCH_METRICS = ("loss", "accuracy", "mae")


class Terminal:
    """Writes a job's course to the standard output.

    Args:
        console: where to write; by default the standard output.
    """

    def __init__(self, console: Console | None = None):
        self.console = console or Console(highlight=False, soft_wrap=False)
        if not self.console.is_terminal:
            self.console.width = PLAIN_WIDTH
        self.times: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, title: str) -> Iterator[None]:
        """Shows a heading and measures how long the block takes, in `times[name]` (seconds)."""
        self.console.rule(f"[bold]{title}", align="left", style="dim")
        started = time.perf_counter()
        try:
            yield
        finally:
            self.times[name] = time.perf_counter() - started
            self.console.print(f"[dim]{self.times[name]:.1f} s[/]", justify="right")

    def say(self, text: str) -> None:
        """Prints one line; a terminal wraps it where it is too long, so that addresses stay whole."""
        self.console.print(text, soft_wrap=True)

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Shows the progress of a loop.

        Yields:
            A function to call with the number of the step that ended (from 1) and the number of all steps.
        """
        if not self.console.is_terminal:
            yield self._plain_progress(what)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(what, total=None)
            yield lambda step, steps: progress.update(task, completed=step, total=steps)

    def epoch(self, epoch: int, epochs: int, logs: Mapping[str, float]) -> None:
        """Prints the metrics of an epoch."""
        shown = [f"{prefix}{name}" for prefix in ("", "val_") for name in EPOCH_METRICS]
        values = "  ".join(f"{key.replace('_', ' ', 1)} {logs[key]:.4f}" for key in shown if key in logs)
        self.console.print(f"epoch {epoch:>{len(str(epochs))}}/{epochs}  {values}")

    def table(self, table: Table) -> None:
        """Prints a table."""
        self.console.print(table)

    def _plain_progress(self, what: str) -> Callable[[int, int], None]:
        def report(step: int, steps: int) -> None:
            every = max(1, steps // LINES_PER_PROGRESS)
            if step == steps or step % every == 0:
                self.console.print(f"{what}: {step}/{steps}")

        return report
