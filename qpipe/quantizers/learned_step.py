"""Learned step sizes: Esser et al., "Learned step size quantization" (LSQ), arXiv 1902.08153.

The step is held as scale * exp(log_step): the scale of the calibration, and a trainable number that starts at 0.
The step is so positive whatever an optimizer does, a step of Adam changes it by a share of itself, and weight
decay pulls it to the calibrated scale instead of to 0. The gradient of log_step is that of the step divided by
the step, so that plain gradient descent moves the step, to first order, as it would move it in the paper.
"""

from __future__ import annotations

from keras import ops

from qpipe.quantizers.backend import as_tensor


def learned_scale(scale, log_step):
    """Returns scale * exp(log_step), with the gradient of `log_step` as described for this module.

    Args:
        scale: positive tensor; no gradient reaches it.
        log_step: tensor of the same shape.
    """
    return _learned_scale(as_tensor(scale), as_tensor(log_step))


def learned_fake_quantize(x, scale, lowest, highest, gradient_scale):
    """Moves real values onto the grid scale * {lowest, ..., highest}, and lets the scale learn.

    With v = x / scale the gradient of the scale is (equation 3 of the paper) round(v) - v inside the range, and
    the end of the range outside, times `gradient_scale`. That of x is as in `fake_quantize`.

    Args:
        x: float tensor.
        scale: positive float tensor that broadcasts against `x`.
        lowest: smallest integer, relative to the zero point.
        highest: largest integer, relative to the zero point.
        gradient_scale: g = 1 / sqrt(N * Q_P): N values share the scale, Q_P is their largest integer.

    Returns:
        Tensor of the shape of `x`, the same values as `fake_quantize` gives.
    """
    arguments = (x, scale, lowest, highest, gradient_scale)
    return _learned_fake_quantize(*(as_tensor(argument) for argument in arguments))


@ops.custom_gradient
def _learned_scale(scale, log_step):
    step = scale * ops.exp(log_step)

    def gradient(upstream):
        return ops.zeros_like(scale), upstream / step

    return step, gradient


@ops.custom_gradient
def _learned_fake_quantize(x, scale, lowest, highest, gradient_scale):
    steps = x / scale
    rounded = ops.round(steps)
    integers = ops.clip(rounded, lowest, highest)

    def gradient(upstream):
        within = ops.logical_and(steps > lowest, steps < highest)
        by_scale = upstream * ops.where(within, rounded - steps, ops.clip(steps, lowest, highest))
        inside = ops.cast(ops.equal(rounded, integers), upstream.dtype)
        others = (ops.zeros_like(other) for other in (lowest, highest, gradient_scale))
        return (upstream * inside, _sum_to(by_scale, scale.shape) * gradient_scale, *others)

    return integers * scale, gradient


def _sum_to(tensor, shape):
    """Sums over the axes along which `shape` was broadcast."""
    rank = len(tensor.shape)
    shared = tuple(axis for axis in range(rank) if axis < rank - len(shape) or shape[axis - rank] == 1)
    return ops.reshape(ops.sum(tensor, axis=shared), shape)
