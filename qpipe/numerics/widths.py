"""Operations that change the width of a quantized tensor without saturating."""

from __future__ import annotations

import operator
from dataclasses import replace

import numpy as np

from qpipe.errors import QuantizationError
from qpipe.numerics.integers import bits_for
from qpipe.numerics.quantized import QuantizedTensor
from qpipe.numerics.rounding import shift_right_half_even


def promote(tensor: QuantizedTensor, bitwidth: int, *, signed: bool | None = None) -> QuantizedTensor:
    """Widens a tensor: the same integers, scale and zero point in more bits.

    Args:
        tensor: what to widen.
        bitwidth: of the result.
        signed: of the result, which needs one bit more for a tensor that was unsigned; None keeps it.

    Raises:
        QuantizationError: if the new integers do not include all of the old ones.
    """
    old = tensor.format
    signed = old.signed if signed is None else signed
    smallest = old.bitwidth + (signed and not old.signed)
    if bitwidth < smallest or (old.signed and not signed):
        raise QuantizationError(
            f"{name_of_width(old.bitwidth, old.signed)} can't be promoted to {name_of_width(bitwidth, signed)}; "
            f"allowed: {name_of_width(smallest, signed or old.signed)} or more (saturate narrows)"
        )
    return replace(tensor, format=replace(old, bitwidth=bitwidth, signed=signed))


def remove_zero_point(tensor: QuantizedTensor) -> QuantizedTensor:
    """Returns the same values with zero point 0, in the fewest bits that hold the whole range relative to it."""
    if tensor.format.zero_point == 0:
        return tensor
    bitwidth, signed = bits_for(*tensor.format.centred_integers)
    centred = replace(tensor.format, bitwidth=bitwidth, signed=signed, zero_point=0, narrow=False)
    return QuantizedTensor(tensor.centred, centred)


def drop_bits(tensor: QuantizedTensor, bits: int) -> QuantizedTensor:
    """Drops the lowest fractional bits, with one rounding, ties to even: the scale grows by 2^bits.

    The result has zero point 0 and `bits - 1` bits less: the last one holds what rounding up carries.

    Args:
        tensor: any quantized tensor.
        bits: how many, at least 0.

    Raises:
        QuantizationError: if `bits` is negative, or the scale leaves float32.
    """
    if operator.index(bits) < 0:
        raise QuantizationError(f"{bits} bits can't be dropped; allowed: 0 or more")
    if bits == 0:
        return tensor
    tensor = remove_zero_point(tensor)
    old = tensor.format
    bitwidth = max(old.bitwidth - bits + 1, 2 if old.signed else 1)
    with np.errstate(over="ignore"):
        coarser = replace(old, bitwidth=bitwidth, scale=np.ldexp(old.scale, bits), narrow=False)
    return QuantizedTensor(shift_right_half_even(tensor.integers, bits), coarser)


def name_of_width(bitwidth: int, signed: bool) -> str:
    """Returns a width as text for messages, such as `8 bits signed`."""
    return f"{bitwidth} bits {'signed' if signed else 'unsigned'}"
