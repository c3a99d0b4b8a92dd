"""Fake quantization that rounds up or down by chance: an option for training."""

from __future__ import annotations

import keras
from keras import ops

from qpipe.quantizers.backend import as_tensor


def stochastic_fake_quantize(x, scale, lowest, highest, seed: keras.random.SeedGenerator):
    """Moves real values onto the grid scale * {lowest, ..., highest}, rounding up with the probability of the rest.

    The expected result is x inside the range (Gupta et al., arXiv 1502.02551, section 3.2). Values whose quotient
    x / scale is whole stay. The gradient is that of `fake_quantize`, with the integer that was drawn.

    Args:
        x: float tensor.
        scale: positive float tensor that broadcasts against `x`.
        lowest: smallest integer, relative to the zero point.
        highest: largest integer, relative to the zero point.
        seed: draws anew with every call.

    Returns:
        Tensor of the shape of `x`.
    """
    noise = keras.random.uniform(ops.shape(x), dtype="float32", seed=seed)
    return _stochastic_fake_quantize(*(as_tensor(argument) for argument in (x, scale, lowest, highest, noise)))


@ops.custom_gradient
def _stochastic_fake_quantize(x, scale, lowest, highest, noise):
    steps = x / scale
    whole = ops.floor(steps)
    rounded = whole + ops.cast(noise < steps - whole, steps.dtype)
    integers = ops.clip(rounded, lowest, highest)

    def gradient(upstream):
        inside = ops.cast(ops.equal(rounded, integers), upstream.dtype)
        return (upstream * inside, *(ops.zeros_like(other) for other in (scale, lowest, highest, noise)))

    return integers * scale, gradient
