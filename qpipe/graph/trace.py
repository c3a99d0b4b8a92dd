"""A model as a flat list of nodes: nested models are written out, tensors become edges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import tree

from qpipe.errors import ModelError
from qpipe.graph.operators import layer_of_operator
from qpipe.graph.separable import HALVES, halves


@dataclass(eq=False)
class Edge:
    """A tensor of the model: its shape and dtype, the node that makes it (None for an input), and the Keras tensor."""

    shape: tuple
    dtype: str
    producer: Node | None = None
    tensor: Any = None

    @property
    def source(self) -> Node:
        """The node that makes the tensor, where it is known not to be an input."""
        if self.producer is None:
            raise ValueError("an input of the model has no source")
        return self.producer


@dataclass(eq=False)
class Node:
    """One call of an operation: a layer, or a function of `keras.ops` used as an operator.

    `args` and `kwargs` are those of the call, with edges in the place of tensors.
    """

    operation: Any
    name: str
    args: Any
    kwargs: dict
    outputs: list[Edge]
    output_structure: Any

    @property
    def inputs(self) -> list[Edge]:
        """The edges among the arguments, in order."""
        return [leaf for leaf in tree.flatten((self.args, self.kwargs)) if isinstance(leaf, Edge)]

    @property
    def mask(self) -> Edge | None:
        """The edge that the call has as its mask, if any; Keras hands a tensor's mask on as an argument."""
        mask = self.kwargs.get("mask")
        return mask if isinstance(mask, Edge) else None


def statistics_arguments(node: Node, tensor: Callable[[Edge], Any]) -> dict[str, Any]:
    """Returns the arguments of the call that decide about batch statistics: `training` and `mask`, where it has them.

    Args:
        node: of a layer with a batch normalization.
        tensor: gives the tensor for an edge.
    """
    arguments = {} if node.kwargs.get("training") is None else {"training": node.kwargs["training"]}
    return arguments if node.mask is None else arguments | {"mask": tensor(node.mask)}


@dataclass(eq=False)
class Graph:
    """The nodes of a model in the order in which they run, and its inputs and outputs."""

    name: str
    inputs: list[Edge] = field(default_factory=list)
    input_structure: Any = None
    input_names: list[str] = field(default_factory=list)
    output_structure: Any = None
    nodes: list[Node] = field(default_factory=list)

    def __post_init__(self):
        self._consumers: dict[int, list[Node]] = {}

    @property
    def outputs(self) -> list[Edge]:
        """The model's outputs, flat."""
        return tree.flatten(self.output_structure)

    def add(self, node: Node) -> None:
        """Appends a node."""
        self.nodes.append(node)
        for edge in node.inputs:
            self._consumers.setdefault(id(edge), []).append(node)

    def consumers(self, edge: Edge) -> list[Node]:
        """Returns the nodes that read `edge`."""
        return self._consumers.get(id(edge), [])

    def is_output(self, edge: Edge) -> bool:
        """Whether `edge` is an output of the model."""
        return any(edge is output for output in self.outputs)

    def calls(self, operation) -> int:
        """Returns how often `operation` is called."""
        return sum(node.operation is operation for node in self.nodes)

    def only_consumer(self, node: Node) -> Node | None:
        """Returns the node that alone reads the only output of `node`, if there is such a one."""
        if len(node.outputs) != 1 or self.is_output(node.outputs[0]):
            return None
        consumers = self.consumers(node.outputs[0])
        return consumers[0] if len(consumers) == 1 else None


def trace(model: keras.Model) -> Graph:
    """Returns the graph of a Functional or Sequential model; nested models are written out.

    So are separable convolutions (as a depthwise and a pointwise one) and operators that a layer stands for.

    Raises:
        ModelError: if the model, or a model inside it, is subclassed and has no graph.
    """
    function = _function_of(model)
    graph = Graph(model.name)
    environment: dict[int, Edge] = {}
    for tensor in function.inputs:
        edge = Edge(tuple(tensor.shape), tensor.dtype)
        graph.inputs.append(edge)
        graph.input_names.append(tensor._keras_history.operation.name)
        environment[id(tensor)] = edge
    graph.input_structure = tree.map_structure(lambda tensor: environment[id(tensor)], function._inputs_struct)
    _Writer(graph).write(function, environment, {})
    graph.output_structure = tree.map_structure(lambda tensor: environment[id(tensor)], function._outputs_struct)
    return graph


def _function_of(model):
    if isinstance(model, keras.Sequential):
        if not model.built:
            raise ModelError(f"model {model.name!r} has no input shape yet; give it one with keras.Input")
        return model._functional
    if hasattr(model, "_nodes_by_depth"):
        return model
    raise ModelError(
        f"model {model.name!r} ({type(model).__name__}) has no graph of layers; "
        "allowed: Functional and Sequential models"
    )


class _Writer:
    """Adds the nodes of a model and of the models inside it to a graph, each under a name of its own.

    Separable convolutions, and operators that compute what a layer computes, are written out as plain layers: one
    that is called several times becomes the same layers each time.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self._taken: dict[str, Any] = {}
        self._plain: dict[int, tuple[keras.layers.Layer, ...]] = {}

    def write(self, function, environment: dict[int, Edge], outer_kwargs: dict) -> None:
        """Adds the nodes of `function`; `environment` maps its tensors to edges."""
        for depth in sorted(function._nodes_by_depth, reverse=True):
            for keras_node in function._nodes_by_depth[depth]:
                if not keras_node.is_input:
                    self._write_node(function.name, keras_node, environment, outer_kwargs)

    def _write_node(self, model_name, keras_node, environment, outer_kwargs):
        operation = keras_node.operation
        args, kwargs = tree.map_structure(
            lambda leaf: environment.get(id(leaf), leaf),
            (list(keras_node.arguments.args), dict(keras_node.arguments.kwargs)),
        )
        if "training" in outer_kwargs and getattr(operation, "_call_has_training_arg", False):
            kwargs.setdefault("training", outer_kwargs["training"])
        if isinstance(operation, keras.Model):
            self._write_nested(operation, keras_node, args, kwargs, environment)
            return
        edges = [Edge(tuple(tensor.shape), tensor.dtype, tensor=tensor) for tensor in keras_node.outputs]
        environment.update({id(tensor): edge for tensor, edge in zip(keras_node.outputs, edges, strict=True)})
        read = [leaf for leaf in tree.flatten((args, kwargs)) if isinstance(leaf, Edge)]
        plain = self._plain_layers(operation, read)
        if plain:
            self._add_chain(model_name, plain, read, edges)
        else:
            self._add(
                model_name, operation, args, kwargs, edges, tree.pack_sequence_as(keras_node.output_tensors, edges)
            )

    def _add_chain(self, model_name, layers, read, edges):
        """Adds layers that are called one on the other; the first one reads `read`, the last one makes `edges`."""
        for layer in layers[:-1]:
            shape = layer.compute_output_shape(read[0].shape)
            between = Edge(tuple(shape), read[0].dtype)
            self._add(model_name, layer, read, {}, [between], between)
            read = [between]
        arguments = read if len(read) == 1 else [read]
        self._add(model_name, layers[-1], arguments, {}, edges, edges[0])

    def _add(self, model_name, operation, args, kwargs, edges, structure):
        node = Node(operation, self._unique(operation, model_name), args, kwargs, edges, structure)
        for edge in edges:
            edge.producer = node
        self.graph.add(node)

    def _plain_layers(self, operation, read) -> tuple[keras.layers.Layer, ...]:
        """The layers as which the operation is written out; none where it stays as it is."""
        if id(operation) not in self._plain:
            if type(operation) in HALVES:
                self._plain[id(operation)] = halves(operation, read[0].shape)
            else:
                layer = layer_of_operator(operation, read)
                self._plain[id(operation)] = () if layer is None else (layer,)
        return self._plain[id(operation)]

    def _write_nested(self, model, keras_node, args, kwargs, environment):
        function = _function_of(model)
        edges = [leaf for leaf in tree.flatten((args, kwargs)) if isinstance(leaf, Edge)]
        inner = {id(tensor): edge for tensor, edge in zip(function.inputs, edges, strict=True)}
        self.write(function, inner, kwargs)
        for tensor, output in zip(keras_node.outputs, tree.flatten(function._outputs_struct), strict=True):
            environment[id(tensor)] = inner[id(output)]

    def _unique(self, operation, model_name):
        """The operation's name, behind that of its nested model where another operation has it already."""
        name = operation.name
        while self._taken.get(name, operation) is not operation:
            name = f"{model_name}_{name}"
        self._taken[name] = operation
        return name
