"""What a model costs: parameters, bytes of its packed weights, multiply-accumulates, bit operations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras

from qpipe.layers.linear import QuantizedLinear
from qpipe.layers.prelu import QPReLU

FLOAT_BITS = 32


@dataclass(frozen=True)
class LayerCost:
    """Parameters as deployed (kernel and folded bias), their bytes when packed, and work for one sample.

    Bit operations are multiply-accumulates times bits of a weight times bits of an activation (BOPs, as in
    arXiv 1804.10969); what is in float counts 32 bits.
    """

    parameters: int
    packed_bytes: int
    multiply_accumulates: int
    bit_operations: int


def layer_cost(layer: keras.layers.Layer) -> LayerCost:
    """Returns the cost of one layer for one sample; a layer in float counts 4 bytes for each parameter."""
    if isinstance(layer, QPReLU):
        slopes = math.prod(layer.alpha.shape)
        return LayerCost(slopes, math.ceil(slopes * layer.slope_quantizer.bitwidth / 8), 0, 0)
    if not isinstance(layer, QuantizedLinear) or layer.kernel_quantizer is None:
        return _float_cost(layer) if _has_weights(layer) else LayerCost(0, 0, 0, 0)
    kernel, bias = layer.folded_weights()
    kernel_size = math.prod(kernel.shape)
    bias_size = 0 if bias is None else math.prod(bias.shape)
    packed = math.ceil(kernel_size * layer.kernel_quantizer.bitwidth / 8)
    if bias_size:
        packed += math.ceil(bias_size * layer.bias_quantizer.mantissa_bitwidth / 8)
    products = _positions(layer) * kernel_size
    activation_bits = FLOAT_BITS if layer.input_quantizer is None else layer.input_quantizer.bitwidth
    bit_operations = products * layer.kernel_quantizer.bitwidth * activation_bits
    return LayerCost(kernel_size + bias_size, packed, products, bit_operations)


def float_bytes(model: keras.Model) -> int:
    """Returns the bytes of a model's weights in float32."""
    return 4 * sum(math.prod(weight.shape) for weight in model.weights)


def packed_weight_bytes(model: keras.Model) -> int:
    """Returns the bytes of a quantized model's weights, each packed to its own width."""
    return sum(layer_cost(layer).packed_bytes for layer in model.layers)


def bit_operations(model: keras.Model) -> int:
    """Returns the bit operations of a quantized model's linear layers for one sample."""
    return sum(layer_cost(layer).bit_operations for layer in model.layers)


def _positions(layer: keras.layers.Layer) -> int:
    """How often the kernel is applied: at every output, or for a transposed convolution at every input."""
    transposed = isinstance(layer, keras.layers.Conv1DTranspose | keras.layers.Conv2DTranspose)
    return math.prod((layer.input if transposed else layer.output).shape[1:-1])


def _float_cost(layer: keras.layers.Layer) -> LayerCost:
    kernel = getattr(layer, "kernel", None)
    products = 0 if kernel is None else _positions(layer) * math.prod(kernel.shape)
    return LayerCost(layer.count_params(), 4 * layer.count_params(), products, products * FLOAT_BITS**2)


def _has_weights(layer) -> bool:
    """Whether a layer in float has weights of its own; boundaries and merges only hold quantizers."""
    return type(layer).__module__.startswith("keras.") and bool(layer.weights)
