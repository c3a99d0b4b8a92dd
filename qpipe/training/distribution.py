"""Data-parallel training: the same model on every device, each with its share of a batch."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import keras

from qpipe.config.schema import Distribution, TrainingConfig, TrainingStage
from qpipe.data import Dataset
from qpipe.errors import ConfigError
from qpipe.training.devices import devices

if TYPE_CHECKING:
    import tensorflow as tf

logger = logging.getLogger("qpipe")


@contextmanager
def distributed(model: keras.Model, config: TrainingConfig, batch_size: int) -> Iterator[keras.Model]:
    """Yields the model that a stage trains, inside the scope in which it has to be compiled.

    With `distribution: mirrored` that is a copy on every device (TensorFlow's `MirroredStrategy`); when the block ends,
    however it ends, `model` gets the copy's variables.

    Args:
        model: not compiled.
        config: names the distribution.
        batch_size: samples of a step on all devices together.

    Raises:
        ConfigError: the batch can't be shared equally, or Keras does not compute with TensorFlow.
    """
    names = devices() if config.distribution is Distribution.mirrored else []
    if len(names) < 2:
        if names:
            logger.warning("training.distribution=mirrored: there is one device (%s), it trains alone", names[0])
        yield model
        return
    import tensorflow as tf

    if batch_size % len(names):
        raise ConfigError(
            f"training.distribution: {len(names)} devices can't share batches of {batch_size} samples equally; "
            f"give a batch_size that is a multiple of {len(names)}"
        )
    with tf.distribute.MirroredStrategy(names).scope():
        copy = _copied(model)
        logger.info("training on %d devices: %s", len(names), ", ".join(names))
        try:
            yield copy
        finally:
            for variable, trained in zip(model.variables, copy.variables, strict=True):
                variable.assign(keras.ops.convert_to_numpy(trained))


def steps_per_epoch(config: TrainingConfig, stage: TrainingStage, dataset: Dataset) -> int:
    """Returns the training steps of an epoch; in data-parallel training all batches are whole.

    Raises:
        ConfigError: the training part is smaller than a batch that has to be whole.
    """
    if config.distribution is not Distribution.mirrored:
        return dataset.steps_per_epoch(stage.batch_size)
    steps = len(dataset.train) // stage.batch_size
    if not steps:
        raise ConfigError(
            f"training.distribution: mirrored takes whole batches, and the training part has {len(dataset.train)} "
            f"samples, fewer than one of {stage.batch_size}; give a smaller batch_size"
        )
    return steps


def whole_batches(stream: tf.data.Dataset, config: TrainingConfig, batch_size: int) -> tf.data.Dataset:
    """Leaves out batches that are smaller than the others, where devices have to share them equally."""
    if config.distribution is not Distribution.mirrored:
        return stream
    import tensorflow as tf

    return stream.filter(lambda *batch: tf.equal(tf.shape(batch[0])[0], batch_size))


def _copied(model: keras.Model) -> keras.Model:
    """Returns an equal model whose variables are made in the present scope."""
    classes = {type(layer).__name__: type(layer) for layer in model._flatten_layers(include_self=False)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return keras.saving.load_model(path, custom_objects=classes, compile=False, safe_mode=False)
