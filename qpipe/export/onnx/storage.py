"""How integers are stored in an ONNX file."""

from __future__ import annotations

import numpy as np

from qpipe.export.network import Network
from qpipe.export.refusals import Refusal
from qpipe.numerics import IntegerRange, QuantizedFormat, integer_range

BITS = {"int4": 4, "int8": 8, "int16": 16, "int32": 32}


def dtype_of(target: QuantizedFormat) -> str:
    """Returns the type of activations: `int8` or `int16`, where 8 or 16 unsigned bits lose half their range.

    Raises:
        Refusal: if they have more than 16 bits.
    """
    if target.bitwidth > BITS["int16"]:
        raise Refusal(f"its activations have {target.bitwidth} bits; the format has types for at most 16")
    return "int8" if target.bitwidth <= BITS["int8"] else "int16"


def has_wide_activations(network: Network) -> bool:
    """Whether some activations need more than 8 bits."""
    return any(tensor.format is not None and dtype_of(tensor.format) != "int8" for tensor in network.tensors.values())


def type_range(dtype: str) -> IntegerRange:
    """Returns the integers that a type holds."""
    return integer_range(BITS[dtype])


def type_of_integers(integers: np.ndarray, what: str, types: tuple[str, ...]) -> str:
    """Returns the narrowest of some types that holds integers.

    Args:
        integers: any shape.
        what: names them in a message.
        types: keys of `BITS`, the narrowest first.

    Raises:
        Refusal: if none does.
    """
    lowest, highest = int(integers.min(initial=0)), int(integers.max(initial=0))
    for dtype in types:
        ends = type_range(dtype)
        if ends.lowest <= lowest and highest <= ends.highest:
            return dtype
    raise Refusal(
        f"its {what} reach from {lowest} to {highest}; the format stores them in at most {BITS[types[-1]]} bits"
    )
