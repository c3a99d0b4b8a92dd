"""Quantized tensors drawn by hypothesis, and what they stand for in exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from qpipe.numerics import QuantizedFormat, QuantizedTensor

WIDTHS = st.integers(2, 16)
CHANNELS = 3


def power_of_two_scales(smallest_f=-24, largest_f=40):
    """Scales 2^-f; f may be negative, and exceed every width."""
    return st.integers(smallest_f, largest_f).map(lambda f: np.float32(2.0**-f))


def float_scales():
    return st.floats(2.0**-30, 2.0**20, width=32).map(np.float32)


@st.composite
def formats(draw, scales=None, zero_points=True, widths=WIDTHS, per_channel=True):
    """Signed, unsigned and narrow formats, with a scale per tensor or per channel, with and without a zero point."""
    bitwidth = draw(widths)
    kind = draw(st.sampled_from(["signed", "unsigned", "narrow"]))
    scales = power_of_two_scales() | float_scales() if scales is None else scales
    shared = not per_channel or draw(st.booleans())
    scale = draw(scales) if shared else np.array(draw(st.lists(scales, min_size=CHANNELS, max_size=CHANNELS)))
    plain = QuantizedFormat(bitwidth, kind != "unsigned", scale, narrow=kind == "narrow")
    if not zero_points or draw(st.booleans()):
        return plain
    return QuantizedFormat(bitwidth, plain.signed, scale, draw(st.integers(*plain.integers)), plain.narrow)


@st.composite
def tensors(draw, format_strategy):
    """Tensors (rows, channels) with the ends of the range among their integers more often than by chance."""
    format = draw(format_strategy)
    lowest, highest = format.integers
    integer = st.integers(lowest, highest) | st.sampled_from([lowest, highest, format.zero_point])
    row = st.lists(integer, min_size=CHANNELS, max_size=CHANNELS)
    return QuantizedTensor(np.array(draw(st.lists(row, min_size=1, max_size=3)), np.int64), format)


def exact_scales(format, channels=CHANNELS):
    return [Fraction(float(scale)) for scale in np.broadcast_to(format.scale, channels)]


def exact_values(tensor):
    """The rational numbers that a tensor (rows, channels) stands for, as nested lists."""
    scales = exact_scales(tensor.format)
    zero_point = tensor.format.zero_point
    return [
        [scale * (q - zero_point) for q, scale in zip(row, scales, strict=True)] for row in tensor.integers.tolist()
    ]


def exact_integers(values, format):
    """Rational values (rows, channels) as integers of a format: rounded half to even, then saturated and counted."""
    lowest, highest = format.integers
    free = [
        [round(value / scale) + format.zero_point for value, scale in zip(row, exact_scales(format), strict=True)]
        for row in values
    ]
    clipped = [[min(max(q, lowest), highest) for q in row] for row in free]
    count = sum(a != b for old, new in zip(free, clipped, strict=True) for a, b in zip(old, new, strict=True))
    return clipped, count
