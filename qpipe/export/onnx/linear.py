"""Convolutions, dense layers and batch normalizations that stand alone: what accelerators fuse to integer operators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qpipe.export.onnx.call import Call
from qpipe.export.onnx.storage import dtype_of, type_of_integers
from qpipe.export.refusals import Refusal
from qpipe.integer.operators import Convolution, Dense, Requantization, Scale, TransposedConvolution
from qpipe.integer.operators.linear import Linear
from qpipe.integer.operators.windows import padding_of
from qpipe.numerics import integer_range

RUNTIME_BUFFER = 32
"""Bits of the accumulator of the operators to which 8-bit layers are fused; it wraps."""


def write_dense(operator: Dense, call: Call) -> None:
    """Gemm; for more than one axis behind the batch a convolution with a window of one position."""
    if len(call.shape) > 1:
        rank = len(call.shape) - 1
        kernel = operator.kernel.T.reshape(*operator.kernel.T.shape, *(1,) * rank)
        _emit("Conv", operator, call, _Written(kernel, 0, operator.kernel))
    else:
        _emit("Gemm", operator, call, _Written(operator.kernel, 1, operator.kernel), first=False)


def write_scale(operator: Scale, call: Call) -> None:
    """A factor and an offset for each channel: a depthwise convolution with a window of one position."""
    channels, rank = operator.kernel.size, len(call.shape) - 1
    if rank:
        written = _Written(operator.kernel.reshape(channels, 1, *(1,) * rank), 0, operator.kernel.reshape(1, channels))
        _emit("Conv", operator, call, written, group=channels)
        return
    constants = _constants(operator, call, _Written(operator.kernel, 0, operator.kernel.reshape(1, channels)))
    value = call.real()
    for name, constant in zip(("Mul", "Add"), constants, strict=False):
        value = call.node(name, [value, constant])
    _finish(operator, call, value, first=False)


def write_convolution(operator: Convolution, call: Call) -> None:
    """Conv, its padding written out."""
    axes = range(operator.kernel.ndim - 2)
    kernel = operator.kernel.transpose(-1, -2, *axes)
    window, sizes = operator.kernel.shape[:-2], call.input_shape()
    pads = [padding_of(operator.padding, sizes[a], window[a], operator.strides[a], operator.dilation[a]) for a in axes]
    _emit(
        "Conv",
        operator,
        call,
        _Written(kernel, 0, operator.kernel),
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
    _emit(
        "ConvTranspose",
        operator,
        call,
        _Written(kernel, 1, operator.kernel.swapaxes(-1, -2)),
        strides=operator.strides,
        dilations=operator.dilation,
        pads=[*befores, *afters],
        output_padding=missing,
    )


@dataclass(frozen=True, eq=False)
class _Written:
    """A kernel as the file has it.

    Attributes:
        kernel: integers in ONNX's order of axes.
        channel_axis: the axis of the output channels.
        products: the same integers, the output channels last.
    """

    kernel: np.ndarray
    channel_axis: int
    products: np.ndarray


def _emit(operator_name: str, operator: Linear, call: Call, written: _Written, *, first=True, **attributes) -> None:
    inputs = [call.real(first=first), *_constants(operator, call, written)]
    _finish(operator, call, call.node(operator_name, inputs, **attributes), first=first)


def _finish(operator: Linear, call: Call, real: str, *, first: bool) -> None:
    target = operator.requantization
    if isinstance(target, Requantization):
        call.quantize(real, target, first=first)
        return
    bounds = [call.writer.constant(bound, "float32", "bound") if np.isfinite(bound) else "" for bound in target.bounds]
    call.result("Clip" if any(bounds) else "Identity", [real, *bounds] if any(bounds) else [real], first=first)


def _constants(operator: Linear, call: Call, written: _Written) -> list[str]:
    """The real kernel and bias: integers behind DequantizeLinear.

    Kernels of 4 bits and less are stored in 4 bits and cast to 8, which the runtime does when it loads the file.
    Beside activations of 16 bits kernels are cast to 16 bits: ONNX Runtime takes a dense layer with an 8-bit kernel
    that it can't fuse for one of a language model, and quantizes its activations to 8 bits on the fly.
    """
    dtype = type_of_integers(operator.kernel, "weights", ("int4", "int8", "int16"))
    narrow = "int8" == dtype_of(call.input_format()) == dtype_of(call.format) and dtype != "int16"
    _require_room(operator, call, written.products, fuses=narrow)
    kernel = call.writer.constant(written.kernel, dtype, f"{call.name}/kernel")
    computed = "int8" if narrow else "int16"
    if dtype != computed:
        kernel = call.cast(kernel, computed)
    scales = operator.kernel_scale
    inputs = [_dequantize(call, kernel, scales, written.channel_axis)]
    if operator.bias is not None:
        type_of_integers(operator.bias, "biases", ("int32",))
        bias = call.writer.constant(operator.bias, "int32", f"{call.name}/bias")
        inputs.append(_dequantize(call, bias, scales * call.input_format().scale, 0))
    return inputs


def _dequantize(call: Call, integers: str, scales: np.ndarray, axis: int) -> str:
    """DequantizeLinear with one scale, or one for each channel; the zero point is 0."""
    per_channel = scales.size > 1
    scale = call.writer.constant(scales if per_channel else scales.item(), "float32", "scale")
    return call.node("DequantizeLinear", [integers, scale], **({"axis": axis} if per_channel else {}))


def _require_room(operator: Linear, call: Call, products: np.ndarray, *, fuses: bool) -> None:
    """Refuses a layer whose accumulator can leave its buffer, or the runtime's, for some input.

    Args:
        operator: of the layer.
        call: likewise.
        products: the kernel, the output channels last.
        fuses: whether the runtime may compute in 32-bit integers, because all of the layer has 8 bits.

    Raises:
        Refusal: it can.
    """
    low, high = call.input_format().centred_integers
    sums = tuple(range(products.ndim - 1))
    highest = np.maximum(products * low, products * high).sum(axis=sums)
    lowest = np.minimum(products * low, products * high).sum(axis=sums)
    if operator.bias is not None:
        highest, lowest = highest + operator.bias, lowest + operator.bias
    width = operator.requantization.buffer_bitwidth
    if fuses:
        width = min(width, RUNTIME_BUFFER)
    allowed = integer_range(width)
    reached = int(lowest.min(initial=0)), int(highest.max(initial=0))
    if reached[0] < allowed.lowest or reached[1] > allowed.highest:
        raise Refusal(
            f"its accumulator can reach from {reached[0]} to {reached[1]} and would saturate at {width} bits, which "
            "the format can't express; give it a wider buffer_bitwidth or narrower weights"
        )
