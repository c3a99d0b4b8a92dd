"""A model as a flat list of nodes: nested models are written out, tensors become edges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
from keras import tree

from qpipe.errors import ModelError


@dataclass(eq=False)
class Edge:
    """A tensor of the model: its shape and dtype, and the node that makes it (None for an input)."""

    shape: tuple
    dtype: str
    producer: Node | None = None

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
    _write_out(function, environment, graph, {})
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


def _write_out(function, environment, graph, outer_kwargs):
    """Adds the nodes of `function` to `graph`; `environment` maps its tensors to edges."""
    taken = {node.name: node.operation for node in graph.nodes}
    for depth in sorted(function._nodes_by_depth, reverse=True):
        for keras_node in function._nodes_by_depth[depth]:
            if keras_node.is_input:
                continue
            operation = keras_node.operation
            args, kwargs = tree.map_structure(
                lambda leaf: environment.get(id(leaf), leaf),
                (list(keras_node.arguments.args), dict(keras_node.arguments.kwargs)),
            )
            if "training" in outer_kwargs and getattr(operation, "_call_has_training_arg", False):
                kwargs.setdefault("training", outer_kwargs["training"])
            if isinstance(operation, keras.Model):
                _write_out_nested(operation, keras_node, args, kwargs, environment, graph)
                continue
            name = _unique(operation, taken, function.name)
            edges = [Edge(tuple(tensor.shape), tensor.dtype) for tensor in keras_node.outputs]
            structure = tree.pack_sequence_as(keras_node.output_tensors, edges)
            node = Node(operation, name, args, kwargs, edges, structure)
            for tensor, edge in zip(keras_node.outputs, edges, strict=True):
                edge.producer = node
                environment[id(tensor)] = edge
            graph.add(node)


def _write_out_nested(model, keras_node, args, kwargs, environment, graph):
    function = _function_of(model)
    edges = [leaf for leaf in tree.flatten((args, kwargs)) if isinstance(leaf, Edge)]
    inner = {id(tensor): edge for tensor, edge in zip(function.inputs, edges, strict=True)}
    _write_out(function, inner, graph, kwargs)
    for tensor, output in zip(keras_node.outputs, tree.flatten(function._outputs_struct), strict=True):
        environment[id(tensor)] = inner[id(output)]


def _unique(operation, taken, model_name):
    """The operation's name, behind that of its nested model where another operation has it already."""
    name = operation.name
    while taken.get(name, operation) is not operation:
        name = f"{model_name}_{name}"
    taken[name] = operation
    return name
