"""The range of an activation while a model is trained: one move for each training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from qpipe.quantizers.backend import read_now


class TrackedRange:
    """A moving range, and what the training step under way has seen of it.

    A step quantizes with the range that the steps before it gave. What its members (the layers that share the
    quantizer, called one after the other) see is pending: the first member of the next step moves the range
    towards the union of it. So all members of a step quantize with one scale, and no quantization waits for the
    extrema of its own tensor. Only the first step of a range that was never set has no range yet: its members extend
    the range at once.

    Args:
        add_variable: makes a variable of the quantizer from name, shape, initial value and type.

    Attributes:
        ends: lowest and highest real value, shape (2,).
        pending: what the step under way has seen, shape (2,); `ends` where that is nothing.
        turn: how many of its members it has seen; 0 where nothing is pending.
        steps: how many training steps `ends` holds.
        calibrated: whether `ends` was ever set.
    """

    def __init__(self, add_variable: Callable[..., Any]):
        self.ends = add_variable("range", (2,), 0.0)
        self.pending = add_variable("pending", (2,), 0.0)
        self.turn = add_variable("turn", (), 0, "int64")
        self.steps = add_variable("steps", (), 0, "int64")
        self.calibrated = add_variable("calibrated", (), False, "bool")

    def set(self, ends) -> None:
        """Sets the range and forgets what is pending."""
        self.ends.assign(ends)
        self.pending.assign(ends)
        self.turn.assign(0)
        self.calibrated.assign(True)

    def see(self, seen, *, members: int, momentum: float, delay: int | None):
        """Takes the range of one member's tensor.

        Args:
            seen: lowest and highest value of the tensor, float32, shape (2,).
            members: how many members there are.
            momentum: of the moving range.
            delay: training steps after which nothing is recorded any more, or None.

        Returns:
            The range with which the member quantizes.
        """
        turn = ops.convert_to_tensor(self.turn)
        turn_now = ops.ones_like(turn)
        if members == 1:
            ends, steps = self._moved(momentum), self.steps + turn
        else:
            complete = turn >= members
            ends = ops.where(complete, self._moved(momentum), self.ends)
            steps = self.steps + ops.cast(complete, "int64")
            restart = ops.logical_or(complete, turn == 0)
            seen = ops.where(restart, seen, union(ops.convert_to_tensor(self.pending), seen))
            turn_now = ops.where(restart, turn_now, turn + 1)
        if not read_now(self.calibrated):
            ends = ops.where(self.calibrated, ends, seen)
            self.calibrated.assign(ops.logical_or(self.calibrated, turn_now >= members))
        if delay is not None:
            over = steps >= delay
            seen = ops.where(over, ends, seen)
            turn_now = ops.where(over, 0, turn_now)
        self.ends.assign(ends)
        self.steps.assign(steps)
        self.pending.assign(seen)
        self.turn.assign(turn_now)
        return ends

    def settle(self, momentum: float):
        """Moves the range towards what is pending, so that nothing is; returns the range."""
        ends = self._moved(momentum)
        self.steps.assign(self.steps + ops.cast(self.turn > 0, "int64"))
        self.set(ends)
        return ends

    def _moved(self, momentum: float):
        """Returns the range, moved towards the pending one.

        A pending range that equals the range, as that of the first step does, leaves it as it is, bit for bit.
        """
        ends = ops.convert_to_tensor(self.ends)
        return ends + (ops.convert_to_tensor(self.pending) - ends) * (1.0 - momentum)


def union(one, other):
    """Returns the smallest range that holds two ranges, each of shape (2,)."""
    return ops.stack([ops.minimum(one[0], other[0]), ops.maximum(one[1], other[1])])
