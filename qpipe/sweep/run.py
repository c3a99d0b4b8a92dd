"""A multirun from its command line to its closing table."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from qpipe.errors import QpipeError
from qpipe.reports.terminal import Terminal
from qpipe.sweep import current
from qpipe.sweep.callback import SweepNotStarted
from qpipe.sweep.hydra_command import run_hydra
from qpipe.sweep.outcome import Outcome
from qpipe.sweep.parent import Parent, open_parent
from qpipe.sweep.plan import SweepPlan, plan_sweep
from qpipe.sweep.report import keep_report
from qpipe.sweep.tables import closing_lines, closing_table

DYING_SECONDS = 5.0


class SweepFailedError(QpipeError):
    """Not every job of a sweep has finished."""


def sweep(overrides: Sequence[str], config_dir: Path | None) -> None:
    """Runs one job for each combination of the swept values, through Hydra's sweeper and launcher.

    Every value is checked before the first job starts. A job that fails does not stop the others. Jobs that an
    earlier start of the same command has finished do not run again.

    Args:
        overrides: as on the command line.
        config_dir: the user's own configuration folder, absolute.

    Raises:
        QpipeError: a mistake in the configuration; or, after the closing table, that jobs have failed.
    """
    plan = plan_sweep(overrides, config_dir)
    if plan.config.dry_run:
        run_hydra(["--multirun"], overrides, config_dir)
        return
    running = Sweep(plan)
    with current.started(running):
        try:
            run_hydra(["--multirun"], overrides, config_dir)
        except SweepNotStarted as error:
            raise error.reason from None
        except Exception as error:
            running.end(error)
            return
        except BaseException as error:
            running.abandon(error)
            raise
        running.end(None)


class Sweep:
    """A sweep that this process has started.

    Args:
        plan: what it is going to do.
    """

    def __init__(self, plan: SweepPlan):
        self.plan = plan
        self.parent: Parent | None = None
        self.is_complete = False

    def begin(self) -> str:
        """Makes the sweep's run and returns its id."""
        self.parent = open_parent(self.plan)
        outcome = self._outcome()
        terminal = Terminal()
        terminal.say(f"[bold]qpipe sweep[/] {self.plan.config.name}: {_size(self.plan)}")
        for name, values in self.parent.space().items():
            terminal.say(f"  {name} = {values}")
        if outcome.done:
            terminal.say(f"  goes on: {outcome.progress}")
        return self.parent.run.id

    def end(self, error: Exception | None) -> None:
        """Closes the sweep's run with its report, and shows the closing table.

        Args:
            error: what the sweeper or the launcher raised.

        Raises:
            QpipeError: jobs have failed, or are missing because of `error`.
        """
        if self.parent is None:
            assert error is not None
            raise error
        outcome = self._closed_outcome()
        keep_report(self.parent, outcome)
        terminal = Terminal()
        terminal.say("")
        terminal.table(closing_table(outcome))
        for line in closing_lines(outcome):
            terminal.say(line)
        terminal.say(self.parent.run.how_to_open)
        reason = _reason(outcome, error)
        if reason is None:
            self.parent.run.end("FINISHED")
            return
        self.parent.run.set_tags({"error": reason})
        self.parent.run.end("FAILED")
        raise SweepFailedError(reason) from error

    def abandon(self, error: BaseException) -> None:
        """Closes the sweep's run as KILLED; the same command goes on with what is left."""
        if self.parent is None:
            return
        with suppress(QpipeError):
            outcome = self._closed_outcome()
            self.parent.run.set_tags({"error": type(error).__name__})
            self.parent.run.end("KILLED")
            sys.stderr.write(f"sweep: {outcome.progress}; the same command goes on with what is left\n")

    def _closed_outcome(self) -> Outcome:
        """Waits for processes that are about to end, closes their runs, and records how the sweep stands."""
        assert self.parent is not None
        deadline = time.monotonic() + DYING_SECONDS
        while self.parent.open_attempts() and time.monotonic() < deadline:
            time.sleep(0.2)
        self.parent.close_open_attempts()
        outcome = self._outcome()
        self.parent.record(outcome)
        return outcome

    def _outcome(self) -> Outcome:
        assert self.parent is not None
        return self.parent.outcome(self.plan.config.sweep)


def _size(plan: SweepPlan) -> str:
    jobs = "jobs" if plan.jobs is None else f"{plan.jobs} job(s)"
    return f"a search with {jobs}" if plan.is_search else jobs


def _reason(outcome: Outcome, error: Exception | None) -> str | None:
    total = len(outcome.attempts) if outcome.total is None else outcome.total
    if outcome.failed:
        text = f"{len(outcome.failed)} of {total} job(s) of the sweep failed"
        return text if not outcome.left else f"{text}, {outcome.left} did not run{_because(error)}"
    if outcome.left:
        return f"{outcome.left} of {total} job(s) of the sweep did not run{_because(error)}"
    return None if error is None else f"the sweep ended early{_because(error)}"


def _because(error: Exception | None) -> str:
    return "" if error is None else f": {' '.join(str(error).split()) or type(error).__name__}"
