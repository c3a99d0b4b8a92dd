"""AdaRound on batches of cached layer inputs and outputs: the paper's loop, with the activation inside the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from qpipe.algorithms.adaround.core import SoftRounding
from qpipe.algorithms.adaround.optimize import Rounded, optimize


def squared_error(target, output):
    """Returns the mean over samples and positions of the squared error, summed over channels."""
    return tf.reduce_mean(tf.reduce_sum(tf.square(target - output), axis=-1))


def round_on_batches(
    soft: SoftRounding,
    layer_op: Callable[[Any, Any], Any],
    samples: Callable[[int], tuple[np.ndarray, np.ndarray]],
    lower: np.ndarray,
    h: np.ndarray,
    scale: np.ndarray,
    *,
    batch_size: int | None,
    seed: int,
    loss: Callable[[Any, Any], Any] = squared_error,
    **settings,
) -> Rounded:
    """Minimizes the reconstruction error of batches that are drawn inside the compiled loop (equation 25).

    Args:
        soft: the constants.
        layer_op: from inputs and a kernel to the layer's output.
        samples: returns for the iteration with which a call begins the inputs and targets to draw from; the same
            arrays are sent to the device once.
        lower: lower integers in the kernel's shape.
        h: where h starts.
        scale: broadcasts against the kernel.
        batch_size: samples per iteration; None takes all.
        seed: of the draws.
        loss: of target and output.
        **settings: of `optimize`.
    """
    lower_tensor, scale_tensor = tf.constant(lower, tf.float32), tf.constant(scale, tf.float32)
    sent: dict[str, Any] = {}

    def data(first):
        inputs, targets = samples(first)
        if sent.get("inputs") is not inputs:
            sent.update(inputs=inputs, tensors=(tf.constant(inputs), tf.constant(targets)))
        return sent["tensors"]

    def gradient(h, index, data):
        inputs, targets = data
        if batch_size is not None:
            shape, seeds = (batch_size,), tf.stack([seed, tf.cast(index, tf.int32)])
            drawn = tf.random.stateless_uniform(shape, seeds, maxval=tf.shape(inputs)[0], dtype=tf.int32)
            inputs, targets = tf.gather(inputs, drawn), tf.gather(targets, drawn)
        with tf.GradientTape() as tape:
            tape.watch(h)
            value = loss(targets, layer_op(inputs, scale_tensor * (lower_tensor + h)))
        return value, tape.gradient(value, h)

    return optimize(soft, lower, h, gradient, data=data, jit_compile=False, **settings)
