"""Groups of tensors that share one quantizer, because a Concatenate joins them or a layer keeps its input's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from enum import Enum
from itertools import pairwise

from qpipe.config.schema import OutputQuantizerConfig
from qpipe.errors import ConfigError
from qpipe.graph.layer_plan import LayerPlan, Treatment
from qpipe.graph.rules import LayerSettings
from qpipe.graph.trace import Edge, Node
from qpipe.quantizers import OutputQuantizer


@dataclass(eq=False)
class Group:
    """Tensors with one quantizer.

    Attributes:
        concatenations: names of the Concatenate layers that join them.
        quantizer: what they share; None until the first layer that makes one of them is quantized.
        producer: name of that layer.
        settings: of its output; all layers that make a tensor of the group need the same.
    """

    concatenations: list[str] = field(default_factory=list)
    quantizer: OutputQuantizer | None = None
    producer: str = ""
    settings: OutputQuantizerConfig | None = None


class QuantizerGroups:
    """Disjoint sets of edges (union-find), each with its `Group`."""

    def __init__(self):
        self._parents: dict[int, int] = {}
        self._groups: dict[int, Group] = {}

    def join(self, edges: Iterable[Edge], concatenation: str | None = None) -> None:
        """Makes one group of the edges and of all that they are joined with; before any quantizer is made.

        Args:
            edges: one or more.
            concatenation: name of the Concatenate that joins them.
        """
        roots = list(dict.fromkeys(self._root(id(edge)) for edge in edges))
        for root, other in pairwise(roots):
            self._parents[root] = other
        names = [name for root in roots for name in self._groups.pop(root, Group()).concatenations]
        self._groups[roots[-1]] = Group(names if concatenation is None else [*names, concatenation])

    def group_of(self, edge: Edge) -> Group:
        """Returns the group of an edge; one of its own for an edge that was never joined."""
        return self._groups.setdefault(self._root(id(edge)), Group())

    def _root(self, key: int) -> int:
        while self._parents.get(key, key) != key:
            key = self._parents[key]
        return key


def output_of_group(
    group: Group, name: str, settings: OutputQuantizerConfig, signed: bool, make: Callable[[], OutputQuantizer]
) -> OutputQuantizer:
    """Returns the group's quantizer for one more layer that quantizes its output; the first such layer makes it.

    Args:
        group: of the layer's output.
        name: of the layer.
        settings: of the layer's output.
        signed: whether the layer's output can be negative.
        make: makes the quantizer.

    Raises:
        ConfigError: if the layer's settings are not those of the group.
    """
    if group.quantizer is None:
        group.quantizer, group.producer, group.settings = make(), name, settings
        return group.quantizer
    for item in fields(settings):
        first, other = getattr(group.settings, item.name), getattr(settings, item.name)
        if first != other:
            raise ConfigError(
                f"quantizer.layers: {_joined_by(group)} one quantizer to the outputs of {group.producer!r} (output."
                f"{item.name} {_shown(first)}) and {name!r} (output.{item.name} {_shown(other)}); "
                f"allowed: the same output.{item.name} for both"
            )
    group.quantizer.join(signed)
    return group.quantizer


def apply_concatenation(rewrite, node: Node, settings: LayerSettings, plan: LayerPlan) -> None:
    """Joins integers of one quantizer; inputs that have another one are requantized to it.

    Real inputs are quantized with the group's quantizer. Inputs with a quantizer of their own are those of the model
    and outputs whose scale their definition gives.
    """
    for edge in node.inputs:
        rewrite.quantized(edge)
    quantizers = {id(quantizer): quantizer for quantizer in map(rewrite.quantizer_of, node.inputs)}
    output = node.outputs[0]
    group = rewrite.groups.group_of(output)
    if len(quantizers) == 1:
        quantizer = next(iter(quantizers.values()))
        rewrite.rebuild.copy(node)
    else:
        others = {id(edge): edge for edge in node.inputs if rewrite.quantizer_of(edge) is not group.quantizer}
        tensors = {key: rewrite.requantized(edge, node.name, settings, output) for key, edge in others.items()}
        quantizer = group.quantizer
        rewrite.rebuild.copy(node, lambda edge: tensors.get(id(edge), rewrite.rebuild.tensor(edge)))
        if others:
            names = ", ".join(repr(rewrite.name_of(edge)) for edge in others.values())
            plan.reason = f"requantizes {names}, whose quantizer is not the one that its other inputs share"
    rewrite.set(output, rewrite.rebuild.tensor(output), quantizer)
    plan.treatment = Treatment.keeps
    plan.output_bits, plan.output_scale = quantizer.bitwidth, quantizer.scale_kind


def why_concatenation_in_float(decisions, node: Node) -> str | None:
    """Returns why a Concatenate stays in float, or None if it joins integers."""
    if node.operation.axis % len(node.inputs[0].shape) == 0:
        return "it joins along the batch axis"
    other = next((edge for edge in node.inputs if edge.dtype != "float32"), None)
    if other is not None:
        return f"its input {decisions.name_of(other)!r} holds {other.dtype} values, which can't be quantized"
    if not any(decisions.is_quantized(edge) or decisions.is_input(edge) for edge in node.inputs):
        return "its inputs are in float"
    return None


def _joined_by(group: Group) -> str:
    first, *others = group.concatenations
    more = f" and {len(others)} more Concatenate layer(s) give" if others else " gives"
    return f"{first!r} (Concatenate){more}"


def _shown(value) -> str:
    return value.name if isinstance(value, Enum) else str(value)
