"""Models and data that train in seconds."""

from __future__ import annotations

import keras
import numpy as np

from qpipe.algorithms import calibrate
from qpipe.config.schema import FoldingConfig, QuantizerConfig, TrainingConfig, TrainingStage
from qpipe.graph import fold_batchnorm
from qpipe.graph.quantization import quantize_with_plan
from qpipe.signature import Signature
from qpipe.training.freeze import follow_data


class Arrays:
    """What a training needs of a data set, without shuffling: the same arrays for training and validation."""

    def __init__(self, x: np.ndarray, y: np.ndarray, signature: Signature, *, validated: bool = True):
        self.x, self.y, self.signature = x, y, signature
        self.train = x
        self.validation = x if validated else x[:0]

    def steps_per_epoch(self, batch_size):
        return -(-len(self.x) // batch_size)

    def labels(self, part):
        return self.y

    def training_batches(self, batch_size, *, seed, epochs, first_epoch):
        return self.evaluation_batches("train", batch_size).repeat(epochs)

    def evaluation_batches(self, part, batch_size):
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices((self.x, self.y)).batch(batch_size)


def arrays(rng, output_shape, task, *, features=(6,), samples=48, **kwargs) -> Arrays:
    """Random inputs of the shape `features`, and labels that fit the task."""
    from qpipe.config.schema import Task

    x = rng.normal(size=(samples, *features)).astype("float32")
    if task is Task.classification:
        y = rng.integers(0, output_shape[-1], (samples, *output_shape[:-1]))
    elif task is Task.multilabel:
        y = rng.integers(0, 2, (samples, *output_shape)).astype("float32")
    else:
        y = rng.normal(size=(samples, *output_shape)).astype("float32")
    return Arrays(x, y, Signature(input_shape=features, output_shape=output_shape, task=task), **kwargs)


def stage(**changes) -> TrainingStage:
    return TrainingStage(**({"epochs": 2, "batch_size": 16, "learning_rate": 0.01} | changes))


def training(**changes) -> TrainingConfig:
    """Settings whose two stages are alike; `changes` may be of the stage or of the whole section."""
    whole = {name: changes.pop(name) for name in ("loss", "class_weights", "checkpoints") if name in changes}
    return TrainingConfig(float=stage(**changes), qat=stage(**changes), **whole)


def float_network(shape, classes, *, dropout=0.0) -> keras.Model:
    """An untrained convolutional network with a batch normalization; always the same weights."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input(shape)
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.5)(x))
    x = keras.layers.Flatten()(x)
    if dropout:
        x = keras.layers.Dropout(dropout, seed=5)(x)
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(x))


def quantized_network(dataset, delay) -> keras.Model:
    """The same network, folded, quantized and calibrated; its statistics freeze after `delay` training steps."""
    signature = dataset.signature
    source = float_network(signature.input_shape, signature.classes)
    folded = fold_batchnorm(source, FoldingConfig(ema_freeze_delay=delay))
    model = quantize_with_plan(folded, QuantizerConfig(), ema_freeze_delay=delay).model
    calibrate(model, dataset.calibration_inputs(64, 0))
    follow_data(model)
    return model


def assert_same_weights(model: keras.Model, reference: keras.Model) -> None:
    for value, expected in zip(model.variables, reference.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(value), np.asarray(expected))
