"""Operators with several inputs, in float64, which holds their sums and products exactly."""

from __future__ import annotations

from qpipe.export.onnx.call import Call
from qpipe.export.refusals import Refusal
from qpipe.integer.operators import Concatenation, Product, Sum
from qpipe.numerics import sum_factors


def write_sum(operator: Sum, call: Call) -> None:
    """floor(sum of (q_i - z_i) * m_i + 1/2): no Add between DequantizeLinear and QuantizeLinear rounds ties up."""
    first = call.first
    total = None
    for index, (sign, factor) in enumerate(zip(operator.signs, sum_factors(list(operator.ratios)), strict=True)):
        scaled = call.node("Mul", [call.centred(index, first=first), call.writer.constant(sign * factor, "float64")])
        total = scaled if total is None else call.node("Add", [total, scaled])
    assert total is not None
    rounded = call.node("Floor", [call.offset(total, 0.5, "float64")])
    call.finish(call.cast(rounded, "float32"), operator.requantization, first=first)


def write_product(operator: Product, call: Call) -> None:
    """rint(float32((q_1 - z_1) * (q_2 - z_2)) * M)."""
    first = call.first
    product = call.node("Mul", [call.centred(0, first=first), call.centred(1, first=first)])
    multiplier = call.writer.constant(operator.requantization.multiplier, "float32")
    scaled = call.node("Mul", [call.cast(product, "float32"), multiplier])
    call.finish(call.node("Round", [scaled]), operator.requantization, first=first)


def write_concatenation(operator: Concatenation, call: Call) -> None:
    """Concat of the integers, which have one format."""
    for index in range(1, len(call.step.inputs)):
        one, other = call.input_format(), call.input_format(index)
        if (one.bitwidth, one.signed) != (other.bitwidth, other.signed):
            raise Refusal("its inputs have different widths; the format concatenates tensors of one type")
    rank = len(call.shape) + 1
    first, axis = call.first and rank > 2, operator.axis % rank
    if first:
        axis = 1 if axis == rank - 1 else axis + 1
    inputs = [call.input(index, first=first) for index in range(len(call.step.inputs))]
    call.result("Concat", inputs, first=first, axis=axis)
