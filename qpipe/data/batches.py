"""Streams of batches as `tf.data`: seeded and augmented for training, plain for evaluation."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from qpipe.config.schema import Augmentation
from qpipe.data.augmentation import augment
from qpipe.data.preprocess import Preprocessor


def training_stream(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    preprocessor: Preprocessor | None,
    augmentation: Augmentation,
    batch_size: int,
    seed: int,
    epochs: int | None,
    first_epoch: int,
) -> tf.data.Dataset:
    """Batches of shuffled, augmented samples, epoch after epoch.

    Order and augmentation of an epoch depend on nothing but `seed` and the epoch's number, so that a
    stream that starts at epoch 3 equals the rest of a stream that started at 0.

    Args:
        images: (samples, height, width, channels).
        labels: (samples,).
        preprocessor: applied to each batch; None where `images` are preprocessed already.
        augmentation: what to vary.
        batch_size: samples per batch; the last batch of an epoch may be smaller.
        seed: any integer.
        epochs: number of epochs; None never ends.
        first_epoch: number of the first one.

    Returns:
        Batches (x float32, y int64).
    """
    all_images, all_labels = tf.constant(images), tf.constant(labels)
    samples = len(labels)
    base_seed = tf.constant([seed % 2**31, seed // 2**31 % 2**31], tf.int64)
    last_epoch = np.iinfo(np.int64).max if epochs is None else first_epoch + epochs
    augmented = bool(augmentation.shift or augmentation.flip)

    def batches_of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        epoch_seed = tf.random.fold_in(base_seed, epoch)
        order = tf.random.experimental.stateless_shuffle(tf.range(samples), seed=epoch_seed)
        batches = tf.data.Dataset.from_tensor_slices(order).batch(batch_size).enumerate(start=1)
        return batches.map(lambda number, indices: (tf.random.fold_in(epoch_seed, number), indices))

    def load(seed_of_batch: tf.Tensor, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x = tf.gather(all_images, indices)
        if preprocessor is not None:
            x = preprocessor(x)
        if augmented:
            x = augment(x, augmentation, seed=seed_of_batch)
        return x, tf.gather(all_labels, indices)

    stream = tf.data.Dataset.range(first_epoch, last_epoch).flat_map(batches_of_epoch)
    return stream.map(load, num_parallel_calls=2).prefetch(2)


def evaluation_stream(
    images: np.ndarray, labels: np.ndarray, *, preprocessor: Preprocessor | None, batch_size: int
) -> tf.data.Dataset:
    """Batches (x float32, y int64) in stored order; the last one may be smaller."""
    stream = tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size)
    if preprocessor is not None:
        stream = stream.map(lambda x, y: (preprocessor(x), y))
    return stream.prefetch(2)
