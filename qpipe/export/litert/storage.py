"""How quantized tensors are stored in a LiteRT file."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qpipe.export.refusals import Refusal
from qpipe.numerics import IntegerRange, QuantizedFormat, integer_range

WIDEST_ACTIVATION = 16
WIDEST_WEIGHT = 8
LARGEST_FACTOR = 256.0
"""XNNPACK has kernels for smaller factors only: beyond, LiteRT does not load a convolution, and sums come out wrong."""


class Stored(NamedTuple):
    """A tensor's type, scale and zero point in the file; a stored integer is the engine's less `offset`."""

    dtype: str
    scale: np.ndarray
    zero_point: int
    offset: int

    @property
    def integers(self) -> IntegerRange:
        """What the type holds."""
        return type_range(self.dtype)


def stored(target: QuantizedFormat, dtype: str) -> Stored:
    """Returns how integers of a format are stored in a type.

    Args:
        target: format of an activation.
        dtype: `int8`, where an unsigned integer q of 8 bits becomes q - 128; or `int16`, where the zero point is 0.

    Raises:
        Refusal: if they don't fit.
    """
    if dtype == "int8":
        return Stored(dtype, target.scale, target.zero_point - target.storage_offset, target.storage_offset)
    lowest, highest = target.centred_integers
    if target.bitwidth > WIDEST_ACTIVATION or lowest < -(2**15) or highest >= 2**15:
        raise Refusal(
            f"its activations of {target.bitwidth} bits reach from {lowest} to {highest} relative to their zero point; "
            "allowed are 16 bits with symmetric=true, and at most 15 bits where they are never negative (behind a ReLU)"
        )
    if target.zero_point and target.bitwidth > WIDEST_WEIGHT:
        raise Refusal(
            f"its activations of {target.bitwidth} bits have the zero point {target.zero_point}; 16-bit types have 0: "
            "set symmetric=true"
        )
    return Stored(dtype, target.scale, 0, target.zero_point)


def dtype_of(target: QuantizedFormat) -> str:
    """Returns the narrowest type for activations of a format."""
    return "int8" if target.bitwidth <= WIDEST_WEIGHT else "int16"


def weight_type(kernel: np.ndarray, types: tuple[str, ...]) -> str:
    """Returns the narrowest type for a kernel.

    Args:
        kernel: its integers.
        types: that the operator takes, the narrowest first.

    Raises:
        Refusal: if the integers need more than 8 bits.
    """
    lowest, highest = int(kernel.min(initial=0)), int(kernel.max(initial=0))
    for dtype in types:
        ends = type_range(dtype)
        if ends.lowest <= lowest and highest <= ends.highest:
            return dtype
    raise Refusal(f"its weights reach from {lowest} to {highest}; the format has weights of at most 8 bits")


def require_factors(factors: np.ndarray | np.float32, dtype: str) -> None:
    """Refuses factors between accumulator and output, or input and output, that the runtime's kernels don't compute.

    Args:
        factors: one or several.
        dtype: type in which the operator computes.

    Raises:
        Refusal: if one is too large.
    """
    largest = float(np.max(factors, initial=0.0))
    if dtype == "int8" and largest >= LARGEST_FACTOR:
        raise Refusal(
            f"it multiplies integers by {largest:.4g}, LiteRT computes factors below {LARGEST_FACTOR:g}: the range of "
            "its output is tiny beside that of its input"
        )


def type_range(dtype: str) -> IntegerRange:
    """Returns the integers that a signed type holds."""
    return integer_range(int(dtype.removeprefix("int")))
