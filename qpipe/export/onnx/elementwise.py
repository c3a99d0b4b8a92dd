"""Functions of single integers."""

from __future__ import annotations

import numpy as np

from qpipe.export.onnx.call import Call
from qpipe.export.onnx.storage import dtype_of
from qpipe.integer.operator import Notes
from qpipe.integer.operators import Lookup, PReLU, Requantize, Softmax
from qpipe.numerics import QuantizedTensor


def write_table(operator: Lookup | Requantize, call: Call) -> None:
    """Gather from what the operator makes of every integer of its input.

    ONNX counts negative indices from the end: the entry of a stored integer i is that of its place modulo the size.
    """
    source, first = call.input_format(), call.first
    lowest, highest = source.integers
    integers = np.arange(lowest, highest + 1)
    results = operator(QuantizedTensor(integers, source), notes=Notes())
    table = np.roll(results.integers - call.format.storage_offset, lowest - source.storage_offset)
    entries = call.writer.constant(table, dtype_of(call.format), f"{call.name}/table")
    call.result("Gather", [entries, call.cast(call.input(first=first), "int32")], first=first)


def write_prelu(operator: PReLU, call: Call) -> None:
    """rint(float32(max(q - z, 0)) * M + float32(min(q - z, 0) * a) * M_a): one of the two terms is always 0."""
    centred, zero = call.centred(), call.writer.constant(0.0, "float64")
    positive, negative = operator.multipliers(call.input_format())
    slopes = call.writer.constant(operator.slopes.astype(np.float64), "float64", f"{call.name}/slopes")
    below = call.node("Mul", [call.node("Min", [centred, zero]), slopes])
    terms = [
        call.node("Mul", [call.cast(part, "float32"), call.writer.constant(multiplier, "float32")])
        for part, multiplier in ((call.node("Max", [centred, zero]), positive), (below, negative))
    ]
    call.finish(call.node("Round", [call.node("Add", terms)]), operator.requantization)


def write_softmax(operator: Softmax, call: Call) -> None:
    """T[d] / sum(T[d]) with d = max(q) - q: whole sums, one division in float64."""
    integers = call.cast(call.input(), "int32")
    distance = call.node("Sub", [call.node("ReduceMax", [integers, call.integers([-1])], keepdims=1), integers])
    table = call.writer.constant(operator.exponentials, "int64", f"{call.name}/exponentials")
    exponentials = call.node("Gather", [table, distance])
    total = call.node("ReduceSum", [exponentials, call.integers([-1])], keepdims=1)
    share = call.node("Div", [call.cast(exponentials, "float64"), call.cast(total, "float64")])
    step = call.writer.constant(call.format.scale, "float64")
    rounded = call.node("Round", [call.node("Div", [share, step])])
    call.finish(call.cast(rounded, "float32"), operator.requantization)
