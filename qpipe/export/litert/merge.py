"""Operators with several inputs."""

from __future__ import annotations

import numpy as np

from qpipe.export.litert.call import Call
from qpipe.export.litert.file import TYPES, FileTensor
from qpipe.export.litert.storage import require_factors, stored
from qpipe.export.refusals import Refusal
from qpipe.integer.operators import Concatenation, Product, Sum
from qpipe.numerics import sum_factors
from qpipe.numerics.sums import FACTOR_BITS


def write_sum(operator: Sum, call: Call) -> None:
    """ADD or SUB of two tensors; more are summed up in int32."""
    require_factors(np.array(operator.ratios), call.dtype)
    if len(operator.signs) != 2:
        _write_long_sum(operator, call)
        return
    options = {"potScaleInt16": False} if call.dtype == "int16" else None
    call.emit(
        "SUB" if operator.signs[1] < 0 else "ADD",
        [call.input(0), call.input(1)],
        options,
        requantization=operator.requantization,
        fuses=True,
    )


def write_product(operator: Product, call: Call) -> None:
    """MUL."""
    require_factors(operator.requantization.multiplier, call.dtype)
    call.emit("MUL", [call.input(0), call.input(1)], requantization=operator.requantization, fuses=True)


def write_concatenation(operator: Concatenation, call: Call) -> None:
    """CONCATENATION of tensors of one format."""
    inputs = [call.input(index) for index in range(len(call.step.inputs))]
    axis = operator.axis if operator.axis >= 0 else len(call.shape) + 1 + operator.axis
    call.emit("CONCATENATION", inputs, {"axis": axis})


def _write_long_sum(operator: Sum, call: Call) -> None:
    """The engine's own formula in int32: (sum of (q_i - z_i) * m_i + 2^(shift - 1)) >> shift, + z_y, clamped."""
    if call.dtype != "int8":
        raise Refusal(f"it adds {len(operator.signs)} tensors of 16 bits, which int32 does not hold: add two at a time")
    factors = [float(factor) for factor in sum_factors(list(operator.ratios))]
    shift = FACTOR_BITS - int(np.frexp(max(factors))[1])
    multipliers = [sign * round(factor * 2**shift) for sign, factor in zip(operator.signs, factors, strict=True)]
    largest = [max(-low, high) for low, high in (call.input_format(i).centred_integers for i in range(len(factors)))]
    worst = sum(abs(m) * size for m, size in zip(multipliers, largest, strict=True)) + 2 ** (shift - 1)
    if worst >= 2**31:
        raise Refusal(f"it adds {len(factors)} tensors, whose sum may leave int32: add two at a time")
    zero_points = [stored(call.input_format(i), call.dtype).zero_point for i in range(len(factors))]
    offset = 2 ** (shift - 1) - sum(m * z for m, z in zip(multipliers, zero_points, strict=True))
    total = call.integers(offset, "rounding")
    for index, multiplier in enumerate(multipliers):
        types = {"inDataType": TYPES["int8"], "outDataType": TYPES["int32"]}
        wide = _step(call, f"wide_{index}", "CAST", [call.input(index)], types)
        term = _step(call, f"term_{index}", "MUL", [wide, call.integers(multiplier, f"factor_{index}")])
        total = _step(call, f"sum_{index}", "ADD", [term, total])
    lowest, highest = (end - call.output.offset for end in operator.requantization.clamp)
    total = _step(call, "shifted", "RIGHT_SHIFT", [total, call.integers(shift, "shift")])
    total = _step(call, "moved", "ADD", [total, call.integers(call.output.zero_point, "zero_point")])
    total = _step(call, "raised", "MAXIMUM", [total, call.integers(lowest, "lowest")])
    total = _step(call, "clamped", "MINIMUM", [total, call.integers(highest, "highest")])
    call.emit("CAST", [total], {"inDataType": TYPES["int32"], "outDataType": TYPES["int8"]})


def _step(call: Call, name: str, operator: str, inputs: list[int], options: dict | None = None) -> int:
    """Adds an operator of int32 results, of the shape of the sum; returns its position."""
    tensor = FileTensor((1, *call.shape), "int32", batched=True)
    result = call.writer.file.add_tensor(tensor, f"{call.name}/{name}")
    call.writer.file.add_operator(operator, inputs, [result], options)
    return result
