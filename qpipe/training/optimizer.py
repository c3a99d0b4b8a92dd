"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from qpipe.config.schema import Schedule, TrainingStage
from qpipe.errors import ConfigError, nearest


def make_optimizer(stage: TrainingStage, steps: int, where: str) -> keras.optimizers.Optimizer:
    """Returns the optimizer of a training stage.

    Args:
        stage: names the optimizer, its learning rate and schedule.
        steps: training steps of the whole stage.
        where: config path of the stage, for errors.

    Raises:
        ConfigError: if Keras has no such optimizer.
    """
    known: dict[str, Any] = {
        name.lower(): kind
        for name, kind in vars(keras.optimizers).items()
        if inspect.isclass(kind)
        and issubclass(kind, keras.optimizers.Optimizer)
        and kind not in (keras.optimizers.Optimizer, keras.optimizers.LossScaleOptimizer)
    }
    kind = known.get(stage.optimizer.lower())
    if kind is None:
        raise ConfigError(
            f"{where}.optimizer: unknown optimizer {stage.optimizer!r}; {nearest(stage.optimizer, known)}"
        )
    return kind(learning_rate=_learning_rate(stage, steps))


def _learning_rate(stage: TrainingStage, steps: int):
    warmup = round(stage.warmup_fraction * steps)
    if stage.schedule is Schedule.constant and not warmup:
        return stage.learning_rate
    alpha = 1.0 if stage.schedule is Schedule.constant else 0.0
    decay_steps = max(1, steps - warmup)
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(stage.learning_rate, decay_steps, alpha=alpha)
    return keras.optimizers.schedules.CosineDecay(
        0.0, decay_steps, alpha=alpha, warmup_target=stage.learning_rate, warmup_steps=warmup
    )
