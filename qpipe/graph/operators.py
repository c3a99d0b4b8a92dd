"""Operators on tensors (x + y, keras.ops.concatenate) as the Keras layers that compute the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from qpipe.layers.activations import is_operation

if TYPE_CHECKING:
    from qpipe.graph.trace import Edge

PAIRWISE: dict[str, type[keras.layers.Layer]] = {
    "Add": keras.layers.Add,
    "Subtract": keras.layers.Subtract,
    "Multiply": keras.layers.Multiply,
}


def layer_of_operator(operation: Any, edges: list[Edge]) -> keras.layers.Layer | None:
    """Returns the layer that computes what an operator computes on `edges`, or None if there is none.

    Only float32 tensors of one rank have one: for others operator and layer promote or broadcast in different ways.

    Args:
        operation: of a node.
        edges: the tensors that it reads.
    """
    if len(edges) < 2 or any(edge.dtype != "float32" for edge in edges):
        return None
    rank = len(edges[0].shape)
    if any(len(edge.shape) != rank for edge in edges):
        return None
    if is_operation(operation, "Concatenate") and operation.axis % rank != 0:
        return keras.layers.Concatenate(operation.axis, name=operation.name, dtype="float32")
    for kind, layer_class in PAIRWISE.items():
        if is_operation(operation, kind):
            return layer_class(name=operation.name, dtype="float32")
    return None
