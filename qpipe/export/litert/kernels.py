"""What is known about the kernels with which LiteRT's default path computes a file."""

from __future__ import annotations

from qpipe.export.exported import Bound
from qpipe.export.litert.file import GraphFile

ROUNDING_OPERATORS = ("ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MEAN", "MUL", "SUB", "TRANSPOSE_CONV")
"""Operators that requantize, of which those of the runtime itself round otherwise than XNNPACK's."""

EXACT = Bound(1e-4, 1, "XNNPACK rounds as the integer engine does, the softmax next to a tie by 1 LSB at most")
FOUR_BITS = Bound(0.5, 16, "XNNPACK has no convolutions with int4 weights; the runtime's round twice, 1 LSB per layer")
SIXTEEN_BITS = Bound(1.0, 256, "XNNPACK has no int16; the runtime's multipliers have 16 bits, some LSB per layer")


def bound_of(file: GraphFile) -> Bound:
    """Returns how far a file's outputs may be from the integer engine's, by the least exact of its kernels."""
    bounds = [EXACT]
    for operator, inputs, outputs in file.operators:
        tensors = [file.tensors[index] for index in (*inputs, *outputs) if index >= 0]
        if operator in ROUNDING_OPERATORS and any(tensor.dtype == "int16" for tensor in tensors):
            bounds.append(SIXTEEN_BITS)
        elif operator in ROUNDING_OPERATORS and any(tensor.dtype == "int4" for tensor in tensors):
            bounds.append(FOUR_BITS)
    return max(bounds, key=lambda bound: bound.largest_lsb)
