"""Rewriting a (folded) float model into a quantized one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import keras

from qpipe.config.quantizer_validation import validate_quantizer
from qpipe.config.schema import OutputQuantizerConfig, QuantizerConfig
from qpipe.errors import QuantizationError
from qpipe.graph.decisions import decide
from qpipe.graph.groups import output_of_group
from qpipe.graph.layer_plan import LayerPlan, Treatment
from qpipe.graph.quantizer_factory import output_quantizer
from qpipe.graph.rebuild import Rebuild
from qpipe.graph.rules import LayerSettings, check_rules, count_matches, settings_of
from qpipe.graph.trace import Edge, Graph, Node, trace
from qpipe.graph.treatments import treatment_of
from qpipe.layers import Dequantize, Quantize, Requantize
from qpipe.layers.activations import Clamping, never_negative
from qpipe.layers.inventory import quantized_linear_layers
from qpipe.quantizers import OutputQuantizer


@dataclass
class QuantizationResult:
    """A quantized model, the plan of each of its layers, how many layers each rule matched, and remarks."""

    model: keras.Model
    plans: list[LayerPlan]
    rule_matches: dict[str, int]
    notes: list[str] = field(default_factory=list)


def quantize(model: keras.Model, config: QuantizerConfig | None = None) -> keras.Model:
    """Returns a quantized copy of a float model, folded or not; `model` stays untouched.

    The copy needs activation ranges: call `qpipe.calibrate`, or train it.

    Args:
        model: Functional or Sequential model; nested models are written out.
        config: bitwidths, ranges, scales and rules; 8 bits by default.

    Raises:
        ConfigError: if a rule matches no layer, or sets a field which its layer lacks, or if rules give different
            outputs to layers that a Concatenate joins.
        QuantizationError: if no layer at all can be quantized.
    """
    return quantize_with_plan(model, config or QuantizerConfig()).model


def quantize_with_plan(
    model: keras.Model,
    config: QuantizerConfig,
    *,
    ema_freeze_delay: int | None = None,
    absorbed: dict[str, list[str]] | None = None,
) -> QuantizationResult:
    """Quantizes like `quantize`, and returns the plan of every layer beside the model.

    Args:
        model: Functional or Sequential model.
        config: bitwidths, ranges, scales and rules.
        ema_freeze_delay: training steps after which activation ranges and statistics stay as they are.
        absorbed: for each folded layer the names of the layers that were folded into it.

    Raises:
        ConfigError: a rule matches no layer, or sets a field which its layer lacks, or rules give different outputs
            to layers that a Concatenate joins.
        QuantizationError: no layer at all can be quantized.
    """
    validate_quantizer(config)
    graph = trace(model)
    rewrite = QuantizationRewrite(graph, config, ema_freeze_delay, absorbed or {})
    has = {node.name: rewrite.fields_of(node) for node in graph.nodes}
    notes = check_rules(config, has)
    quantized = rewrite.run()
    _require_quantized(model.name, rewrite.plans)
    notes += _narrowed_biases(quantized)
    return QuantizationResult(quantized, rewrite.plans, count_matches(config, has), notes)


def _narrowed_biases(model: keras.Model) -> list[str]:
    """Returns a sentence for each layer whose accumulator is narrower than its bias is configured to be."""
    return [
        f"{layer.name}: its bias has {layer.buffer_bitwidth} bits, as its buffer_bitwidth, instead of the configured "
        f"{layer.bias_quantizer.bitwidth}"
        for layer in quantized_linear_layers(model)
        if layer.bias_quantizer and (layer.bias_quantizer.bitwidth or 0) > layer.buffer_bitwidth
    ]


def _require_quantized(model_name: str, plans: list[LayerPlan]) -> None:
    if any(plan.treatment is Treatment.quantized for plan in plans):
        return
    reasons = [f"{plan.name!r}: {plan.reason}" for plan in plans if plan.reason]
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    raise QuantizationError(
        f"the model {model_name!r} has no layer that can be quantized: "
        + ("; ".join(reasons[:3]) + more or "it has no convolution, dense layer, addition or average pooling")
    )


@contextmanager
def _float32_by_default() -> Iterator[None]:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


class QuantizationRewrite:
    """Walks over the nodes of a graph; knows for each edge the quantizer of its new tensor (None: real values)."""

    def __init__(self, graph: Graph, config: QuantizerConfig, ema_freeze_delay, absorbed: dict[str, list[str]]):
        self.graph = graph
        self.config = config
        self.ema_freeze_delay = ema_freeze_delay
        self.absorbed = absorbed
        self.decisions = decide(graph, config)
        self.groups = self.decisions.groups
        self.rebuild = Rebuild(graph)
        self.plans: list[LayerPlan] = []
        self._quantizers: dict[int, OutputQuantizer] = {}
        self._boundaries: dict[tuple[int, object], object] = {}
        self._prepared = {node for merged in self.decisions.merged.values() for node in merged.nodes}
        self._names = {*graph.input_names, *(node.name for node in graph.nodes)}

    def run(self) -> keras.Model:
        """Rewrites every node and returns the quantized model.

        Layers that it makes compute in float32, whatever Keras' default policy is: the integers are held in it. Those
        that take over a layer of the float model keep its policy, for real values.
        """
        with _float32_by_default():
            return self._run()

    def _run(self) -> keras.Model:
        fused = {id(follower) for _, follower in self.decisions.fused.values()}
        for node in self.graph.nodes:
            if id(node) not in fused:
                self._rewrite(node)
        for edge in self.graph.outputs:
            self.rebuild.set(edge, self.real(edge))
        return self.rebuild.model()

    def fields_of(self, node: Node) -> set[str]:
        """Returns the fields of a rule that the layer of `node` has."""
        treatment = treatment_of(node)
        return set(treatment.fields) if treatment else set()

    def quantizer_of(self, edge: Edge) -> OutputQuantizer | None:
        """Returns the quantizer of the new tensor for `edge`, or None where it holds real values."""
        return self._quantizers.get(id(edge))

    def quantized(self, edge: Edge):
        """Returns the new tensor for `edge`, quantized: a `Quantize` layer is put in where it holds real values."""
        if self.quantizer_of(edge) is None:
            self._quantizers[id(edge)], tensor = self._quantize_real(edge)
            self._boundaries[id(edge), Dequantize] = self.rebuild.tensor(edge)
            self.rebuild.set(edge, tensor)
        return self.rebuild.tensor(edge)

    def real(self, edge: Edge):
        """Returns the new tensor for `edge` as real values: a `Dequantize` layer is put in where it is quantized."""
        quantizer = self.quantizer_of(edge)
        if quantizer is None:
            return self.rebuild.tensor(edge)
        key = (id(edge), Dequantize)
        if key not in self._boundaries:
            name = self.unused_name(f"{quantizer.name}_dequantize")
            self._boundaries[key] = Dequantize(quantizer, name=name)(self.rebuild.tensor(edge))
        return self._boundaries[key]

    def set(self, edge: Edge, tensor, quantizer: OutputQuantizer | None) -> None:
        """Makes `tensor`, quantized by `quantizer`, the new tensor for `edge`."""
        self.rebuild.set(edge, tensor)
        if quantizer is not None:
            self._quantizers[id(edge)] = quantizer

    def forget(self, edge: Edge) -> None:
        """Marks the new tensor for `edge` as holding real values."""
        self._quantizers.pop(id(edge), None)

    def new_output(
        self, name: str, settings: LayerSettings, *, signed: bool, edge: Edge | None = None
    ) -> OutputQuantizer:
        """Returns the output quantizer of the layer `name`.

        Args:
            name: of the layer.
            settings: of the layer.
            signed: whether its output can be negative.
            edge: the output, whose group has one quantizer; None for a tensor that no other layer shares.

        Raises:
            ConfigError: if other layers of the group have other settings.
        """
        return self._output(name, settings.output, signed, edge)

    def requantized(self, edge: Edge, name: str, settings: LayerSettings, output: Edge):
        """Returns the new tensor for `edge` on the quantizer of the group of `output`, which has none of it yet.

        Args:
            edge: quantized by another quantizer.
            name: of the layer that makes `output`, and its group's quantizer where there is none yet.
            settings: of that layer.
            output: an edge of the group.
        """
        group, source = self.groups.group_of(output), self._quantizers[id(edge)]
        if (id(edge), group) not in self._boundaries:
            if group.quantizer is None:
                self.new_output(name, settings, signed=source.signed, edge=output)
            else:
                group.quantizer.join(source.signed)
            layer = Requantize(source, group.quantizer, name=self.unused_name(f"{self.name_of(edge)}_requantize"))
            self._boundaries[id(edge), group] = layer(self.rebuild.tensor(edge))
        return self._boundaries[id(edge), group]

    def fuse_activation(self, node: Node) -> tuple[Clamping | None, Node]:
        """Takes in a clamp, such as ReLU, that alone reads `node`.

        Returns:
            The activation (None without one) and the node whose output the fused layer gives.
        """
        return self.decisions.fused.get(id(node), (None, node))

    def name_of(self, edge: Edge) -> str:
        """Returns the name of the layer that makes `edge`, or of the input."""
        return self.decisions.name_of(edge)

    def is_input(self, edge: Edge) -> bool:
        """Whether `edge` is an input of the model, possibly rescaled or normalized."""
        return self.decisions.is_input(edge)

    def _rewrite(self, node: Node) -> None:
        settings = settings_of(node.name, self.config)
        plan = LayerPlan(
            name=node.name,
            layer=type(node.operation).__name__,
            treatment=Treatment.quantized,
            folded=self.absorbed.get(node.name, []),
            rules=list(settings.rules),
        )
        self.plans.append(plan)
        reason = self.decisions.reasons.get(id(node))
        if reason is not None:
            plan.treatment, plan.reason = Treatment.float, reason
            self.rebuild.copy(node, self.real)
        elif node in self._prepared:
            self._merge_preparation(node, plan)
        elif (treatment := treatment_of(node)) is not None:
            treatment.apply(self, node, settings, plan)
        else:
            plan.treatment = Treatment.keeps
            self.quantized(node.inputs[0])
            self.rebuild.copy(node, dtype="float32")
            self.set(node.outputs[0], self.rebuild.tensor(node.outputs[0]), self.quantizer_of(node.inputs[0]))

    def _merge_preparation(self, node: Node, plan: LayerPlan) -> None:
        """Gives a Rescaling or Normalization to the input's quantizer, with all that stand before it."""
        plan.reason = "part of the input's quantizer"
        if id(node) not in self.decisions.merged:
            return
        merged, edge = self.decisions.merged[id(node)], node.outputs[0]
        quantizer = self._output(node.name, self.config.input, True, None)
        layer = Quantize(quantizer, merged.operations, name=self.unused_name(f"{node.name}_quantize"))
        self.set(edge, layer(self.real(merged.nodes[0].inputs[0])), quantizer)
        plan.output_bits, plan.output_scale = quantizer.bitwidth, quantizer.scale_kind

    def _quantize_real(self, edge: Edge):
        name = self.name_of(edge)
        if self.is_input(edge):
            quantizer = self._output(name, self.config.input, True, None)
        else:
            signed = not never_negative(edge.source.operation)
            quantizer = self._output(name, settings_of(name, self.config).output, signed, edge)
        layer = Quantize(quantizer, name=self.unused_name(f"{name}_quantize"))
        return quantizer, layer(self.rebuild.tensor(edge))

    def _output(self, name: str, config: OutputQuantizerConfig, signed: bool, edge: Edge | None) -> OutputQuantizer:
        def make():
            return output_quantizer(config, name, signed=signed, ema_freeze_delay=self.ema_freeze_delay)

        return make() if edge is None else output_of_group(self.groups.group_of(edge), name, config, signed, make)

    def unused_name(self, name: str) -> str:
        """Returns `name`, numbered where a layer has it already, and takes note of it."""
        numbered = (name if index == 0 else f"{name}_{index}" for index in count())
        unused = next(candidate for candidate in numbered if candidate not in self._names)
        self._names.add(unused)
        return unused
