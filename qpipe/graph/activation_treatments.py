"""How activations are quantized that no layer before them takes in: clamps, tables, softmax."""

from __future__ import annotations

import keras

from qpipe.graph.layer_plan import LayerPlan, Treatment
from qpipe.graph.layer_treatment import LayerTreatment
from qpipe.graph.rules import LayerSettings
from qpipe.graph.trace import Edge, Node
from qpipe.layers import QActivation, QClamp, QSoftmax
from qpipe.layers.activations import activation_name, activation_of_layer, is_operation
from qpipe.layers.elementwise import ElementwiseFunction, elementwise_function, function_of_operation
from qpipe.quantizers import OutputQuantizer

ACTIVATION_LAYERS = (
    keras.layers.Activation,
    keras.layers.ELU,
    keras.layers.LeakyReLU,
    keras.layers.ReLU,
    keras.layers.Rescaling,
)


def activation_treatment(node: Node) -> LayerTreatment | None:
    """Returns the treatment of an activation (a layer or an operation of `keras.ops`), or None for anything else.

    A ReLU layer without a cap has none: it works on integers as it is.
    """
    activation = activation_of_layer(node.operation)
    if activation is not None:
        plain = isinstance(node.operation, keras.layers.Layer) and activation == "relu"
        return None if plain else LayerTreatment((), _apply_clamp)
    if is_softmax(node.operation):
        return LayerTreatment(("output",), _apply_softmax)
    if function_of(node) is not None:
        return LayerTreatment(("output",), _apply_lookup, fuses=True)
    return None


def why_activation_in_float(decisions, node: Node) -> str | None:
    """Returns why an activation that has a treatment stays in float, or None if it is quantized.

    Args:
        decisions: those made so far.
        node: the activation's.
    """
    edge, layer = node.inputs[0], node.operation
    if is_softmax(layer):
        if decisions.float_softmax and decisions.graph.is_output(node.outputs[0]):
            return SOFTMAX_IN_FLOAT
        axis = getattr(layer, "axis", -1)
        if axis not in (-1, len(edge.shape) - 1):
            return f"its axis {axis} is not the last one"
        if len(node.inputs) > 1:
            return "it is called with a mask"
    if decisions.is_quantized(edge) or (decisions.is_input(edge) and edge.dtype == "float32"):
        return None
    return "its input is in float"


def is_softmax(operation) -> bool:
    """Whether a layer or operation is a softmax."""
    if type(operation) is keras.layers.Activation:
        return operation.activation is keras.activations.softmax
    return type(operation) is keras.layers.Softmax or is_operation(operation, "Softmax")


def function_of(node: Node) -> ElementwiseFunction | None:
    """Returns the elementwise function of one tensor that a node computes, or None."""
    if isinstance(node.operation, keras.layers.Layer):
        return elementwise_function(node.operation) if type(node.operation) in ACTIVATION_LAYERS else None
    if len(node.inputs) != 1 or node.kwargs:
        return None
    return function_of_operation(node.operation, list(node.args), node.inputs[0])


def add_activation(rewrite, node: Node, activation, settings: LayerSettings) -> None:
    """Puts the activation of a quantized linear layer, which is no clamp, behind it as a layer `<layer>_<activation>`.

    Args:
        rewrite: in which the linear layer's output is quantized already.
        node: of the linear layer.
        activation: function or layer.
        settings: of the linear layer; its output's are those of the activation.
    """
    edge = node.outputs[0]
    name = rewrite.unused_name(f"{node.name}_{activation_name(activation)}")
    plan = LayerPlan(name, "Activation", Treatment.quantized)
    rewrite.plans.append(plan)
    function = elementwise_function(activation)
    softmax = activation is keras.activations.softmax
    if softmax and not (rewrite.config.float_softmax and rewrite.graph.is_output(edge)):
        _softmax(rewrite, name, edge, edge, settings, plan)
    elif function is not None:
        _lookup(rewrite, name, function, None, edge, edge, settings, plan)
    else:
        plan.treatment = Treatment.float
        plan.reason = SOFTMAX_IN_FLOAT if softmax else f"activation {activation_name(activation)!r} has no integer form"
        layer = keras.layers.Activation(activation, name=name)
        rewrite.rebuild.set(edge, layer(rewrite.real(edge)))
        rewrite.forget(edge)


def _apply_lookup(rewrite, node: Node, settings: LayerSettings, plan: LayerPlan) -> None:
    rewrite.quantized(node.inputs[0])
    clamp, last = rewrite.fuse_activation(node)
    plan.name = _name_of(rewrite, node)
    plan.fused = last.name if last is not node else None
    _lookup(rewrite, plan.name, function_of(node), clamp, node.inputs[0], last.outputs[0], settings, plan)


def _apply_softmax(rewrite, node: Node, settings: LayerSettings, plan: LayerPlan) -> None:
    rewrite.quantized(node.inputs[0])
    plan.name = _name_of(rewrite, node)
    _softmax(rewrite, plan.name, node.inputs[0], node.outputs[0], settings, plan)


def _apply_clamp(rewrite, node: Node, settings: LayerSettings, plan: LayerPlan) -> None:
    edge = node.inputs[0]
    x = rewrite.quantized(edge)
    quantizer = rewrite.quantizer_of(edge)
    plan.name, plan.treatment = _name_of(rewrite, node), Treatment.keeps
    layer = QClamp(activation_of_layer(node.operation), quantizer, name=plan.name)
    rewrite.set(node.outputs[0], layer(x), quantizer)


def _lookup(rewrite, name, function, clamp, source: Edge, target: Edge, settings: LayerSettings, plan: LayerPlan):
    x, quantizer = rewrite.rebuild.tensor(source), rewrite.quantizer_of(source)
    if function.name == "sigmoid":
        output = _output_of_shares(name, settings)
    else:
        signed = clamp is None and not function.never_negative(quantizer.signed)
        output = rewrite.new_output(name, settings, signed=signed, edge=target)
    layer = QActivation(function, quantizer, output, clamp=clamp, name=name)
    _finish(rewrite, layer(x), output, target, plan)


def _softmax(rewrite, name, source: Edge, target: Edge, settings: LayerSettings, plan: LayerPlan):
    output = _output_of_shares(name, settings)
    layer = QSoftmax(rewrite.quantizer_of(source), output, name=name)
    _finish(rewrite, layer(rewrite.rebuild.tensor(source)), output, target, plan)


def _finish(rewrite, tensor, output: OutputQuantizer, target: Edge, plan: LayerPlan) -> None:
    rewrite.set(target, tensor, output)
    plan.output_bits, plan.output_scale = output.bitwidth, output.scale_kind


def _output_of_shares(name: str, settings: LayerSettings) -> OutputQuantizer:
    """The quantizer of values from 0 to 1: scale 2^-bitwidth and zero point 0, by definition."""
    bitwidth = settings.output.bitwidth
    quantizer = OutputQuantizer(bitwidth, symmetric=True, signed=False, scale="power_of_two", name=f"{name}_output")
    quantizer.set_parameters(2.0**-bitwidth, 0)
    return quantizer


def _name_of(rewrite, node: Node) -> str:
    """The layer's own name; numbered for a layer without weights that is called several times."""
    return node.name if rewrite.graph.calls(node.operation) == 1 else rewrite.unused_name(node.name)


SOFTMAX_IN_FLOAT = "softmax at the model's output stays in float"
