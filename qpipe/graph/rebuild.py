"""Building a model from a graph, with some of its nodes replaced."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import keras
from keras import tree

from qpipe.graph.trace import Edge, Graph, Node


class Rebuild:
    """One rebuilding of a graph: maps edges to the new model's tensors and old layers to their copies."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self._tensors: dict[int, Any] = {}
        self._copies: dict[int, Any] = {}
        self._weighted: set[int] = set()
        self._inputs = {
            id(edge): keras.Input(batch_shape=edge.shape, dtype=edge.dtype, name=name)
            for edge, name in zip(graph.inputs, graph.input_names, strict=True)
        }
        self._tensors.update(self._inputs)

    def tensor(self, edge: Edge):
        """Returns the new model's tensor for `edge`."""
        return self._tensors[id(edge)]

    def set(self, edge: Edge, tensor) -> None:
        """Makes `tensor` the new model's tensor for `edge`."""
        self._tensors[id(edge)] = tensor

    def use(self, operation: keras.layers.Layer, layer: keras.layers.Layer) -> None:
        """Makes `copy` call `layer`, with the weights that it has, in the place of a copy of `operation`.

        May be called for every node of a shared layer: what was called before stays.
        """
        if self._copies.get(id(operation)) is layer:
            return
        layer._inbound_nodes, layer._outbound_nodes = [], []
        self._copies[id(operation)] = layer
        self._weighted.add(id(layer))

    def copy(self, node: Node, tensor: Callable[[Edge], Any] | None = None, dtype: str | None = None) -> None:
        """Calls a copy of the node's layer (with its weights), or its operation, on the new tensors.

        Args:
            node: the node to carry over.
            tensor: gives the tensor for an edge; by default the new model's.
            dtype: policy of the copied layer; by default its own.
        """
        lookup = tensor or self.tensor
        args, kwargs = tree.map_structure(
            lambda leaf: lookup(leaf) if isinstance(leaf, Edge) else leaf, (node.args, node.kwargs)
        )
        operation = self._copy_of(node, dtype)
        outputs = tree.flatten(operation(*args, **kwargs))
        if isinstance(operation, keras.layers.Layer) and id(operation) not in self._weighted:
            operation.set_weights(node.operation.get_weights())
            if hasattr(operation, "finalize_state"):
                operation.finalize_state()
            self._weighted.add(id(operation))
        for edge, output in zip(node.outputs, outputs, strict=True):
            self.set(edge, output)

    def model(self) -> keras.Model:
        """Returns the new model."""
        inputs = tree.map_structure(lambda edge: self._inputs[id(edge)], self.graph.input_structure)
        outputs = tree.map_structure(self.tensor, self.graph.output_structure)
        return keras.Model(inputs, outputs, name=self.graph.name)

    def _copy_of(self, node: Node, dtype: str | None):
        operation = node.operation
        if id(operation) not in self._copies:
            self._copies[id(operation)] = _copy_of_operation(operation, node.name, dtype)
        return self._copies[id(operation)]


def _copy_of_operation(operation, name: str, dtype: str | None):
    """Returns a copy called `name`; of a layer that is not a Lambda without the weights."""
    if isinstance(operation, keras.layers.Layer) and not isinstance(operation, keras.layers.Lambda):
        changed = {"name": name} if dtype is None else {"name": name, "dtype": dtype}
        layer = type(operation).from_config(operation.get_config() | changed)
        layer.trainable = operation.trainable
        return layer
    renamed = copy(operation)
    renamed.name = name
    renamed._inbound_nodes, renamed._outbound_nodes = [], []
    return renamed


def transfer(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    """Copies the variables that both layers own under the same name: their values, and whether they are trained."""
    values = {variable.name: variable for variable in source.weights}
    for variable in target._trainable_variables + target._non_trainable_variables:
        if variable.name in values:
            variable.assign(values[variable.name])
            variable.trainable = values[variable.name].trainable
