"""Rewriting a (folded) float model into a quantized one."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

import keras

from qpipe.config.schema import QuantizerConfig
from qpipe.errors import QuantizationError
from qpipe.graph.layer_plan import LayerPlan, Treatment
from qpipe.graph.quantizer_factory import output_quantizer
from qpipe.graph.rebuild import Rebuild
from qpipe.graph.rules import LayerSettings, check_rules, count_matches, settings_of
from qpipe.graph.trace import Edge, Graph, Node, trace
from qpipe.graph.treatments import TREATMENTS, keeps_quantizer, why_float
from qpipe.layers import Dequantize, Quantize
from qpipe.layers.activations import activation_of_layer
from qpipe.quantizers import OutputQuantizer

NON_NEGATIVE = ("relu", "relu6", "sigmoid", "softmax", "hard_sigmoid")


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
        ConfigError: if a rule matches no layer, or sets a field which its layer lacks.
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
        ConfigError: a rule matches no layer, or sets a field which its layer lacks.
        QuantizationError: no layer at all can be quantized.
    """
    graph = trace(model)
    rewrite = QuantizationRewrite(graph, config, ema_freeze_delay, absorbed or {})
    has = {node.name: rewrite.fields_of(node) for node in graph.nodes}
    notes = check_rules(config, has)
    quantized = rewrite.run()
    _require_quantized(model.name, rewrite.plans)
    return QuantizationResult(quantized, rewrite.plans, count_matches(config, has), notes)


def _require_quantized(model_name: str, plans: list[LayerPlan]) -> None:
    if any(plan.treatment is Treatment.quantized for plan in plans):
        return
    reasons = [f"{plan.name!r}: {plan.reason}" for plan in plans if plan.reason]
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    raise QuantizationError(
        f"the model {model_name!r} has no layer that can be quantized: "
        + ("; ".join(reasons[:3]) + more or "it has no convolution, dense layer, addition or average pooling")
    )


class QuantizationRewrite:
    """Walks over the nodes of a graph; knows for each edge the quantizer of its new tensor (None: real values)."""

    def __init__(self, graph: Graph, config: QuantizerConfig, ema_freeze_delay, absorbed: dict[str, list[str]]):
        self.graph = graph
        self.config = config
        self.ema_freeze_delay = ema_freeze_delay
        self.absorbed = absorbed
        self.rebuild = Rebuild(graph)
        self.plans: list[LayerPlan] = []
        self._quantizers: dict[int, OutputQuantizer] = {}
        self._boundaries: dict[tuple[int, type], object] = {}
        self._fused: set[int] = set()
        self._names = {*graph.input_names, *(node.name for node in graph.nodes)}

    def run(self) -> keras.Model:
        """Rewrites every node and returns the quantized model."""
        for node in self.graph.nodes:
            if id(node) not in self._fused:
                self._rewrite(node)
        for edge in self.graph.outputs:
            self.rebuild.set(edge, self.real(edge))
        return self.rebuild.model()

    def fields_of(self, node: Node) -> set[str]:
        """Returns the fields of a rule that the layer of `node` has."""
        treatment = TREATMENTS.get(type(node.operation))
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
            name = self._unused_name(f"{quantizer.name}_dequantize")
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

    def new_output(self, name: str, settings: LayerSettings, *, signed: bool) -> OutputQuantizer:
        """Returns a new output quantizer for the layer `name`."""
        return output_quantizer(settings.output, name, signed=signed, ema_freeze_delay=self.ema_freeze_delay)

    def fuse_activation(self, node: Node) -> tuple[str | None, Node]:
        """Takes in a ReLU or ReLU6 that alone reads `node`.

        Returns:
            The activation's name (None without one) and the node whose output the fused layer gives.
        """
        follower = self.graph.only_consumer(node)
        if follower is None or self.graph.calls(follower.operation) > 1:
            return None, node
        activation = activation_of_layer(follower.operation)
        if activation is None:
            return None, node
        self._fused.add(id(follower))
        return activation, follower

    def _rewrite(self, node: Node) -> None:
        settings = settings_of(node.name, self.config)
        reason = why_float(self, node, settings)
        plan = LayerPlan(
            name=node.name,
            layer=type(node.operation).__name__,
            treatment=Treatment.quantized,
            folded=self.absorbed.get(node.name, []),
            rules=list(settings.rules),
        )
        self.plans.append(plan)
        if reason is not None:
            plan.treatment, plan.reason = Treatment.float, reason
            self.rebuild.copy(node, self.real)
        elif keeps_quantizer(node.operation):
            plan.treatment = Treatment.keeps
            self.quantized(node.inputs[0])
            self.rebuild.copy(node)
            self.set(node.outputs[0], self.rebuild.tensor(node.outputs[0]), self.quantizer_of(node.inputs[0]))
        else:
            TREATMENTS[type(node.operation)].apply(self, node, settings, plan)

    def _quantize_real(self, edge: Edge):
        if self.is_input(edge):
            name, config, signed = self._input_name(edge), self.config.input, True
        else:
            producer = edge.source
            name, config = producer.name, settings_of(producer.name, self.config).output
            activation = getattr(producer.operation, "activation", None)
            function = getattr(activation, "__name__", type(producer.operation).__name__.lower())
            signed = function not in NON_NEGATIVE
        quantizer = output_quantizer(config, name, signed=signed, ema_freeze_delay=self.ema_freeze_delay)
        layer = Quantize(quantizer, name=self._unused_name(f"{name}_quantize"))
        return quantizer, layer(self.rebuild.tensor(edge))

    def _unused_name(self, name: str) -> str:
        """Returns `name`, numbered where a layer has it already, and takes note of it."""
        numbered = (name if index == 0 else f"{name}_{index}" for index in count())
        unused = next(candidate for candidate in numbered if candidate not in self._names)
        self._names.add(unused)
        return unused

    def is_input(self, edge: Edge) -> bool:
        """Whether `edge` is an input of the model, possibly rescaled or normalized."""
        while edge.producer is not None and isinstance(
            edge.producer.operation, keras.layers.Rescaling | keras.layers.Normalization
        ):
            edge = edge.producer.inputs[0]
        return edge.producer is None

    def _input_name(self, edge: Edge) -> str:
        if edge.producer is not None:
            return edge.producer.name
        index = next(index for index, candidate in enumerate(self.graph.inputs) if candidate is edge)
        return self.graph.input_names[index]
