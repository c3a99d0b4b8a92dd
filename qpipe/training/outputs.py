"""What the outputs of a model are: probabilities or not, and which layers they come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from qpipe.layers import Dequantize, QActivation, QSoftmax, Quantize, Requantize

_PROBABILITIES = ("softmax", "sigmoid")
_KEEP_VALUES = (
    keras.layers.Identity,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Permute,
    Quantize,
    Dequantize,
    Requantize,
)


def gives_probabilities(model: keras.Model, output: int = 0) -> bool:
    """Whether an output of `model` comes out of a softmax or a sigmoid.

    Args:
        model: a model with a layer graph; nested models are looked into.
        output: number of the output.
    """
    return _is_probability(model.outputs[output])


def output_operations(model: keras.Model) -> Iterator[Any]:
    """Yields the layers and operations that the outputs of `model` come from, back to the last layer of each."""
    for tensor in model.outputs:
        yield from _operations_behind(tensor)


def _is_probability(tensor: Any) -> bool:
    operation, tensor = _origin(tensor)
    if isinstance(operation, _KEEP_VALUES) or _is_linear_activation(operation):
        return _is_probability(_inputs_of(tensor)[0])
    if isinstance(operation, QSoftmax):
        return True
    if isinstance(operation, QActivation):
        return operation.function.name in _PROBABILITIES
    if isinstance(operation, keras.layers.Layer) and hasattr(operation, "activation"):
        return getattr(operation.activation, "__name__", "") in _PROBABILITIES
    return type(operation).__name__.lower() in _PROBABILITIES


def _is_linear_activation(operation: Any) -> bool:
    return type(operation) is keras.layers.Activation and operation.activation is keras.activations.linear


def _operations_behind(tensor: Any) -> Iterator[Any]:
    operation, tensor = _origin(tensor)
    yield operation
    if not isinstance(operation, keras.layers.Layer):
        for previous in _inputs_of(tensor):
            yield from _operations_behind(previous)


def _origin(tensor: Any) -> tuple[Any, Any]:
    """Returns the operation that a tensor comes out of and the tensor there, inside of nested models."""
    history = tensor._keras_history
    while isinstance(history.operation, keras.Model) and getattr(history.operation, "outputs", None):
        tensor = history.operation.outputs[history.tensor_index]
        history = tensor._keras_history
    return history.operation, tensor


def _inputs_of(tensor: Any) -> list[Any]:
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index].input_tensors
