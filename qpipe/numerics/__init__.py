"""Pure arithmetic of quantized numbers: integer ranges, scales, rounding. No layers, no state."""

from qpipe.numerics.integers import IntegerRange, integer_range
from qpipe.numerics.rounding import round_half_away, round_half_even
from qpipe.numerics.scales import affine_parameters, scale_for_maximum

__all__ = [
    "IntegerRange",
    "affine_parameters",
    "integer_range",
    "round_half_away",
    "round_half_even",
    "scale_for_maximum",
]
