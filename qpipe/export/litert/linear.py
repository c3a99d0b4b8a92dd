"""Convolutions, dense layers and batch normalizations that stand alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qpipe.export.litert.accumulators import require_room
from qpipe.export.litert.call import Call, Shape
from qpipe.export.litert.file import TYPES, FileTensor
from qpipe.export.litert.options import PADDINGS
from qpipe.export.litert.storage import require_factors, weight_type
from qpipe.export.refusals import Refusal
from qpipe.integer.operators import Convolution, Dense, Requantization, Scale, TransposedConvolution
from qpipe.integer.operators.linear import Linear

BIAS_TYPES = {"int8": np.int32, "int16": np.int64}
"""Types of biases for activations of each type; the runtime's convolutions do not work without a bias."""


def write_dense(operator: Dense, call: Call) -> None:
    """FULLY_CONNECTED over the last axis."""
    _write_matrix_product(operator, call, operator.kernel, call.input_shape())


def write_scale(operator: Scale, call: Call) -> None:
    """A factor and an offset for each channel: DEPTHWISE_CONV_2D with a window of one position."""
    kernel = operator.kernel.reshape(1, 1, 1, -1)
    weights = _weights(operator, call, kernel, 3)
    shape = _as_image(call.input_shape())
    _require_depthwise_type(call, weights.dtype)
    options = {"strideH": 1, "strideW": 1, "padding": PADDINGS["valid"], "depthMultiplier": 1}
    options |= {"dilationHFactor": 1, "dilationWFactor": 1}
    call.emit(
        "DEPTHWISE_CONV_2D",
        [call.input(shape=shape), *weights.positions],
        options,
        requantization=weights.requantization,
        fuses=True,
        shape=shape,
    )


def write_convolution(operator: Convolution, call: Call) -> None:
    """CONV_2D, or DEPTHWISE_CONV_2D where every group has one input; one spatial axis becomes the second of two.

    A window of one position with int4 weights is a FULLY_CONNECTED, which XNNPACK computes exactly.
    """
    kernel = _two_spatial_axes(operator.kernel)
    *_, inputs, outputs = kernel.shape
    if _is_pointwise(operator) and weight_type(kernel, call.writer.weight_types) == "int4":
        _write_matrix_product(operator, call, operator.kernel.reshape(inputs, outputs), _as_image(call.input_shape()))
        return
    depthwise = inputs == 1 and operator.groups > 1
    ordered = kernel.reshape(1, *kernel.shape[:2], outputs) if depthwise else kernel.transpose(3, 0, 1, 2)
    weights = _weights(operator, call, ordered, 3 if depthwise else 0)
    options = _geometry(operator.strides, operator.padding)
    options["dilationHFactor"], options["dilationWFactor"] = _two(operator.dilation)
    if depthwise:
        _require_depthwise_type(call, weights.dtype)
        options["depthMultiplier"] = outputs // operator.groups
    call.emit(
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        [_padded_input(operator, call), *weights.positions],
        options,
        requantization=weights.requantization,
        fuses=True,
        shape=_as_image(call.shape),
    )


def write_transposed_convolution(operator: TransposedConvolution, call: Call) -> None:
    """TRANSPOSE_CONV."""
    if any(distance != 1 for distance in operator.dilation):
        raise Refusal(f"TRANSPOSE_CONV has no dilation; received dilation_rate={operator.dilation}")
    kernel = _as_wide_as_strides(_two_spatial_axes(operator.kernel), _two(operator.strides))
    weights = _weights(operator, call, kernel.transpose(2, 0, 1, 3), 0, types=("int8",))
    shape = _as_image(call.shape)
    kernel_position, bias = weights.positions
    source = call.input(shape=_as_image(call.input_shape()))
    call.emit(
        "TRANSPOSE_CONV",
        [_output_shape(call, source, shape), kernel_position, source, bias],
        _geometry(operator.strides, operator.padding),
        requantization=weights.requantization,
        fuses=True,
        shape=shape,
    )


def _is_pointwise(operator: Convolution) -> bool:
    """Whether every position is multiplied by one matrix."""
    ones = (*operator.kernel.shape[:-2], *operator.strides, operator.groups)
    return all(size == 1 for size in ones)


def _write_matrix_product(operator: Dense | Convolution, call: Call, kernel: np.ndarray, shape: Shape) -> None:
    """FULLY_CONNECTED of an input of this shape; XNNPACK takes int4 weights for an even number of inputs."""
    types = ("int8",) if len(kernel) % 2 else call.writer.weight_types
    weights = _weights(operator, call, kernel.T, 0, types)
    call.emit(
        "FULLY_CONNECTED",
        [call.input(shape=shape), *weights.positions],
        {"keepNumDims": len(shape) > 1},
        requantization=weights.requantization,
        fuses=True,
        shape=(*shape[:-1], kernel.shape[-1]),
    )


@dataclass(frozen=True, eq=False)
class _Weights:
    """Positions of kernel and bias, the kernel's type, and what follows the accumulator."""

    positions: list[int]
    dtype: str
    requantization: Requantization


def _output_shape(call: Call, source: int, shape: Shape) -> int:
    """A constant for int8, where XNNPACK takes the batch from the input; for int16 the batch is read from the input."""
    if call.dtype == "int8":
        return call.integers([1, *shape], "output_shape")
    file = call.writer.file
    sizes, batch, joined = (
        file.add_tensor(FileTensor((count,), "int32"), f"{call.name}/{name}")
        for count, name in ((4, "input_shape"), (1, "batch"), (4, "output_shape"))
    )
    file.add_operator("SHAPE", [source], [sizes], {"outType": TYPES["int32"]})
    file.add_operator("SLICE", [sizes, call.integers([0], "first"), call.integers([1], "one")], [batch])
    file.add_operator("CONCATENATION", [batch, call.integers(shape, "sample_shape")], [joined], {"axis": 0})
    return joined


def _weights(
    operator: Linear, call: Call, kernel: np.ndarray, channel_axis: int, types: tuple[str, ...] | None = None
) -> _Weights:
    """Adds kernel and bias.

    Args:
        operator: whose weights they are.
        call: of the operator.
        kernel: its integers in the order in which the format has them.
        channel_axis: of that kernel.
        types: that the operator takes for it, the narrowest first; None takes the file's.

    Raises:
        Refusal: if there is no output quantizer, or the weights don't fit.
    """
    requantization = operator.requantization
    if not isinstance(requantization, Requantization):
        raise Refusal("it has no output quantizer, its results are real values")
    dtype = weight_type(kernel, types or call.writer.weight_types)
    scale = _scales(operator, call, kernel, channel_axis)
    data = np.ascontiguousarray(kernel, np.int8)
    tensor = FileTensor(kernel.shape, dtype, scale, channel_axis=channel_axis, data=data)
    require_room(operator, call, requantization.buffer_bitwidth)
    wide = np.zeros(kernel.shape[channel_axis], np.int64) if operator.bias is None else operator.bias
    narrow = wide.astype(BIAS_TYPES[call.dtype])
    bias = FileTensor.constant(narrow, call.input_format().scale * scale)
    if (narrow != wide).any():
        raise Refusal(f"its bias reaches {np.abs(wide).max()}; the format's biases have 32 bits")
    file = call.writer.file
    positions = [file.add_tensor(tensor, f"{call.name}/kernel"), file.add_tensor(bias, f"{call.name}/bias")]
    return _Weights(positions, dtype, requantization)


def _scales(operator: Linear, call: Call, kernel: np.ndarray, channel_axis: int) -> np.ndarray:
    """Returns the kernel's scales: one for each channel, or one for a matrix that has one.

    Channels whose weights and bias are all 0 may have any scale; here one with which results are on the output's.
    """
    one_scale = kernel.ndim == 2 and operator.kernel_scale.size == 1
    ratio = call.output.scale / call.input_format().scale
    axes = tuple(axis for axis in range(kernel.ndim) if one_scale or axis != channel_axis)
    dead = ~kernel.any(axis=axes) & (operator.bias is None or operator.bias == 0)
    dead = np.atleast_1d(dead.all() if one_scale else dead)
    scale = np.where(dead, ratio, operator.kernel_scale).astype(np.float32)
    require_factors(scale / ratio, call.dtype)
    return scale


def _as_wide_as_strides(kernel: np.ndarray, strides: tuple[int, int]) -> np.ndarray:
    """Adds weights of 0 behind a window that is narrower than its stride, for which XNNPACK has no kernel."""
    missing = [max(stride - size, 0) for stride, size in zip(strides, kernel.shape[:2], strict=True)]
    return np.pad(kernel, [*((0, count) for count in missing), (0, 0), (0, 0)])


def _require_depthwise_type(call: Call, dtype: str) -> None:
    if call.dtype == "int16" and dtype == "int4":
        raise Refusal(
            "LiteRT computes garbage for 16-bit activations with depthwise weights of 4 bits or less; give the layer "
            "weights of 5 to 8 bits, or set pack_int4=false"
        )


def _padded_input(operator: Convolution, call: Call) -> int:
    shape = _as_image(call.input_shape())
    index = call.input(shape=shape)
    if operator.padding != "causal":
        return index
    before = (operator.kernel.shape[0] - 1) * operator.dilation[0]
    padded = (shape[0], shape[1] + before, shape[2])
    tensor = call.writer.file.tensors[index]
    widened = FileTensor((1, *padded), tensor.dtype, tensor.scale, tensor.zero_point, batched=True)
    result = call.writer.file.add_tensor(widened, f"{call.name}/padded")
    pads = call.integers([[0, 0], [0, 0], [before, 0], [0, 0]], "padding")
    call.writer.file.add_operator("PAD", [index, pads], [result])
    return result


def _geometry(strides: tuple[int, ...], padding: str) -> dict:
    vertical, horizontal = _two(strides)
    return {"strideH": vertical, "strideW": horizontal, "padding": PADDINGS["same" if padding == "same" else "valid"]}


def _two(sizes: tuple[int, ...]) -> tuple[int, int]:
    """Sizes for two spatial axes, of those for one or two."""
    return (1, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])


def _two_spatial_axes(kernel: np.ndarray) -> np.ndarray:
    return kernel[np.newaxis] if kernel.ndim == 3 else kernel


def _as_image(shape: Shape) -> Shape:
    """Three axes (height, width, channels) for a sample of one to four."""
    if len(shape) <= 3:
        return (*(1,) * (3 - len(shape)), *shape)
    return (int(np.prod(shape[:-2])), *shape[-2:])
