"""Sums and products of quantized tensors, exact: results are as wide as the worst case needs.

Results have zero point 0. A width that int64 can't hold is an error, whatever the values are.
"""

from __future__ import annotations

import numpy as np

from qpipe.errors import QuantizationError
from qpipe.numerics.quantized import QuantizedFormat, QuantizedTensor, name_of_scale
from qpipe.numerics.shifts import shift_left
from qpipe.numerics.widths import name_of_width, remove_zero_point


def align(a: QuantizedTensor, b: QuantizedTensor) -> tuple[QuantizedTensor, QuantizedTensor]:
    """Brings two tensors to one scale, the finer one, by shifting integers to the left; exact.

    Args:
        a: any quantized tensor.
        b: a tensor whose shape broadcasts against that of `a`.

    Returns:
        Both with zero point 0, each wider by the bits that it was shifted.

    Raises:
        QuantizationError: if the scales differ and are not powers of two, or int64 can't hold the integers.
    """
    a, b = remove_zero_point(a), remove_zero_point(b)
    if _equal(a.format.scale, b.format.scale):
        return a, b
    f_a, f_b = a.format.fractional_bits, b.format.fractional_bits
    if f_a is None or f_b is None or not _broadcast(a.format.scale, b.format.scale):
        raise QuantizationError(
            f"tensors on the scales {name_of_scale(a.format.scale)} and {name_of_scale(b.format.scale)} can't be "
            "aligned; allowed: equal scales, or powers of two (requantize brings a tensor to any scale)"
        )
    finer = np.maximum(f_a, f_b)
    scale = np.minimum(a.format.scale, b.format.scale)
    return _refine(a, np.asarray(finer - f_a), scale), _refine(b, np.asarray(finer - f_b), scale)


def add(a: QuantizedTensor, b: QuantizedTensor) -> QuantizedTensor:
    """Adds two tensors of equal scale; the result is one bit wider than the wider one.

    Args:
        a: any quantized tensor.
        b: a tensor of the same scale, whose shape broadcasts against that of `a`.

    Returns:
        The sum with zero point 0, signed if one of the two is (an unsigned one then counts as one bit wider).

    Raises:
        QuantizationError: if the scales differ, or int64 can't hold the sum.
    """
    if not _equal(a.format.scale, b.format.scale):
        raise QuantizationError(
            f"tensors on the scales {name_of_scale(a.format.scale)} and {name_of_scale(b.format.scale)} can't be "
            "added; allowed: equal scales (align or requantize first)"
        )
    a, b = remove_zero_point(a), remove_zero_point(b)
    signed = a.format.signed or b.format.signed
    bitwidth = 1 + max(x.format.bitwidth + (signed and not x.format.signed) for x in (a, b))
    scale = a.format.scale if a.format.scale.ndim else b.format.scale
    result = _exact_format("the sum", bitwidth, signed, scale)
    return QuantizedTensor(a.integers + b.integers, result)


def multiply(a: QuantizedTensor, b: QuantizedTensor) -> QuantizedTensor:
    """Multiplies two tensors: scales multiply (in float32) and widths add.

    Args:
        a: any quantized tensor.
        b: a tensor whose shape broadcasts against that of `a`.

    Returns:
        The product with zero point 0, signed if one of the two is.

    Raises:
        QuantizationError: if int64 can't hold the product, or float32 its scale.
    """
    a, b = remove_zero_point(a), remove_zero_point(b)
    signed = a.format.signed or b.format.signed
    if not _broadcast(a.format.scale, b.format.scale):
        raise QuantizationError(
            f"tensors of {a.format.scale.size} and {b.format.scale.size} channels can't be multiplied; "
            "allowed: as many channels, or one scale for a tensor"
        )
    with np.errstate(over="ignore", under="ignore"):
        scale = a.format.scale * b.format.scale
    bitwidth = a.format.bitwidth + b.format.bitwidth
    result = _exact_format("the product", bitwidth, signed, scale)
    return QuantizedTensor(a.integers * b.integers, result)


def _refine(tensor: QuantizedTensor, bits: np.ndarray, scale: np.ndarray) -> QuantizedTensor:
    bitwidth = tensor.format.bitwidth + int(bits.max())
    finer = _exact_format("the aligned tensor", bitwidth, tensor.format.signed, scale)
    return QuantizedTensor(shift_left(tensor.integers, bits)[0], finer)


def _exact_format(what: str, bitwidth: int, signed: bool, scale: np.ndarray) -> QuantizedFormat:
    limit = 64 if signed else 63
    if bitwidth > limit:
        raise QuantizationError(
            f"{what} needs {name_of_width(bitwidth, signed)}; allowed: {limit}, as int64 holds them "
            "(saturate or drop_bits make room)"
        )
    return QuantizedFormat(bitwidth, signed, scale)


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return _broadcast(a, b) and bool((a == b).all())


def _broadcast(a: np.ndarray, b: np.ndarray) -> bool:
    return a.ndim == 0 or b.ndim == 0 or a.shape == b.shape
