"""How each kind of layer is quantized, and why a layer stays in float."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras

from qpipe.graph.activation_treatments import activation_treatment, add_activation, why_activation_in_float
from qpipe.graph.groups import apply_concatenation, why_concatenation_in_float
from qpipe.graph.layer_plan import LayerPlan
from qpipe.graph.layer_treatment import LayerTreatment
from qpipe.graph.quantizer_factory import (
    bias_quantizer,
    own_bias_quantizer,
    own_weight_quantizer,
    weight_quantizer,
)
from qpipe.graph.rebuild import transfer
from qpipe.graph.rules import LayerSettings
from qpipe.graph.trace import Node, statistics_arguments
from qpipe.layers import (
    QAdd,
    QAveragePooling1D,
    QAveragePooling2D,
    QConv1D,
    QConv1DTranspose,
    QConv2D,
    QConv2DTranspose,
    QDense,
    QDepthwiseConv1D,
    QDepthwiseConv2D,
    QGlobalAveragePooling1D,
    QGlobalAveragePooling2D,
    QMultiply,
    QPReLU,
    QSubtract,
    QuantizedBatchNormalization,
)
from qpipe.layers.activations import activation_name, activation_of_layer, fused_bounds
from qpipe.layers.batch_statistics import STATISTICS_ARGUMENTS
from qpipe.layers.folded import FOLDED_CLASS, BatchnormFolding
from qpipe.layers.linear import QuantizedLinear
from qpipe.layers.passing import PASSING

LINEAR_FIELDS = ("weight", "bias", "output", "buffer_bitwidth")
PRELU_FIELDS = ("a_quantizer", "output")
BATCHNORM_FIELDS = ("a_quantizer", "b_quantizer", "output", "buffer_bitwidth")


def keeps_quantizer(layer) -> bool:
    """Whether `layer` passes integers through, or clamps them, so that its output keeps its input's quantizer."""
    if type(layer) is keras.layers.Activation and layer.activation is keras.activations.linear:
        return True
    if type(layer) is keras.layers.UpSampling2D:
        return layer.interpolation == "nearest"
    return type(layer) in PASSING or activation_of_layer(layer) is not None


def treatment_of(node: Node) -> LayerTreatment | None:
    """Returns how the layer or operation of `node` is quantized, or None where Keras' own works on integers too."""
    return activation_treatment(node) or TREATMENTS.get(type(node.operation))


def why_float(decisions, node: Node, settings: LayerSettings) -> str | None:
    """Returns why the layer of `node` stays in float, or None if it is quantized.

    Args:
        decisions: those made so far.
        node: of the layer.
        settings: of the layer.
    """
    layer = node.operation
    if not settings.quantize:
        return "left in float by a rule"
    if getattr(layer, "data_format", "channels_last") not in ("channels_last", None):
        return "its channels come first"
    if keeps_quantizer(layer):
        edge = node.inputs[0]
        real = not decisions.is_quantized(edge) and not (decisions.is_input(edge) and edge.dtype == "float32")
        return "its input is in float" if real else None
    if activation_treatment(node) is not None:
        return why_activation_in_float(decisions, node)
    if type(layer) not in TREATMENTS:
        return _why_unknown(node)
    if type(layer) is keras.layers.Concatenate:
        return why_concatenation_in_float(decisions, node)
    if decisions.graph.calls(layer) > 1:
        return f"shared: it is called {decisions.graph.calls(layer)} times, on inputs of different scales"
    if isinstance(layer, keras.layers.BatchNormalization) and layer.axis not in (-1, len(node.inputs[0].shape) - 1):
        return f"its axis {layer.axis} is not the last one"
    if type(layer) in GLOBAL_AVERAGE_POOLING and node.mask is not None:
        return "it averages what a mask keeps"
    if type(layer) in MERGES and len({len(edge.shape) for edge in node.inputs}) > 1:
        return "its inputs have different ranks"
    if isinstance(layer, keras.layers.Multiply) and len(node.inputs) > 2:
        return f"it multiplies {len(node.inputs)} tensors; two have an integer form"
    return None


def _why_unknown(node: Node) -> str:
    layer = node.operation
    if not isinstance(layer, keras.layers.Layer):
        return f"the operation {type(layer).__name__} is not a layer and has no integer form yet"
    if type(layer) is keras.layers.Activation:
        return f"activation {activation_name(layer.activation)!r} has no integer form yet"
    return f"{type(layer).__name__} has no integer form yet"


def _apply_linear(rewrite, node: Node, settings: LayerSettings, plan: LayerPlan) -> None:
    layer = node.operation
    edge = node.inputs[0]
    x = rewrite.quantized(edge)
    input_quantizer = rewrite.quantizer_of(edge)
    buffer = settings.buffer_for(input_quantizer.bitwidth)
    fused, last, unfused = _activation_of(rewrite, node)
    axes = QUANTIZED_CLASS[type(layer)].channel_axes
    shared = last.outputs[0] if unfused is None else None
    output = rewrite.new_output(node.name, settings, signed=fused is None, edge=shared)
    quantizers = {
        "activation": fused,
        "kernel_quantizer": own_weight_quantizer(layer, settings, node.name)
        or weight_quantizer(settings.weight, node.name, axes),
        "bias_quantizer": own_bias_quantizer(layer, settings, node.name, buffer)
        or bias_quantizer(settings.bias, node.name, buffer),
        "output_quantizer": output,
        "input_quantizer": input_quantizer,
        "buffer_bitwidth": buffer,
    }
    quantized = _finish(rewrite, node, last, quantizers, x)
    _describe(plan, quantized, last, node)
    if unfused is not None:
        add_activation(rewrite, node, unfused, settings)


def _apply_batchnorm(rewrite, node: Node, settings: LayerSettings, plan: LayerPlan) -> None:
    edge = node.inputs[0]
    x = rewrite.quantized(edge)
    input_quantizer = rewrite.quantizer_of(edge)
    buffer = settings.buffer_for(input_quantizer.bitwidth)
    fused, last = rewrite.fuse_activation(node)
    known = ("name", "momentum", "epsilon", "center", "scale", "dtype", *STATISTICS_ARGUMENTS)
    config = {key: value for key, value in node.operation.get_config().items() if key in known}
    output = rewrite.new_output(node.name, settings, signed=fused is None, edge=last.outputs[0])
    layer = QuantizedBatchNormalization(
        **config | {"name": node.name},
        activation=fused,
        kernel_quantizer=weight_quantizer(settings.a_quantizer, node.name),
        bias_quantizer=bias_quantizer(settings.b_quantizer, node.name, buffer),
        output_quantizer=output,
        input_quantizer=input_quantizer,
        buffer_bitwidth=buffer,
        ema_freeze_delay=rewrite.ema_freeze_delay,
    )
    layer.trainable = node.operation.trainable
    rewrite.set(last.outputs[0], layer(x, **statistics_arguments(node, rewrite.real)), output)
    transfer(node.operation, layer)
    _describe(plan, layer, last, node)


def _apply_merge(rewrite, node: Node, settings: LayerSettings, plan: LayerPlan) -> None:
    tensors = [rewrite.quantized(edge) for edge in node.inputs]
    quantizers = [rewrite.quantizer_of(edge) for edge in node.inputs]
    fused, last = rewrite.fuse_activation(node)
    negative = any(quantizer.signed for quantizer in quantizers) or isinstance(node.operation, keras.layers.Subtract)
    output = rewrite.new_output(node.name, settings, signed=fused is None and negative, edge=last.outputs[0])
    layer = MERGES[type(node.operation)](quantizers, output, activation=fused, name=node.name)
    rewrite.set(last.outputs[0], layer(tensors), output)
    _describe(plan, layer, last, node)


def _apply_prelu(rewrite, node: Node, settings: LayerSettings, plan: LayerPlan) -> None:
    x = rewrite.quantized(node.inputs[0])
    quantizer = rewrite.quantizer_of(node.inputs[0])
    fused, last = rewrite.fuse_activation(node)
    signed = fused is None and quantizer.signed
    output = rewrite.new_output(node.name, settings, signed=signed, edge=last.outputs[0])
    slopes = weight_quantizer(replace(settings.a_quantizer, learned_step=False), node.name)
    layer = QPReLU(slopes, quantizer, output, activation=fused, **node.operation.get_config())
    layer.trainable = node.operation.trainable
    rewrite.set(last.outputs[0], layer(x), output)
    transfer(node.operation, layer)
    _describe(plan, layer, last, node)


def _apply_average_pooling(rewrite, node: Node, settings: LayerSettings, plan: LayerPlan) -> None:
    x = rewrite.quantized(node.inputs[0])
    quantizer = rewrite.quantizer_of(node.inputs[0])
    pooling = node.operation
    layer = AVERAGE_POOLING[type(pooling)](
        pooling.pool_size, pooling.strides, pooling.padding, input_quantizer=quantizer, name=node.name
    )
    rewrite.set(node.outputs[0], layer(x), quantizer)
    plan.output_bits = quantizer.bitwidth
    plan.output_scale = quantizer.scale_kind


def _apply_global_average_pooling(rewrite, node: Node, settings: LayerSettings, plan: LayerPlan) -> None:
    x = rewrite.quantized(node.inputs[0])
    quantizer = rewrite.quantizer_of(node.inputs[0])
    output = rewrite.new_output(node.name, settings, signed=quantizer.signed, edge=node.outputs[0])
    layer = GLOBAL_AVERAGE_POOLING[type(node.operation)](
        node.operation.keepdims, input_quantizer=quantizer, output_quantizer=output, name=node.name
    )
    rewrite.set(node.outputs[0], layer(x), output)
    _describe(plan, layer, node, node)


MERGES = {keras.layers.Add: QAdd, keras.layers.Subtract: QSubtract, keras.layers.Multiply: QMultiply}
AVERAGE_POOLING = {
    keras.layers.AveragePooling1D: QAveragePooling1D,
    keras.layers.AveragePooling2D: QAveragePooling2D,
}
GLOBAL_AVERAGE_POOLING = {
    keras.layers.GlobalAveragePooling1D: QGlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D: QGlobalAveragePooling2D,
}
QUANTIZED_CLASS: dict[type, Any] = {
    keras.layers.Conv1D: QConv1D,
    keras.layers.Conv2D: QConv2D,
    keras.layers.Conv1DTranspose: QConv1DTranspose,
    keras.layers.Conv2DTranspose: QConv2DTranspose,
    keras.layers.DepthwiseConv1D: QDepthwiseConv1D,
    keras.layers.DepthwiseConv2D: QDepthwiseConv2D,
    keras.layers.Dense: QDense,
    **{folded: folded for folded in FOLDED_CLASS.values()},
}
TREATMENTS: dict[type, LayerTreatment] = {
    **{kind: LayerTreatment(LINEAR_FIELDS, _apply_linear, fuses=True) for kind in QUANTIZED_CLASS},
    keras.layers.BatchNormalization: LayerTreatment(BATCHNORM_FIELDS, _apply_batchnorm, fuses=True),
    keras.layers.PReLU: LayerTreatment(PRELU_FIELDS, _apply_prelu, fuses=True),
    **{kind: LayerTreatment(("output",), _apply_merge, fuses=True) for kind in MERGES},
    keras.layers.Concatenate: LayerTreatment((), apply_concatenation),
    **{kind: LayerTreatment((), _apply_average_pooling) for kind in AVERAGE_POOLING},
    **{kind: LayerTreatment(("output",), _apply_global_average_pooling) for kind in GLOBAL_AVERAGE_POOLING},
}


def _activation_of(rewrite, node: Node):
    """Returns the fused activation, the node whose output the layer gives, and an activation left over."""
    own = node.operation.activation
    if own is not None and own is not keras.activations.linear:
        if fused_bounds(own) is None:
            return None, node, own
        return own, node, None
    fused, last = rewrite.fuse_activation(node)
    return fused, last, None


def _finish(rewrite, node: Node, last: Node, quantizers: dict, x):
    layer = node.operation
    quantized = QUANTIZED_CLASS[type(layer)].from_config(layer.get_config() | quantizers | {"name": node.name})
    quantized.trainable = layer.trainable
    arguments = statistics_arguments(node, rewrite.real) if isinstance(quantized, BatchnormFolding) else {}
    rewrite.set(last.outputs[0], quantized(x, **arguments), quantized.output_quantizer)
    transfer(layer, quantized)
    return quantized


def _describe(plan: LayerPlan, layer, last: Node, node: Node) -> None:
    """Fills in the widths and scales of the quantized layer."""
    plan.fused = last.name if last is not node else None
    plan.output_bits = layer.output_quantizer.bitwidth
    plan.output_scale = layer.output_quantizer.scale_kind
    weights = getattr(layer, "kernel_quantizer", getattr(layer, "slope_quantizer", None))
    if weights is not None:
        plan.weight_bits = weights.bitwidth
        kind = "" if weights.kind == "uniform" else f"{weights.kind} "
        plan.weight_scale = kind + weights.scale_kind + ("/channel" if weights.per_channel else "")
    if isinstance(layer, QuantizedLinear) and weights is not None:
        plan.buffer_bits = layer.buffer_bitwidth
        if getattr(layer, "use_bias", True) or layer.folded_weights()[1] is not None:
            plan.bias_bits = layer.bias_quantizer.mantissa_bitwidth
