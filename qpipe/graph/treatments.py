"""How each kind of layer is quantized, and why a layer stays in float."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from qpipe.graph.layer_plan import LayerPlan
from qpipe.graph.quantizer_factory import bias_quantizer, weight_quantizer
from qpipe.graph.rebuild import transfer
from qpipe.graph.rules import LayerSettings
from qpipe.graph.trace import Node
from qpipe.layers import (
    QAdd,
    QAveragePooling2D,
    QConv2D,
    QConv2DBatchnorm,
    QDense,
    QDenseBatchnorm,
    QDepthwiseConv2D,
    QDepthwiseConv2DBatchnorm,
    QGlobalAveragePooling2D,
    QuantizedBatchNormalization,
)
from qpipe.layers.activations import fused_bounds
from qpipe.layers.batch_statistics import STATISTICS_ARGUMENTS

LINEAR_FIELDS = ("weight", "bias", "output", "buffer_bitwidth")
BATCHNORM_FIELDS = ("a_quantizer", "b_quantizer", "output", "buffer_bitwidth")
KEEPS_QUANTIZER = (
    keras.layers.MaxPooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.ZeroPadding2D,
    keras.layers.Cropping2D,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Permute,
    keras.layers.Dropout,
)


@dataclass(frozen=True)
class LayerTreatment:
    """How one kind of layer is quantized: the fields of a rule that it has, and the rewrite."""

    fields: tuple[str, ...]
    apply: Callable[[Any, Node, LayerSettings, LayerPlan], None]


def keeps_quantizer(layer) -> bool:
    """Whether `layer` passes integers through as they are, so that its output keeps its input's quantizer."""
    if type(layer) is keras.layers.ReLU:
        return layer.max_value is None and not layer.negative_slope and not layer.threshold
    if type(layer) is keras.layers.Activation:
        return layer.activation in (keras.activations.linear, keras.activations.relu)
    if type(layer) is keras.layers.UpSampling2D:
        return layer.interpolation == "nearest"
    return type(layer) in KEEPS_QUANTIZER


def why_float(rewrite, node: Node, settings: LayerSettings) -> str | None:
    """Returns why the layer of `node` stays in float, or None if it is quantized."""
    layer = node.operation
    if not settings.quantize:
        return "left in float by a rule"
    if keeps_quantizer(layer):
        edge = node.inputs[0]
        real = rewrite.quantizer_of(edge) is None and not (rewrite.is_input(edge) and edge.dtype == "float32")
        return "its input is in float" if real else None
    if type(layer) not in TREATMENTS:
        return _why_unknown(rewrite, node)
    if rewrite.graph.calls(layer) > 1:
        return f"shared: it is called {rewrite.graph.calls(layer)} times, on inputs of different scales"
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return "its channels come first"
    if isinstance(layer, keras.layers.BatchNormalization) and layer.axis not in (-1, len(node.inputs[0].shape) - 1):
        return f"its axis {layer.axis} is not the last one"
    if isinstance(layer, keras.layers.Add) and len({edge.shape for edge in node.inputs}) > 1:
        return "it broadcasts its inputs"
    return None


def _why_unknown(rewrite, node: Node) -> str:
    layer = node.operation
    activation = getattr(layer, "activation", None)
    name = getattr(activation, "__name__", "") or type(layer).__name__.lower()
    at_output = any(rewrite.graph.is_output(edge) for edge in node.outputs)
    if name == "softmax" and at_output:
        return "softmax at the model's output stays in float"
    if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization) and rewrite.is_input(node.inputs[0]):
        return "it prepares the input, before the input's quantizer"
    if not isinstance(layer, keras.layers.Layer):
        return f"the operation {type(layer).__name__} is not a layer and has no integer form yet"
    if type(layer) is keras.layers.ReLU:
        return "a ReLU with bounds or a slope that no layer before it takes in has no integer form yet"
    what = f"activation {name!r}" if type(layer) is keras.layers.Activation else type(layer).__name__
    return f"{what} has no integer form yet"


def _apply_linear(rewrite, node: Node, settings: LayerSettings, plan: LayerPlan) -> None:
    layer = node.operation
    edge = node.inputs[0]
    x = rewrite.quantized(edge)
    input_quantizer = rewrite.quantizer_of(edge)
    buffer = settings.buffer_for(input_quantizer.bitwidth)
    fused, last, unfused = _activation_of(rewrite, node)
    axes = QUANTIZED_CLASS[type(layer)].channel_axes
    output = rewrite.new_output(node.name, settings, signed=fused is None)
    quantizers = {
        "activation": fused,
        "kernel_quantizer": weight_quantizer(settings.weight, node.name, axes),
        "bias_quantizer": bias_quantizer(settings.bias, node.name, buffer),
        "output_quantizer": output,
        "input_quantizer": input_quantizer,
        "buffer_bitwidth": buffer,
    }
    quantized = _finish(rewrite, node, last, quantizers, x)
    _describe(plan, quantized, last, node)
    if unfused is not None:
        name = getattr(unfused, "__name__", type(unfused).__name__.lower())
        activation = keras.layers.Activation(unfused, name=f"{node.name}_{name}")
        rewrite.rebuild.set(last.outputs[0], activation(rewrite.real(last.outputs[0])))
        rewrite.forget(last.outputs[0])
        plan.reason = f"activation {name!r} stays in float, behind the layer"


def _apply_batchnorm(rewrite, node: Node, settings: LayerSettings, plan: LayerPlan) -> None:
    edge = node.inputs[0]
    x = rewrite.quantized(edge)
    input_quantizer = rewrite.quantizer_of(edge)
    buffer = settings.buffer_for(input_quantizer.bitwidth)
    fused, last = rewrite.fuse_activation(node)
    known = ("name", "momentum", "epsilon", "center", "scale", "dtype", *STATISTICS_ARGUMENTS)
    config = {key: value for key, value in node.operation.get_config().items() if key in known}
    output = rewrite.new_output(node.name, settings, signed=fused is None)
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
    rewrite.set(last.outputs[0], layer(x), output)
    transfer(node.operation, layer)
    _describe(plan, layer, last, node)


def _apply_add(rewrite, node: Node, settings: LayerSettings, plan: LayerPlan) -> None:
    tensors = [rewrite.quantized(edge) for edge in node.inputs]
    quantizers = [rewrite.quantizer_of(edge) for edge in node.inputs]
    fused, last = rewrite.fuse_activation(node)
    signed = fused is None and any(quantizer.signed for quantizer in quantizers)
    output = rewrite.new_output(node.name, settings, signed=signed)
    layer = QAdd(quantizers, output, activation=fused, name=node.name)
    rewrite.set(last.outputs[0], layer(tensors), output)
    _describe(plan, layer, last, node)


def _apply_average_pooling(rewrite, node: Node, settings: LayerSettings, plan: LayerPlan) -> None:
    x = rewrite.quantized(node.inputs[0])
    quantizer = rewrite.quantizer_of(node.inputs[0])
    pooling = node.operation
    layer = QAveragePooling2D(
        pooling.pool_size, pooling.strides, pooling.padding, input_quantizer=quantizer, name=node.name
    )
    rewrite.set(node.outputs[0], layer(x), quantizer)
    plan.output_bits = quantizer.bitwidth
    plan.output_scale = quantizer.scale_kind


def _apply_global_average_pooling(rewrite, node: Node, settings: LayerSettings, plan: LayerPlan) -> None:
    x = rewrite.quantized(node.inputs[0])
    quantizer = rewrite.quantizer_of(node.inputs[0])
    output = rewrite.new_output(node.name, settings, signed=quantizer.signed)
    layer = QGlobalAveragePooling2D(
        node.operation.keepdims, input_quantizer=quantizer, output_quantizer=output, name=node.name
    )
    rewrite.set(node.outputs[0], layer(x), output)
    _describe(plan, layer, node, node)


QUANTIZED_CLASS = {
    keras.layers.Conv2D: QConv2D,
    keras.layers.DepthwiseConv2D: QDepthwiseConv2D,
    keras.layers.Dense: QDense,
    QConv2DBatchnorm: QConv2DBatchnorm,
    QDepthwiseConv2DBatchnorm: QDepthwiseConv2DBatchnorm,
    QDenseBatchnorm: QDenseBatchnorm,
}
TREATMENTS: dict[type, LayerTreatment] = {
    **{kind: LayerTreatment(LINEAR_FIELDS, _apply_linear) for kind in QUANTIZED_CLASS},
    keras.layers.BatchNormalization: LayerTreatment(BATCHNORM_FIELDS, _apply_batchnorm),
    keras.layers.Add: LayerTreatment(("output",), _apply_add),
    keras.layers.AveragePooling2D: LayerTreatment((), _apply_average_pooling),
    keras.layers.GlobalAveragePooling2D: LayerTreatment(("output",), _apply_global_average_pooling),
}


def _activation_of(rewrite, node: Node):
    """Returns the fused activation's name, the node whose output the layer gives, and an activation left over."""
    own = node.operation.activation
    if own is not None and own is not keras.activations.linear:
        if fused_bounds(own) is None:
            return None, node, own
        return own.__name__, node, None
    fused, last = rewrite.fuse_activation(node)
    return fused, last, None


def _finish(rewrite, node: Node, last: Node, quantizers: dict, x):
    layer = node.operation
    quantized = QUANTIZED_CLASS[type(layer)].from_config(layer.get_config() | quantizers | {"name": node.name})
    quantized.trainable = layer.trainable
    rewrite.set(last.outputs[0], quantized(x), quantized.output_quantizer)
    transfer(layer, quantized)
    return quantized


def _describe(plan: LayerPlan, layer, last: Node, node: Node) -> None:
    """Fills in the widths and scales of the quantized layer."""
    plan.fused = last.name if last is not node else None
    plan.output_bits = layer.output_quantizer.bitwidth
    plan.output_scale = layer.output_quantizer.scale_kind
    weights = getattr(layer, "kernel_quantizer", None)
    if weights is not None:
        plan.weight_bits = weights.bitwidth
        plan.weight_scale = weights.scale_kind + ("/channel" if weights.per_channel else "")
        plan.buffer_bits = layer.buffer_bitwidth
        if getattr(layer, "use_bias", True) or layer.folded_weights()[1] is not None:
            plan.bias_bits = layer.bias_quantizer.mantissa_bitwidth
