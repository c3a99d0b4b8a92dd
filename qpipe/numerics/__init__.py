"""Pure arithmetic of quantized numbers: integer ranges, scales, rounding, quantized tensors. No layers, no state."""

from qpipe.numerics.arithmetic import add, align, multiply
from qpipe.numerics.conversion import quantize, requantize
from qpipe.numerics.integers import IntegerRange, bits_for, integer_range, storage_offset
from qpipe.numerics.quantized import QuantizedFormat, QuantizedTensor
from qpipe.numerics.rounding import divide_half_away, round_half_even, shift_right_half_even
from qpipe.numerics.saturation import Saturated, saturate, saturate_integers
from qpipe.numerics.scales import affine_parameters, scale_for_maximum
from qpipe.numerics.sums import rounded_sum, sum_factors
from qpipe.numerics.widths import drop_bits, promote, remove_zero_point

__all__ = [
    "IntegerRange",
    "QuantizedFormat",
    "QuantizedTensor",
    "Saturated",
    "add",
    "affine_parameters",
    "align",
    "bits_for",
    "divide_half_away",
    "drop_bits",
    "integer_range",
    "multiply",
    "promote",
    "quantize",
    "remove_zero_point",
    "requantize",
    "round_half_even",
    "rounded_sum",
    "saturate",
    "saturate_integers",
    "scale_for_maximum",
    "shift_right_half_even",
    "storage_offset",
    "sum_factors",
]
