"""Augmentation of training images inside the TensorFlow graph, a batch at a time."""

from __future__ import annotations

import tensorflow as tf

from qpipe.config.schema import Augmentation


def augment(images: tf.Tensor, config: Augmentation, *, seed: tf.Tensor) -> tf.Tensor:
    """Shifts and mirrors each image of a batch on its own.

    Both are permutations of whole pixels (with the border repeated), so that they commute with any
    scaling of the values and leave the batch exactly on the grid that it came on.

    Args:
        images: (samples, height, width, channels).
        config: the largest shift as a share of height and width, and whether to mirror.
        seed: two integers (2,); the same seed gives the same result.

    Returns:
        A tensor of the same shape and type.
    """
    height, width = images.shape[1], images.shape[2]
    reach_y, reach_x = round(config.shift * height), round(config.shift * width)
    samples = tf.shape(images)[0]
    seeds = tf.random.split(seed, 3)
    rows = _shifted(samples, height, reach_y, seeds[0])
    columns = _shifted(samples, width, reach_x, seeds[1])
    if config.flip:
        mirrored = tf.random.stateless_uniform((samples, 1), seeds[2]) < 0.5
        columns = tf.where(mirrored, width - 1 - columns, columns)
    if reach_y:
        images = tf.gather(images, rows, axis=1, batch_dims=1)
    if reach_x or config.flip:
        images = tf.gather(images, columns, axis=2, batch_dims=1)
    return images


def _shifted(samples: tf.Tensor, length: int, reach: int, seed: tf.Tensor) -> tf.Tensor:
    offsets = tf.random.stateless_uniform((samples, 1), seed, minval=-reach, maxval=reach + 1, dtype=tf.int32)
    return tf.clip_by_value(tf.range(length)[tf.newaxis, :] + offsets, 0, length - 1)
