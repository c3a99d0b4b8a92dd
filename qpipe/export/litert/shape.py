"""Operators that move integers, and clamps on their own."""

from __future__ import annotations

from qpipe.export.litert.call import Call
from qpipe.integer.operators import Clamp, Crop, Identity, Pad, Repeat, Requantization, Reshape, Transpose
from qpipe.numerics import IntegerRange


def write_identity(operator: Identity, call: Call) -> None:
    """Nothing: the result is the input."""
    call.writer.keep(call.name, call.dtype, call.shape, call.input())


def write_reshape(operator: Reshape, call: Call) -> None:
    """RESHAPE."""
    sizes = [-1, *call.shape]
    call.emit("RESHAPE", [call.input(), call.integers(sizes, "shape")], {"newShape": sizes})


def write_transpose(operator: Transpose, call: Call) -> None:
    """TRANSPOSE."""
    call.emit("TRANSPOSE", [call.input(), call.integers(operator.axes, "axes")])


def write_pad(operator: Pad, call: Call) -> None:
    """PAD, which pads with the zero point."""
    call.emit("PAD", [call.input(), call.integers([(0, 0), *operator.padding, (0, 0)], "padding")])


def write_crop(operator: Crop, call: Call) -> None:
    """SLICE; a size of -1 takes all samples."""
    starts = [0, *(before for before, _ in operator.cropping)]
    starts += [0] * (len(call.shape) + 1 - len(starts))
    inputs = [call.input(), call.integers(starts, "starts"), call.integers([-1, *call.shape], "sizes")]
    call.emit("SLICE", inputs)


def write_repeat(operator: Repeat, call: Call) -> None:
    """RESIZE_NEAREST_NEIGHBOR by whole factors."""
    line = len(operator.factors) == 1
    shape = (1, *call.shape) if line else call.shape
    source = (1, *call.input_shape()) if line else call.input_shape()
    inputs = [call.input(shape=source), call.integers(shape[:2], "size")]
    call.emit("RESIZE_NEAREST_NEIGHBOR", inputs, shape=shape)


def write_clamp(operator: Clamp, call: Call) -> None:
    """MAXIMUM and MINIMUM with the integers of the bounds."""
    lowest, highest = Requantization(1.0, call.input_format(), operator.bounds).clamp  # type: ignore[arg-type]
    offset = call.output.offset
    clamp = IntegerRange(lowest - offset, highest - offset)
    call.clamp(call.input(), clamp, call.output.integers, call.shape)
