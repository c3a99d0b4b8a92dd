"""Poolings: means in whole numbers, so that their ties are rounded as the integer engine rounds them."""

from __future__ import annotations

import math

import numpy as np

from qpipe.export.onnx.call import Call
from qpipe.export.refusals import Refusal
from qpipe.integer.operators import AveragePooling, GlobalMaxPooling, GlobalMean, MaxPooling
from qpipe.integer.operators.windows import padding_of

EXACT_IN_FLOAT32 = 2**24
ONE = np.float32(1.0)


def write_average_pooling(operator: AveragePooling, call: Call) -> None:
    """AveragePool of the stored integers, then sign * floor(|mean| + 1/2 + 1/(4n)).

    A mean of at most n whole numbers that is no tie is at least 1/(2n) away from one: the 1/(4n) lets every tie round
    away from zero, in whatever way the runtime divides, and moves nothing else.
    """
    positions = math.prod(operator.window)
    if positions << call.format.bitwidth > EXACT_IN_FLOAT32:
        raise Refusal(f"sums of {positions} integers of {call.format.bitwidth} bits are not exact in float32")
    value = call.cast(call.input(first=True), "float32")
    mean = call.node("AveragePool", [value], count_include_pad=0, **_window(operator, call))
    half = call.writer.constant(0.5 + 0.25 / positions, "float32")
    magnitude = call.node("Floor", [call.node("Add", [call.node("Abs", [mean]), half])])
    rounded = call.node("Mul", [call.node("Sign", [mean]), magnitude])
    call.narrow(rounded, first=True)


def write_max_pooling(operator: MaxPooling, call: Call) -> None:
    """MaxPool; padded positions never win."""
    call.choose("MaxPool", first=True, **_window(operator, call))


def write_global_max_pooling(operator: GlobalMaxPooling, call: Call) -> None:
    """ReduceMax over all spatial axes."""
    call.choose("ReduceMax", call.integers(_spatial(call)), first=True, keepdims=int(operator.keepdims))


def write_global_mean(operator: GlobalMean, call: Call) -> None:
    """The very operations of `GlobalMean` in float32, on an exact int32 sum."""
    source, target = call.input_format(), call.format
    total = call.cast(call.input(first=True), "int32")
    total = call.node("ReduceSum", [total, call.integers(_spatial(call))], keepdims=int(operator.keepdims))
    positions = np.float32(math.prod(call.input_shape()[:-1]))
    multiplier = operator.requantization.multiplier * (ONE / positions)
    input_zero, output_zero = (np.float32(f.zero_point - f.storage_offset) for f in (source, target))
    bias = output_zero - input_zero * positions * multiplier
    scaled = call.node("Mul", [call.cast(total, "float32"), call.writer.constant(multiplier, "float32")])
    shifted = call.node("Add", [scaled, call.writer.constant(bias, "float32")])
    call.store(call.node("Round", [shifted]), operator.requantization, first=True)


def _spatial(call: Call) -> list[int]:
    """The spatial axes where channels come first."""
    return list(range(2, len(call.input_shape()) + 1))


def _window(operator: AveragePooling | MaxPooling, call: Call) -> dict:
    axes = range(len(operator.window))
    sizes = call.input_shape()
    pads = [padding_of(operator.padding, sizes[a], operator.window[a], operator.strides[a]) for a in axes]
    return {
        "kernel_shape": operator.window,
        "strides": operator.strides,
        "pads": [*(before for before, _ in pads), *(after for _, after in pads)],
    }
