"""Activations that become the clamp of the layer before them, and which activations are never negative."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from qpipe.quantizers.output import UNBOUNDED

FUSED_BOUNDS = {
    keras.activations.linear: UNBOUNDED,
    keras.activations.relu: (0.0, math.inf),
    keras.activations.relu6: (0.0, 6.0),
}
NEVER_NEGATIVE = (
    keras.activations.relu,
    keras.activations.relu6,
    keras.activations.sigmoid,
    keras.activations.hard_sigmoid,
    keras.activations.sparse_sigmoid,
    keras.activations.softplus,
    keras.activations.squareplus,
    keras.activations.sparse_plus,
    keras.activations.exponential,
    keras.activations.softmax,
    keras.activations.sparsemax,
)


@keras.saving.register_keras_serializable("qpipe")
class CappedReLU:
    """The activation min(max(x, 0), cap), which any layer with an `activation` argument takes.

    Args:
        cap: largest value, at least 0.

    Raises:
        ValueError: if `cap` is negative or not finite.
    """

    def __init__(self, cap: float):
        if not (math.isfinite(cap) and cap >= 0):
            raise ValueError(f"cap={cap!r} is not allowed; give a finite number of at least 0")
        self.cap = float(cap)
        self.__name__ = "capped_relu"

    def __call__(self, x):
        return keras.activations.relu(x, max_value=self.cap)

    def get_config(self) -> dict[str, float]:
        """Returns the constructor's arguments."""
        return {"cap": self.cap}

    @classmethod
    def from_config(cls, config: dict[str, float]) -> CappedReLU:
        """Returns the activation of a config."""
        return cls(**config)


Clamping = str | CappedReLU
"""An activation that is a clamp, as Keras layers take it: `relu`, `relu6`, or a `CappedReLU`."""


def fused_bounds(activation) -> tuple[float, float] | None:
    """Returns the bounds to which a fused activation clamps, or None for one that is not a clamp.

    Args:
        activation: name, function, or None, as Keras layers take it.
    """
    function = keras.activations.get(activation)
    if isinstance(function, CappedReLU):
        return 0.0, function.cap
    return next((bounds for known, bounds in FUSED_BOUNDS.items() if known is function), None)


def activation_of_layer(layer) -> Clamping | None:
    """Returns the clamp that `layer` (or an operation of `keras.ops`) computes and nothing else, or None."""
    if type(layer) is keras.layers.Activation:
        bounds = fused_bounds(layer.activation)
        return None if bounds is None or bounds == UNBOUNDED else _clamp_to(bounds[1])
    if type(layer) is keras.layers.ReLU or is_operation(layer, "ReLU"):
        return None if layer.negative_slope or layer.threshold else _clamp_to(layer.max_value)
    return next((name for kind, name in (("Relu", "relu"), ("Relu6", "relu6")) if is_operation(layer, kind)), None)


def is_operation(layer, kind: str) -> bool:
    """Whether `layer` is the operation that a function of `keras.ops` or `keras.activations` makes of a tensor.

    Args:
        layer: a layer or an operation.
        kind: name of the operation's class, such as `Relu6`; Keras gives the classes no public name.
    """
    module = type(layer).__module__
    return type(layer).__name__ == kind and module.startswith(("keras.src.ops.", "keras.src.activations."))


def never_negative(layer) -> bool:
    """Whether no output of `layer` can be negative, by its activation or because it is one itself."""
    activation = layer if activation_of_layer(layer) else getattr(layer, "activation", None)
    if type(layer) is keras.layers.Softmax or is_operation(layer, "Softmax") or is_operation(layer, "Sigmoid"):
        return True
    if isinstance(activation, CappedReLU) or activation is layer:
        return True
    return any(activation is function for function in NEVER_NEGATIVE)


def activation_name(activation: Callable[..., Any]) -> str:
    """Returns the name of an activation function, or of the class of a layer or object, in lower case."""
    return getattr(activation, "__name__", type(activation).__name__.lower())


def _clamp_to(cap: float | None) -> Clamping:
    if cap is None or math.isinf(cap):
        return "relu"
    return "relu6" if cap == 6.0 else CappedReLU(cap)
