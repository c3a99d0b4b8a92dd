"""Fake quantization: real values moved onto a quantizer's grid, with a straight-through gradient."""

from __future__ import annotations

import numpy as np
from keras import ops

from qpipe.numerics import round_half_even
from qpipe.quantizers.backend import as_tensor, clip, nearest_from_zero, nearest_multiple, within


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
        inside = within(upstream, rounded, lowest, highest)
        return inside, ops.zeros_like(scale), ops.zeros_like(lowest), ops.zeros_like(highest)

    return integers * scale, gradient


def fake_quantize_activation(x, scale, lowest, highest):
    """Moves a tensor of real values onto the grid scale * {lowest, ..., highest}, as `fake_quantize` does.

    Made for large tensors with one scale: it multiplies by the reciprocal of the scale, which may take a value that
    lies next to a tie to the other side.

    Args:
        x: float tensor.
        scale: positive float32 scalar.
        lowest: smallest integer, relative to the zero point; at least -2^16.
        highest: largest integer, relative to the zero point; at most 2^16.

    Returns:
        Tensor of the shape of `x`.
    """
    x, scale, lowest, highest = (as_tensor(argument) for argument in (x, scale, lowest, highest))
    return _fake_quantize_activation(x, scale, lowest * scale, highest * scale)


@ops.custom_gradient
def _fake_quantize_activation(x, scale, low, high):
    multiples = nearest_multiple(x, scale)

    def gradient(upstream):
        inside = within(upstream, multiples, low, high)
        return inside, ops.zeros_like(scale), ops.zeros_like(low), ops.zeros_like(high)

    return clip(multiples, low, high), gradient


def fake_quantize_from_zero(x, scale, high, bitwidth):
    """Moves a tensor of real values onto the grid scale * {0, ..., 2^bitwidth - 1}, as `fake_quantize` does.

    Made for large tensors: with TensorFlow rounding and cutting off are one pass.

    Args:
        x: float tensor.
        scale: positive float32 scalar, high / (2^bitwidth - 1).
        high: where the grid ends, a float32 scalar.
        bitwidth: of the integers.

    Returns:
        Tensor of the shape of `x`.
    """
    return _fake_quantize_from_zero(bitwidth)(*(as_tensor(argument) for argument in (x, scale, high)))


def _fake_quantize_from_zero(bitwidth: int):
    highest = 2**bitwidth - 1
    last_that_rounds_to_highest = float(np.nextafter(np.float32(highest + 0.5), np.float32(0.0)))

    @ops.custom_gradient
    def quantize(x, scale, high):
        def gradient(upstream):
            inside = within(upstream, x, scale * -0.5, scale * last_that_rounds_to_highest)
            return inside, ops.zeros_like(scale), ops.zeros_like(high)

        return nearest_from_zero(x, scale, high, bitwidth), gradient

    return quantize


def round_to_grid(x, scale):
    """Moves real values onto the grid scale * {..., -1, 0, 1, ...}: `fake_quantize` where no value is cut off.

    The gradient of `x` is 1 everywhere.

    Args:
        x: float tensor.
        scale: positive float tensor that broadcasts against `x`; no gradient reaches it.

    Returns:
        Tensor of the shape of `x`.
    """
    return _round_to_grid(as_tensor(x), as_tensor(scale))


@ops.custom_gradient
def _round_to_grid(x, scale):
    def gradient(upstream):
        return upstream, ops.zeros_like(scale)

    return round_half_even(x / scale) * scale, gradient
