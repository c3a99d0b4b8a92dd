"""Moving until a number of training steps is over: what batch statistics and tracked ranges have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from qpipe.errors import QuantizationError
from qpipe.quantizers.backend import replicas


def until_frozen(part, moving: Callable[[], Any], frozen: Callable[[], Any]):
    """Calls what applies to a training step of `part`; the choice is made before anything is written.

    Args:
        part: has a `name`, the count `steps`, the number of steps `ema_freeze_delay` (None: it never freezes), and
            `known_frozen`: whether it is frozen, where the training loop knows that while it traces, else None.
        moving: what a step does before the freeze.
        frozen: what a step does afterwards.

    Raises:
        QuantizationError: if only the traced graph could choose, and the model is trained on several replicas:
            TensorFlow can't keep variables alike that a conditional writes.
    """
    if part.ema_freeze_delay is None or part.known_frozen is False:
        return moving()
    if part.ema_freeze_delay <= 0 or part.known_frozen:
        return frozen()
    if replicas() > 1:
        raise QuantizationError(
            f"{part.name}: ema_freeze_delay={part.ema_freeze_delay} needs to know the step on {replicas()} replicas; "
            "give qpipe.training.freeze.FreezeByRetracing() to the callbacks of fit"
        )
    return ops.cond(part.steps < part.ema_freeze_delay, moving, frozen)
