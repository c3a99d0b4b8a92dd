"""Activations that become the clamp of the layer before them."""

from __future__ import annotations

import math

import keras

from qpipe.quantizers.output import UNBOUNDED

FUSED_BOUNDS = {
    "linear": UNBOUNDED,
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
}


def fused_bounds(activation) -> tuple[float, float] | None:
    """Returns the bounds to which a fused activation clamps, or None for one that is not a clamp.

    Args:
        activation: name, function, or None, as Keras layers take it.
    """
    name = getattr(keras.activations.get(activation), "__name__", "")
    return FUSED_BOUNDS.get(name)


def activation_of_layer(layer) -> str | None:
    """Returns `relu` or `relu6` if `layer` computes just that, else None."""
    if type(layer) is keras.layers.ReLU:
        if layer.negative_slope or layer.threshold:
            return None
        return {None: "relu", 6.0: "relu6"}.get(layer.max_value)
    if type(layer) is keras.layers.Activation:
        name = getattr(layer.activation, "__name__", "")
        return name if name in ("relu", "relu6") else None
    return None
