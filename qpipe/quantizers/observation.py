"""Observing what passes through the output quantizers of a model."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Arithmetic(Enum):
    """The arithmetic that a model runs in while it is observed."""

    float = "nothing is quantized"
    weights = "kernels are quantized; activations, and the biases that need their scales, are not"
    integer = "everything is quantized, as at inference"


@dataclass
class Observation:
    """What the output quantizers saw, in the order in which they were called.

    Each entry of `seen` is `(quantizer, tensor, saturated)`: with `Arithmetic.integer` the tensor holds
    integers relative to the zero point and `saturated` how many of them were cut off; otherwise the tensor
    holds real values and `saturated` is None.
    """

    arithmetic: Arithmetic
    seen: list[tuple[Any, Any, Any]] = field(default_factory=list)


_active: ContextVar[Observation | None] = ContextVar("observation", default=None)


def current_observation() -> Observation | None:
    """Returns the observation that is under way, if any."""
    return _active.get()


@contextmanager
def observe(arithmetic: Arithmetic):
    """Observes the models that are called (or traced) inside the `with` block.

    Args:
        arithmetic: what the models run in meanwhile.

    Yields:
        The `Observation`, filled call by call.
    """
    observation = Observation(arithmetic)
    token = _active.set(observation)
    try:
        yield observation
    finally:
        _active.reset(token)
