"""Training a model, float or quantized, on the training part of a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np

from qpipe.config.schema import TrainingStage
from qpipe.data import Dataset
from qpipe.training.freeze import FreezeByRetracing
from qpipe.training.optimizer import make_optimizer

EVALUATION_BATCH = 256


def fit(
    model: keras.Model,
    stage: TrainingStage,
    dataset: Dataset,
    *,
    seed: int,
    where: str,
    on_batch: Callable[[int, int], None] = lambda step, steps: None,
    on_epoch: Callable[[int, Mapping[str, float]], None] = lambda epoch, logs: None,
) -> dict[str, list[float]]:
    """Trains `model` in place.

    Args:
        model: a classifier; its output may be probabilities or logits.
        stage: epochs, batch size, optimizer.
        dataset: its training and validation parts are used.
        seed: decides order and augmentation.
        where: config path of the stage, for errors.
        on_batch: called after every step with its number (from 1) and the number of all steps.
        on_epoch: called after every epoch with its number (from 1) and its metrics.

    Returns:
        Metrics per epoch: `loss`, `accuracy`, `val_loss`, `val_accuracy`.
    """
    steps_per_epoch = dataset.steps_per_epoch(stage.batch_size)
    steps = stage.epochs * steps_per_epoch
    model.compile(
        optimizer=make_optimizer(stage, steps, where),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=not gives_probabilities(model)),
        metrics=["accuracy"],
        jit_compile=False,
    )
    _create_variables(model, dataset)
    history = model.fit(
        dataset.training_batches(stage.batch_size, seed=seed, epochs=stage.epochs),
        epochs=stage.epochs,
        steps_per_epoch=steps_per_epoch,
        validation_data=dataset.evaluation_batches("validation", EVALUATION_BATCH),
        callbacks=[FreezeByRetracing(), _Report(on_batch, on_epoch, steps)],
        shuffle=False,
        verbose=0,
    )
    return {name: [float(value) for value in values] for name, values in history.history.items()}


def gives_probabilities(model: keras.Model) -> bool:
    """Whether the model ends in a softmax."""
    activation = getattr(model.outputs[0]._keras_history.operation, "activation", None)
    last = model.outputs[0]._keras_history.operation
    return activation is keras.activations.softmax or isinstance(last, keras.layers.Softmax)


def _create_variables(model: keras.Model, dataset: Dataset) -> None:
    """Creates the variables of optimizer, loss and metrics, so that the training step is traced once, not twice."""
    model.optimizer.build(model.trainable_variables)
    labels = dataset.labels("train")[:1]
    outputs = np.full((1, dataset.classes), 1.0 / dataset.classes, "float32")
    model.compute_loss(y=labels, y_pred=outputs)
    model.compute_metrics(None, labels, outputs)
    model.reset_metrics()


class _Report(keras.callbacks.Callback):
    def __init__(self, on_batch, on_epoch, steps):
        super().__init__()
        self._on_batch, self._on_epoch, self._steps = on_batch, on_epoch, steps
        self._step = 0

    def on_train_batch_end(self, batch, logs=None):
        self._step += 1
        self._on_batch(self._step, self._steps)

    def on_epoch_end(self, epoch, logs=None):
        self._on_epoch(epoch + 1, {name: float(value) for name, value in (logs or {}).items()})
