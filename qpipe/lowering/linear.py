"""Lowering of convolutions, dense layers and batch normalizations that stay."""

from __future__ import annotations

import numpy as np

from qpipe.errors import QuantizationError
from qpipe.integer.operators import Convolution, Dense, RealOutput, Requantization, Scale, TransposedConvolution
from qpipe.layers.linear import QuantizedLinear
from qpipe.lowering.requantization import requantization


def lower_dense(layer: QuantizedLinear) -> Dense:
    """Returns the operator of a dense layer."""
    return Dense(**_weights(layer))


def lower_batch_normalization(layer: QuantizedLinear) -> Scale:
    """Returns the operator of a batch normalization: a factor and an offset for each channel."""
    return Scale(**_weights(layer))


def lower_convolution(layer: QuantizedLinear) -> Convolution:
    """Returns the operator of a convolution."""
    return Convolution(**_weights(layer), **_geometry(layer), groups=layer.groups)


def lower_depthwise_convolution(layer: QuantizedLinear) -> Convolution:
    """Returns a convolution with as many groups as inputs; the kernel's last two axes become the outputs."""
    weights = _weights(layer)
    *window, inputs, multiplier = weights["kernel"].shape
    weights["kernel"] = weights["kernel"].reshape(*window, 1, inputs * multiplier)
    return Convolution(**weights, **_geometry(layer), groups=inputs)


def lower_transposed_convolution(layer: QuantizedLinear) -> TransposedConvolution:
    """Returns the operator of a transposed convolution."""
    return TransposedConvolution(**_weights(layer), **_geometry(layer))


def _weights(layer: QuantizedLinear) -> dict:
    integers = layer.integer_weights()
    scale = np.asarray(layer.accumulator_scale())
    return {
        "kernel": np.asarray(integers.kernel).astype(np.int64),
        "bias": None if integers.bias is None else np.asarray(integers.bias).astype(np.int64),
        "requantization": _output(layer, scale),
        "kernel_scale": np.asarray(integers.scale, np.float32).reshape(-1),
    }


def _output(layer: QuantizedLinear, scale: np.ndarray) -> Requantization | RealOutput:
    if layer.output_quantizer is not None:
        return requantization(layer.output_quantizer, scale, layer.bounds, layer.buffer_bitwidth)
    if layer.bounds is None:
        raise QuantizationError(f"layer {layer.name!r}: its activation has no integer form without an output quantizer")
    return RealOutput(scale, layer.bounds, layer.buffer_bitwidth)


def _geometry(layer) -> dict:
    return {"strides": layer.strides, "dilation": layer.dilation_rate, "padding": layer.padding}
