"""The optimizer of a training stage, by name or by `_target_`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from qpipe import targets
from qpipe.config.schema import Precision, TrainingStage
from qpipe.errors import ConfigError, nearest
from qpipe.training.names import matching, optimizer_names
from qpipe.training.schedule import make_schedule


def make_optimizer(stage: TrainingStage, steps: int, where: str) -> keras.optimizers.Optimizer:
    """Returns the optimizer of a training stage, with loss scaling where it trains in float16.

    Args:
        stage: its optimizer, learning rate, schedule and precision.
        steps: training steps of the whole stage.
        where: config path of the stage, for errors.

    Raises:
        ConfigError: there is no such optimizer, or it refuses its arguments.
    """
    optimizer = _make(stage.optimizer, make_schedule(stage, steps, where), f"{where}.optimizer")
    scaled = stage.precision is Precision.mixed_float16
    if scaled and not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def _make(wanted: Any, learning_rate: Any, where: str) -> keras.optimizers.Optimizer:
    if not isinstance(wanted, Mapping):
        known = optimizer_names()
        name = matching(wanted, known)
        if name is None:
            raise ConfigError(f"{where}: unknown optimizer {wanted!r}; {nearest(wanted.lower(), known)}")
        return getattr(keras.optimizers, name)(learning_rate=learning_rate)
    optimizer = targets.instantiated(wanted, where, learning_rate=learning_rate)
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ConfigError(
            f"{where}: {wanted[targets.TARGET]} returned a {type(optimizer).__name__}; a Keras optimizer is needed"
        )
    return optimizer
