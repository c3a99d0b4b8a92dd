"""From real values, or from another format, to a given format."""

from __future__ import annotations

import numpy as np

from qpipe.errors import QuantizationError
from qpipe.numerics.quantized import QuantizedFormat, QuantizedTensor, name_of_scale
from qpipe.numerics.rounding import round_half_even, shift_right_half_even
from qpipe.numerics.saturation import Saturated, clip_and_count, saturate_integers
from qpipe.numerics.shifts import shift_left


def quantize(x: np.ndarray, format: QuantizedFormat) -> Saturated:
    """Brings real values to integers: clip(rint(float32(x) / scale) + zero point), ties to even.

    Args:
        x: real values, any shape; a scale per channel belongs to the last axis.
        format: of the result.

    Returns:
        The quantized tensor, and how many values lay outside of its range.

    Raises:
        QuantizationError: if a value is NaN or infinite in float32; it says how many and where the first is.
    """
    x = np.asarray(x, np.float32)
    _require_finite(x)
    with np.errstate(over="ignore"):
        scaled = x / format.scale
    return _from_whole_numbers(round_half_even(scaled), format)


def requantize(tensor: QuantizedTensor, format: QuantizedFormat) -> Saturated:
    """Brings a quantized tensor to another scale, zero point and width, with one rounding, ties to even.

    With q - z the integers relative to the zero point: rint(float32(q - z) * float32(s_in / s_out)), the product in
    float32 as the targets compute it. Where all scales are powers of two, the integers are shifted instead, exactly;
    below 2^24 both are the same, beyond it float32(q - z) is itself rounded.

    Args:
        tensor: what to convert.
        format: of the result.

    Returns:
        The tensor in `format`, and how many values lay outside of its range.

    Raises:
        QuantizationError: if float32 can't hold the ratio of the scales.
    """
    f_in, f_out = tensor.format.fractional_bits, format.fractional_bits
    if f_in is not None and f_out is not None:
        return _shift(tensor.centred, np.asarray(f_out - f_in), format)
    with np.errstate(over="ignore", under="ignore"):
        ratio = tensor.format.scale / format.scale
    if not (np.isfinite(ratio) & (ratio > 0)).all():
        raise QuantizationError(
            f"a tensor on the scale {name_of_scale(tensor.format.scale)} can't be requantized to the scale "
            f"{name_of_scale(format.scale)}; allowed: scales whose ratio is a float32 number"
        )
    with np.errstate(over="ignore"):
        scaled = tensor.centred.astype(np.float32) * ratio
    return _from_whole_numbers(round_half_even(scaled), format)


def _shift(centred: np.ndarray, bits: np.ndarray, format: QuantizedFormat) -> Saturated:
    """Multiplies by 2^bits, of either sign, with one rounding."""
    rounded = shift_right_half_even(centred, np.maximum(-bits, 0))
    shifted, overflowed = shift_left(rounded, np.maximum(bits, 0))
    clipped, count = clip_and_count(shifted, overflowed, *format.centred_integers)
    return Saturated(QuantizedTensor(clipped + format.zero_point, format), count)


def _from_whole_numbers(centred: np.ndarray, format: QuantizedFormat) -> Saturated:
    clipped, count = saturate_integers(centred, *format.centred_integers)
    return Saturated(QuantizedTensor(clipped + format.zero_point, format), count)


def _require_finite(x: np.ndarray) -> None:
    wrong = ~np.isfinite(x)
    if wrong.any():
        first = np.unravel_index(int(wrong.argmax()), x.shape)
        place = ", ".join(str(index) for index in first)
        raise QuantizationError(
            f"{np.count_nonzero(wrong)} of {x.size} values to quantize are NaN or infinite in float32, the first "
            f"({x[first]}) at index ({place}); allowed: finite numbers"
        )
