"""Checks the values of `training` that the schema's types alone can't judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qpipe.config.ranges import fraction, positive, refuse, whole
from qpipe.config.schema import Precision, Task, TrainingConfig, TrainingStage

TARGET = "_target_"


def validate_training(training: TrainingConfig, task: Task) -> None:
    """Checks both stages, the loss and the class weights.

    Raises:
        ConfigError: the first mistake.
    """
    _validate_stage("training.float", training.float)
    _validate_stage("training.qat", training.qat)
    if training.qat.precision is not Precision.float32:
        refuse("training.qat.precision", training.qat.precision.name, "the quantized model trains in float32")
    if training.loss is not None:
        _name_or_target("training.loss", training.loss, "null, the name of a Keras loss")
    _validate_class_weights(training.class_weights, task)


def _validate_stage(path: str, stage: TrainingStage) -> None:
    whole(f"{path}.epochs", stage.epochs, 0)
    whole(f"{path}.batch_size", stage.batch_size, 1)
    _name_or_target(f"{path}.optimizer", stage.optimizer, "the name of a Keras optimizer, such as adam")
    positive(f"{path}.learning_rate", stage.learning_rate)
    _name_or_target(f"{path}.schedule", stage.schedule, "constant, cosine, linear")
    fraction(f"{path}.warmup_fraction", stage.warmup_fraction, 0.0, 1.0)
    if stage.warmup_fraction and not isinstance(stage.schedule, str):
        refuse(f"{path}.warmup_fraction", stage.warmup_fraction, "a schedule with _target_ has a warm-up of its own")
    stopping = stage.early_stopping
    whole(f"{path}.early_stopping.patience", stopping.patience, 0, optional=True)
    if not stopping.min_delta >= 0.0:
        refuse(f"{path}.early_stopping.min_delta", stopping.min_delta, "give a number of at least 0")
    for index, callback in enumerate(stage.callbacks):
        if not isinstance(callback, Mapping) or not isinstance(callback.get(TARGET), str):
            refuse(
                f"{path}.callbacks[{index}]", callback, "give {_target_: keras.callbacks.NAME, ARGUMENT: VALUE, ...}"
            )


def _name_or_target(path: str, value: Any, names: str) -> None:
    named = isinstance(value, str) and value.strip()
    target = isinstance(value, Mapping) and isinstance(value.get(TARGET), str)
    if not named and not target:
        refuse(path, value, f"give {names}, or {{_target_: DOTTED.PATH, ARGUMENT: VALUE, ...}}")


def _validate_class_weights(weights: Any, task: Task) -> None:
    if weights is None:
        return
    if task is not Task.classification:
        refuse("training.class_weights", weights, f"data.task={task.name} has no classes to weigh: give null")
    if weights == "balanced":
        return
    if not isinstance(weights, list) or len(weights) < 2:
        refuse("training.class_weights", weights, "give null, balanced, or a list with one number per class")
    for index, weight in enumerate(weights):
        positive(f"training.class_weights[{index}]", weight)
