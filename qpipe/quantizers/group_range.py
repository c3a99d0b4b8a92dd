"""The tracked range of a tensor that several layers produce: one update for each training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops


class TrackedRange(NamedTuple):
    """The moving range of a quantizer: scalars, float32; `steps` is how many training steps it holds."""

    low: Any
    high: Any
    steps: Any


class GroupRange:
    """Collects the ranges of a quantizer's members over a training step.

    The members are called one after the other. What they see is the pending range; the first member of the next
    step folds it into the moving range, so that all members of a step quantize with one scale. Only in the first
    step of a quantizer that was never calibrated there is no such scale yet: its members extend the moving range
    at once.

    Args:
        add_variable: makes a scalar variable of the quantizer from name, initial value and type.
    """

    def __init__(self, add_variable: Callable[..., Any]):
        self.low = add_variable("pending_low", 0.0)
        self.high = add_variable("pending_high", 0.0)
        self.turn = add_variable("turn", 0, "int64")
        self.opening = add_variable("opening", False, "bool")

    def clear(self) -> None:
        """Forgets what is pending."""
        self.turn.assign(0)
        self.opening.assign(False)

    def see(self, low, high, tracked: TrackedRange, *, members: int, momentum: float, calibrated, delay: int | None):
        """Takes the range of one member's tensor.

        Args:
            low: lowest value, float32 scalar.
            high: highest value, float32 scalar.
            tracked: the moving range so far.
            members: how many members there are.
            momentum: of the moving range.
            calibrated: whether the moving range was ever set.
            delay: training steps after which nothing is pending any more, or None.

        Returns:
            The new `TrackedRange`.
        """
        complete = self.turn >= members
        restart = complete | (self.turn == 0)
        folded = self._fold(tracked, complete, momentum)
        opening = ops.where(restart, ops.logical_not(calibrated), self.opening)
        pending_low = ops.where(restart, low, ops.minimum(self.low, low))
        pending_high = ops.where(restart, high, ops.maximum(self.high, high))
        turn = ops.where(restart, 1, self.turn + 1)
        if delay is not None:
            turn = ops.where(folded.steps >= delay, 0, turn)
        self.low.assign(pending_low)
        self.high.assign(pending_high)
        self.opening.assign(opening)
        self.turn.assign(turn)
        return TrackedRange(
            ops.where(opening, pending_low, folded.low), ops.where(opening, pending_high, folded.high), folded.steps
        )

    def settle(self, tracked: TrackedRange, momentum: float) -> TrackedRange:
        """Folds in what is pending; nothing is pending afterwards."""
        folded = self._fold(tracked, self.turn > 0, momentum)
        self.clear()
        return folded

    def _fold(self, tracked: TrackedRange, wanted, momentum: float) -> TrackedRange:
        """Moves the range towards the pending one where `wanted`; one that it set itself stays."""
        moves = ops.logical_and(wanted, ops.logical_not(self.opening))
        return TrackedRange(
            ops.where(moves, tracked.low * momentum + self.low * (1.0 - momentum), tracked.low),
            ops.where(moves, tracked.high * momentum + self.high * (1.0 - momentum), tracked.high),
            tracked.steps + ops.cast(wanted, "int64"),
        )
