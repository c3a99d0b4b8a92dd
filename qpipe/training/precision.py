"""Training in 16 bits, with variables, outputs and the trained model in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from qpipe.config.schema import Precision
from qpipe.training.outputs import output_operations


@contextmanager
def precision_of_layers(model: keras.Model, precision: Precision) -> Iterator[None]:
    """Lets the layers of `model` compute in another precision inside the `with` block.

    Layers of nested models are included. Softmax layers, the layers that give the model's outputs, and layers that
    were built with a precision of their own stay as they are.

    Args:
        model: changed in place, and back afterwards.
        precision: what the layers compute in.
    """
    policy = keras.DTypePolicy(precision.value)
    changed = [layer for layer in _layers_that_may_change(model) if layer.dtype_policy != policy]
    for layer in changed:
        layer.dtype_policy = policy
    try:
        yield
    finally:
        for layer in changed:
            layer.dtype_policy = keras.DTypePolicy("float32")


def _layers_that_may_change(model: keras.Model) -> list[keras.layers.Layer]:
    kept = {id(operation) for operation in output_operations(model)}
    return [
        layer
        for layer in model._flatten_layers(include_self=False)
        if id(layer) not in kept
        and layer.dtype_policy == keras.DTypePolicy("float32")
        and not isinstance(layer, keras.layers.InputLayer | keras.layers.Softmax)
        and not (isinstance(layer, keras.Model) and hasattr(layer, "outputs"))
        and getattr(layer, "activation", None) is not keras.activations.softmax
    ]
