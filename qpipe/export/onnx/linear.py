"""Convolutions, dense layers and batch normalizations that stand alone, with real values or with integers.

They are written as DequantizeLinear, Conv, QuantizeLinear, which accelerators and runtimes fuse to integer operators;
or as QLinearConv, the integer operator itself.
"""

from __future__ import annotations

import numpy as np

from qpipe.config.export_schema import OnnxOperators
from qpipe.export.onnx.call import Call
from qpipe.export.onnx.weights import StoredWeights, has_narrow_tensors, stored_weights
from qpipe.integer.operators import Convolution, Dense, Scale, TransposedConvolution
from qpipe.integer.operators.linear import Linear
from qpipe.integer.operators.windows import padding_of


def write_dense(operator: Dense, call: Call) -> None:
    """Gemm; a convolution over one position where it has integers, or more than one axis behind the batch."""
    if len(call.shape) == 1 and not _has_integers(operator, call):
        _with_real_values(
            "Gemm", call, stored_weights(operator, call, operator.kernel, operator.kernel, 1), first=False
        )
        return
    kernel = operator.kernel.T.reshape(*operator.kernel.T.shape, *(1,) * _rank(call))
    _convolve(operator, call, kernel, operator.kernel)


def write_scale(operator: Scale, call: Call) -> None:
    """A factor and an offset for each channel: a depthwise convolution over one position, or Mul and Add."""
    channels = operator.kernel.size
    products = operator.kernel.reshape(1, channels)
    if len(call.shape) > 1 or _has_integers(operator, call):
        kernel = operator.kernel.reshape(channels, 1, *(1,) * _rank(call))
        _convolve(operator, call, kernel, products, group=channels)
        return
    value, weights = call.real(), stored_weights(operator, call, operator.kernel, products, 0)
    for name, constant in zip(("Mul", "Add"), weights.dequantized(call), strict=False):
        value = call.node(name, [value, constant])
    call.quantize(value, weights.requantization)


def write_convolution(operator: Convolution, call: Call) -> None:
    """Conv, its padding written out."""
    axes = range(operator.kernel.ndim - 2)
    kernel = operator.kernel.transpose(-1, -2, *axes)
    window, sizes = operator.kernel.shape[:-2], call.input_shape()
    pads = [padding_of(operator.padding, sizes[a], window[a], operator.strides[a], operator.dilation[a]) for a in axes]
    _convolve(
        operator,
        call,
        kernel,
        operator.kernel,
        group=operator.groups,
        strides=operator.strides,
        dilations=operator.dilation,
        pads=[*(before for before, _ in pads), *(after for _, after in pads)],
    )


def write_transposed_convolution(operator: TransposedConvolution, call: Call) -> None:
    """ConvTranspose: the cropping of its ends are pads, what is missing behind them is output padding."""
    axes = range(operator.kernel.ndim - 2)
    kernel = operator.kernel.transpose(-1, -2, *axes)
    befores, afters, missing = [], [], []
    for a in axes:
        size, window, stride, dilation = (
            call.input_shape()[a],
            operator.kernel.shape[a],
            operator.strides[a],
            operator.dilation[a],
        )
        before, _ = padding_of(operator.padding, call.shape[a], window, stride, dilation)
        after = (size - 1) * stride + (window - 1) * dilation + 1 - before - call.shape[a]
        befores.append(before)
        afters.append(max(after, 0))
        missing.append(max(-after, 0))
    _with_real_values(
        "ConvTranspose",
        call,
        stored_weights(operator, call, kernel, operator.kernel.swapaxes(-1, -2), 1),
        strides=operator.strides,
        dilations=operator.dilation,
        pads=[*befores, *afters],
        output_padding=missing,
    )


def _rank(call: Call) -> int:
    """Axes of a convolution's window: one more than there is where nothing is left of the shape but the channels."""
    return max(len(call.shape) - 1, 1)


def _has_integers(operator: Linear, call: Call) -> bool:
    """Whether the layer is written with integers: wanted, and all that it computes with has 8 bits."""
    return call.writer.operators is OnnxOperators.qlinear and has_narrow_tensors(operator, call)


def _convolve(operator: Linear, call: Call, kernel: np.ndarray, products: np.ndarray, **attributes) -> None:
    weights = stored_weights(operator, call, kernel, products, 0)
    if _has_integers(operator, call):
        _with_integers(call, weights, **attributes)
    else:
        _with_real_values("Conv", call, weights, **attributes)


def _with_real_values(name: str, call: Call, weights: StoredWeights, *, first: bool = True, **attributes) -> None:
    real = call.node(name, [call.real(first=first), *weights.dequantized(call)], **attributes)
    call.quantize(real, weights.requantization, first=first)


def _with_integers(call: Call, weights: StoredWeights, **attributes) -> None:
    """QLinearConv; a sample that has channels alone gets an axis of one position for it."""
    value, position = call.input(first=True), call.integers([2])
    flat = len(call.shape) == 1
    value = call.node("Unsqueeze", [value, position]) if flat else value
    read, made = (call.writer.parameters(target) for target in (call.input_format(), call.format))
    inputs = [value, *read, *weights.parameters(call), *made, *([] if weights.bias is None else [weights.bias])]
    if flat:
        convolved = call.node("QLinearConv", inputs, **attributes)
        call.produce("Squeeze", [convolved, position], weights.requantization)
    else:
        call.produce("QLinearConv", inputs, weights.requantization, first=True, **attributes)
