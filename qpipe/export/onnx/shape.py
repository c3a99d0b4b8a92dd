"""Operators that move integers, or choose among them."""

from __future__ import annotations

import math

import numpy as np

from qpipe.export.onnx.call import Call
from qpipe.export.onnx.storage import dtype_of, type_range
from qpipe.integer.operators import Clamp, Crop, Identity, Pad, Repeat, Reshape, Transpose
from qpipe.numerics import round_half_even


def write_identity(operator: Identity, call: Call) -> None:
    """No node: the result has another name for the same tensor."""
    first = call.first
    call.writer.keep(call.name, call.input(first=first), first=first)


def write_reshape(operator: Reshape, call: Call) -> None:
    """Reshape with the channels last."""
    call.result("Reshape", [call.input(), call.integers([-1, *call.shape])])


def write_transpose(operator: Transpose, call: Call) -> None:
    """Transpose with the channels last."""
    call.result("Transpose", [call.input()], perm=operator.axes)


def write_padding(operator: Pad, call: Call) -> None:
    """Pad with the zero point."""
    first = call.first
    befores, afters = zip(*operator.padding, strict=True)
    pads = [*_all_axes(befores, 0, first), *_all_axes(afters, 0, first)]
    call.choose("Pad", call.integers(pads), call.format.zero_point - call.format.storage_offset, first=first)


def write_cropping(operator: Crop, call: Call) -> None:
    """Slice along the spatial axes."""
    first = call.first
    starts = [before for before, _ in operator.cropping]
    ends = [size - after for (_, after), size in zip(operator.cropping, call.input_shape(), strict=False)]
    axes = [axis + (2 if first else 1) for axis in range(len(operator.cropping))]
    call.result("Slice", [call.input(first=first), *map(call.integers, (starts, ends, axes))], first=first)


def write_repetition(operator: Repeat, call: Call) -> None:
    """Resize to the nearest position before."""
    factors = call.writer.constant(_all_axes(operator.factors, 1, True), "float32")
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    call.choose("Resize", "", factors, first=True, **nearest)


def write_clamp(operator: Clamp, call: Call) -> None:
    """Clip of the integers."""
    target, ends = call.format, type_range(dtype_of(call.format))
    low, high = (
        end
        if math.isinf(bound)
        else int(round_half_even(np.float32(bound) / target.scale)) + target.zero_point - target.storage_offset
        for bound, end in zip(operator.bounds, ends, strict=True)
    )
    low, high = (min(max(bound, ends.lowest), ends.highest) for bound in (low, high))
    call.choose("Clip", low, high, first=call.first)


def _all_axes(spatial, other: int, first: bool) -> list[int]:
    """Numbers for all axes, of those for the spatial ones and one for batch and channels."""
    return [other, other, *spatial] if first else [other, *spatial, other]
