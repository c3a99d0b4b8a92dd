"""Streams of batches as `tf.data`: seeded and augmented for training, plain for evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from qpipe.config.schema import Augmentation
from qpipe.data.augmentation import augment
from qpipe.data.samples import Samples

Reader = Callable[[tf.Tensor], tf.Tensor]
"""From numbers of samples (count,) to the samples (count, ...), inside a graph."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the samples of a part get into the graph.

    Attributes:
        x: reads model inputs.
        y: reads labels.
        samples: how many there are.
        threads: batches that are read at the same time.
    """

    x: Reader
    y: Reader
    samples: int
    threads: int


def from_memory(array: np.ndarray) -> Reader:
    """Reads samples of an array that is ready for the model."""
    tensor = tf.constant(array)
    return lambda indices: tf.gather(tensor, indices)


def from_storage(samples: Samples, convert: Callable[[tf.Tensor], tf.Tensor]) -> Reader:
    """Reads samples where they are stored and converts each batch."""
    return lambda indices: convert(samples.tensor(indices))


def training_stream(
    reading: Reading,
    *,
    augmentation: Augmentation,
    label_maps: bool,
    batch_size: int,
    seed: int,
    epochs: int | None,
    first_epoch: int,
) -> tf.data.Dataset:
    """Batches of shuffled, augmented samples, epoch after epoch.

    Order and augmentation of an epoch depend on nothing but `seed` and the epoch's number, so that a
    stream that starts at epoch 3 equals the rest of a stream that started at 0.

    Args:
        reading: where samples come from.
        augmentation: what to vary.
        label_maps: whether labels are maps, which are moved as their images are.
        batch_size: samples per batch; the last batch of an epoch may be smaller.
        seed: any integer.
        epochs: number of epochs; None never ends.
        first_epoch: number of the first one.

    Returns:
        Batches (x, y).
    """
    base_seed = tf.constant([seed % 2**31, seed // 2**31 % 2**31], tf.int64)
    last_epoch = np.iinfo(np.int64).max if epochs is None else first_epoch + epochs
    augmented = bool(augmentation.shift or augmentation.flip)

    def batches_of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        epoch_seed = tf.random.fold_in(base_seed, epoch)
        order = tf.random.experimental.stateless_shuffle(tf.range(reading.samples), seed=epoch_seed)
        batches = tf.data.Dataset.from_tensor_slices(order).batch(batch_size).enumerate(start=1)
        return batches.map(lambda number, indices: (tf.random.fold_in(epoch_seed, number), indices))

    def load(seed_of_batch: tf.Tensor, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x, y = reading.x(indices), reading.y(indices)
        if augmented:
            x = augment(x, augmentation, seed=seed_of_batch)
            y = augment(y, augmentation, seed=seed_of_batch) if label_maps else y
        return x, y

    stream = tf.data.Dataset.range(first_epoch, last_epoch).flat_map(batches_of_epoch)
    return stream.map(load, num_parallel_calls=reading.threads).prefetch(2)


def evaluation_stream(reading: Reading, *, batch_size: int) -> tf.data.Dataset:
    """Batches (x, y) in stored order; the last one may be smaller."""
    stream = tf.data.Dataset.range(reading.samples).batch(batch_size)
    return stream.map(
        lambda indices: (reading.x(indices), reading.y(indices)), num_parallel_calls=reading.threads
    ).prefetch(2)
