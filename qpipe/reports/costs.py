"""What a model costs: parameters, bytes of its packed weights, multiply-accumulates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras

from qpipe.layers.linear import QuantizedLinear


@dataclass(frozen=True)
class LayerCost:
    """Parameters as deployed (kernel and folded bias), their bytes when packed, and multiply-accumulates."""

    parameters: int
    packed_bytes: int
    multiply_accumulates: int


def layer_cost(layer: keras.layers.Layer) -> LayerCost:
    """Returns the cost of one layer for one sample; a layer in float counts 4 bytes for each parameter."""
    if not isinstance(layer, QuantizedLinear) or layer.kernel_quantizer is None:
        return (
            LayerCost(layer.count_params(), 4 * layer.count_params(), 0) if _has_weights(layer) else LayerCost(0, 0, 0)
        )
    kernel, bias = layer.folded_weights()
    kernel_size = math.prod(kernel.shape)
    bias_size = 0 if bias is None else math.prod(bias.shape)
    packed = math.ceil(kernel_size * layer.kernel_quantizer.bitwidth / 8)
    if bias_size:
        packed += math.ceil(bias_size * layer.bias_quantizer.mantissa_bitwidth / 8)
    positions = math.prod(layer.output.shape[1:-1])
    return LayerCost(kernel_size + bias_size, packed, positions * kernel_size)


def float_bytes(model: keras.Model) -> int:
    """Returns the bytes of a model's weights in float32."""
    return 4 * sum(math.prod(weight.shape) for weight in model.weights)


def packed_weight_bytes(model: keras.Model) -> int:
    """Returns the bytes of a quantized model's weights, each packed to its own width."""
    return sum(layer_cost(layer).packed_bytes for layer in model.layers)


def _has_weights(layer) -> bool:
    """Whether a layer in float has weights of its own; boundaries and merges only hold quantizers."""
    return type(layer).__module__.startswith("keras.") and bool(layer.weights)
