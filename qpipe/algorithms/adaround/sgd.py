"""AdaRound on batches of cached layer inputs and outputs: the paper's loop, with the activation inside the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from qpipe.algorithms.adaround.core import SoftRounding
from qpipe.algorithms.adaround.optimize import Rounded, optimize

ALIGNMENT = 64
"""Bytes: TensorFlow reads tensors with the widest instructions."""


def squared_error(target, output):
    """Returns the mean over samples and positions of the squared error, summed over channels.

    The gradient is written out: the derived one takes several passes over the output more. None reaches the target.
    """

    @tf.custom_gradient
    def of(output):
        difference = output - target
        weight = 2.0 * tf.cast(tf.shape(output)[-1], output.dtype) / tf.cast(tf.size(output), output.dtype)
        return tf.nn.l2_loss(difference) * weight, lambda upstream: difference * (upstream * weight)

    return of(output)


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

    A batch is a window at a random place of the samples, which lie in a random order: it is read where it lies, while
    picking its samples one by one would copy them. Each sample is drawn as often as any other.

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
            order = _random_order(len(inputs), batch_size, seed)
            sent.update(inputs=inputs, tensors=(_on_large_pages(inputs, order), _on_large_pages(targets, order)))
        return sent["tensors"]

    def gradient(h, index, data):
        inputs, targets = data
        if batch_size is not None:
            seeds = tf.stack([seed, tf.cast(index, tf.int32)])
            places = tf.shape(inputs)[0] - batch_size + 1
            start = tf.random.stateless_uniform((), seeds, maxval=places, dtype=tf.int32)
            inputs, targets = inputs[start : start + batch_size], targets[start : start + batch_size]
        with tf.GradientTape() as tape:
            tape.watch(h)
            value = loss(targets, layer_op(inputs, scale_tensor * (lower_tensor + h)))
        return value, tape.gradient(value, h)

    return optimize(soft, lower, h, gradient, data=data, jit_compile=False, **settings)


def _random_order(count: int, batch_size: int | None, seed: int) -> np.ndarray:
    """Returns the numbers of all samples, and the first ones again, so that a window begins at each of them."""
    order = np.arange(count) if batch_size is None else np.random.default_rng(seed).permutation(count)
    return np.resize(order, count + (batch_size or 1) - 1)


def _on_large_pages(samples: np.ndarray, order: np.ndarray) -> Any:
    """Returns samples in an order, as a tensor that lies where NumPy has put it.

    NumPy asks the system for large pages, TensorFlow does not. With small ones a convolution of another window in every
    iteration spends a tenth of its time and more on looking up where they are.
    """
    shape = len(order), *samples.shape[1:]
    size = math.prod(shape) * samples.dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    ordered = memory[start : start + size].view(samples.dtype).reshape(shape)
    np.take(samples, order, axis=0, out=ordered, mode="clip")  # the mode that writes in place
    return tf.experimental.dlpack.from_dlpack(ordered.__dlpack__())
