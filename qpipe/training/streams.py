"""The data of a training stage as Keras takes it: labels for every output, weights for every label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np

from qpipe.data import Dataset
from qpipe.training.objective import per_output

if TYPE_CHECKING:
    import tensorflow as tf

EVALUATION_BATCH = 256


def training_stream(
    model: keras.Model,
    dataset: Dataset,
    weights: np.ndarray | None,
    *,
    batch_size: int,
    seed: int,
    first_epoch: int,
    epochs: int,
) -> tf.data.Dataset:
    """Returns batches (x, y) of the training part, or (x, y, weight of each label) where classes have weights.

    Args:
        model: its outputs all get the same labels.
        dataset: where the batches come from.
        weights: float32 (classes,), or None.
        batch_size: samples per batch.
        seed: decides order and augmentation.
        first_epoch: number of the first epoch (from 0).
        epochs: how many epochs.
    """
    import tensorflow as tf

    stream = dataset.training_batches(batch_size, seed=seed, epochs=epochs, first_epoch=first_epoch)
    if weights is None:
        return stream if len(model.outputs) == 1 else stream.map(lambda x, y: (x, per_output(model, y)))
    table = tf.constant(weights)
    return stream.map(lambda x, y: (x, per_output(model, y), tf.gather(table, y)))


def validation_stream(model: keras.Model, dataset: Dataset) -> tf.data.Dataset | None:
    """Returns batches (x, y) of the validation part; None where it is empty."""
    if not len(dataset.validation):
        return None
    stream = dataset.evaluation_batches("validation", EVALUATION_BATCH)
    return stream if len(model.outputs) == 1 else stream.map(lambda x, y: (x, per_output(model, y)))
