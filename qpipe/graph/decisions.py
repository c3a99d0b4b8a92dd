"""What becomes of each layer, decided for the whole graph before any layer is rewritten."""

from __future__ import annotations

from dataclasses import dataclass, field

import keras

from qpipe.config.schema import QuantizerConfig
from qpipe.graph.groups import QuantizerGroups
from qpipe.graph.preparation import PREPARATIONS, MergedPreparation, chains_at_inputs, preparation_of
from qpipe.graph.rules import LayerSettings, settings_of
from qpipe.graph.trace import Edge, Graph, Node
from qpipe.graph.treatments import AVERAGE_POOLING, QUANTIZED_CLASS, keeps_quantizer, treatment_of, why_float
from qpipe.layers.activations import Clamping, activation_of_layer


@dataclass
class Decisions:
    """Which layers stay in float, what is fused, what the input's quantizer takes in, and who shares a quantizer.

    Attributes:
        graph: the float model's.
        float_softmax: whether a softmax at the model's output stays in float.
        reasons: for each node that stays in float, by id, why.
        fused: for each node that takes in an activation, by id, the activation and its node.
        merged: for the last node of each chain that an input's quantizer takes in, by id, the chain.
        groups: edges that share a quantizer.
    """

    graph: Graph
    float_softmax: bool = True
    reasons: dict[int, str] = field(default_factory=dict)
    fused: dict[int, tuple[Clamping, Node]] = field(default_factory=dict)
    merged: dict[int, MergedPreparation] = field(default_factory=dict)
    groups: QuantizerGroups = field(default_factory=QuantizerGroups)
    _quantized: set[int] = field(default_factory=set)
    _inputs: dict[int, Edge] = field(default_factory=dict)

    def is_quantized(self, edge: Edge) -> bool:
        """Whether the tensor for `edge` will be there in integers, as far as the nodes decided so far tell."""
        return id(edge) in self._quantized

    def is_input(self, edge: Edge) -> bool:
        """Whether `edge` is an input of the model, possibly rescaled or normalized."""
        while edge.producer is not None and isinstance(edge.producer.operation, PREPARATIONS):
            edge = edge.producer.inputs[0]
        return edge.producer is None

    def input_of(self, edge: Edge) -> Edge | None:
        """Returns the input (possibly prepared) whose quantizer `edge` keeps, or None."""
        return self._inputs.get(id(edge), edge if self.is_input(edge) else None)

    def name_of(self, edge: Edge) -> str:
        """Returns the name of the layer that makes `edge`, or of the input."""
        if edge.producer is not None:
            return edge.producer.name
        return next(
            name for name, edge_in in zip(self.graph.input_names, self.graph.inputs, strict=True) if edge_in is edge
        )


def decide(graph: Graph, config: QuantizerConfig) -> Decisions:
    """Decides for every node of a float model what becomes of it.

    Args:
        graph: the traced float model.
        config: bitwidths, ranges, scales and rules.
    """
    decisions = Decisions(graph, float_softmax=config.float_softmax)
    taken_in: set[int] = set()
    for node in graph.nodes:
        if id(node) in taken_in:
            continue
        reason = _why_float(decisions, node, settings_of(node.name, config))
        if reason is not None:
            decisions.reasons[id(node)] = reason
            continue
        last = _fuse(decisions, node)
        taken_in.add(id(last))
        decisions._quantized.update(id(edge) for edge in (*node.inputs, *last.outputs))
        _join(decisions, node)
    _merge_preparations(decisions, config)
    return decisions


def _why_float(decisions: Decisions, node: Node, settings: LayerSettings) -> str | None:
    if settings.quantize and type(node.operation) in PREPARATIONS and decisions.is_input(node.inputs[0]):
        return "it prepares the input in float, before the input's quantizer"
    return why_float(decisions, node, settings)


def _fuse(decisions: Decisions, node: Node) -> Node:
    """Takes in a clamp that alone reads `node`, if its layer can; returns the node whose output remains."""
    treatment = treatment_of(node)
    own = getattr(node.operation, "activation", None) if type(node.operation) in QUANTIZED_CLASS else None
    if treatment is None or not treatment.fuses or own not in (None, keras.activations.linear):
        return node
    follower = decisions.graph.only_consumer(node)
    if follower is None or decisions.graph.calls(follower.operation) > 1:
        return node
    activation = activation_of_layer(follower.operation)
    if activation is None:
        return node
    decisions.fused[id(node)] = activation, follower
    return follower


def _join(decisions: Decisions, node: Node) -> None:
    """Joins the edges between which the layer of `node` keeps a quantizer; those of the inputs' quantizers stay out."""
    kind, output = type(node.operation), node.outputs[0]
    if kind is not keras.layers.Concatenate and kind not in AVERAGE_POOLING and not keeps_quantizer(node.operation):
        return
    sources = [decisions.input_of(edge) for edge in node.inputs]
    source = sources[0]
    if source is not None and all(other is source for other in sources):
        decisions._inputs[id(output)] = source
        return
    members = [edge for edge in node.inputs if decisions.input_of(edge) is None]
    decisions.groups.join([*members, output], node.name if kind is keras.layers.Concatenate else None)


def _merge_preparations(decisions: Decisions, config: QuantizerConfig) -> None:
    """Gives the chains at the inputs to the inputs' quantizers, where nothing reads their result in float."""
    graph = decisions.graph
    for chain in chains_at_inputs(graph):
        last = chain[-1].outputs[0]
        readers = graph.consumers(last)
        in_float = graph.is_output(last) or any(id(reader) in decisions.reasons for reader in readers)
        selected = all(settings_of(node.name, config).quantize for node in chain)
        preparation = preparation_of([node.operation for node in chain])
        if readers and selected and preparation is not None and not in_float:
            decisions.merged[id(chain[-1])] = MergedPreparation(chain, preparation)
            for node in chain:
                del decisions.reasons[id(node)]
