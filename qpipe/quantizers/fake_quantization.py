"""Fake quantization: real values moved onto a quantizer's grid, with a straight-through gradient."""

from __future__ import annotations

from keras import ops

from qpipe.numerics import round_half_even
from qpipe.quantizers.backend import as_tensor, clip


def fake_quantize(x, scale, lowest, highest):
    """Moves real values onto the grid scale * {lowest, ..., highest}.

    The gradient is 1 where the rounded integer lies inside the range and 0 outside; none flows through
    the scale (fixed-point contract of the library).

    Args:
        x: float tensor.
        scale: positive float tensor that broadcasts against `x`.
        lowest: smallest integer, relative to the zero point; a scalar.
        highest: largest integer, relative to the zero point; a scalar.

    Returns:
        Tensor of the shape of `x`.
    """
    return _fake_quantize(*(as_tensor(argument) for argument in (x, scale, lowest, highest)))


@ops.custom_gradient
def _fake_quantize(x, scale, lowest, highest):
    rounded = round_half_even(x / scale)
    integers = clip(rounded, lowest, highest)

    def gradient(upstream):
        inside = ops.cast(ops.equal(rounded, integers), upstream.dtype)
        return upstream * inside, ops.zeros_like(scale), ops.zeros_like(lowest), ops.zeros_like(highest)

    return integers * scale, gradient
