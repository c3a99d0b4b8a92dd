"""What is known about the kernels with which LiteRT's default path computes a file."""

from __future__ import annotations

from qpipe.export.exported import Bound
from qpipe.export.litert.file import GraphFile

ROUNDING_OPERATORS = ("ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MEAN", "MUL", "SUB", "TRANSPOSE_CONV")
"""Operators that requantize, of which those of the runtime itself round otherwise than XNNPACK's."""

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")

EXACT = Bound(2e-5, 1, 1e-4, "XNNPACK rounds as the integer engine does; next to a tie, a softmax may differ by 1 LSB")
FOUR_BITS = Bound(0.5, 1, None, "XNNPACK has no convolutions with int4 weights, and those of the runtime round twice")
SIXTEEN_BITS = Bound(0.5, 4, None, "XNNPACK has no int16, and the runtime's multipliers have 16 bits")


def bound_of(file: GraphFile) -> Bound:
    """Returns how far a file may be from the integer engine, by the least exact of its kernels."""
    bounds = [EXACT]
    for operator, inputs, outputs in file.operators:
        tensors = [file.tensors[index] for index in (*inputs, *outputs) if index >= 0]
        if operator in ROUNDING_OPERATORS and any(tensor.dtype == "int16" for tensor in tensors):
            bounds.append(SIXTEEN_BITS)
        elif operator in CONVOLUTIONS and any(tensor.dtype == "int4" for tensor in tensors):
            bounds.append(FOUR_BITS)
    return max(bounds, key=lambda bound: bound.layer)
