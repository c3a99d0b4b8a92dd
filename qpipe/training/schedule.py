"""How the learning rate moves over the steps of a training stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from qpipe import targets
from qpipe.config.schema import TrainingStage
from qpipe.errors import ConfigError

_Base: Any = object if TYPE_CHECKING else LearningRateSchedule


def make_schedule(stage: TrainingStage, steps: int, where: str) -> LearningRateSchedule | float:
    """Returns the learning rate of a stage: a number where it is constant, else a schedule.

    Args:
        stage: its learning rate, schedule and warm-up.
        steps: training steps of the whole stage.
        where: config path of the stage, for errors.

    Raises:
        ConfigError: a `_target_` does not exist, refuses its arguments, or is no schedule.
    """
    if isinstance(stage.schedule, Mapping):
        return _from_target(stage, steps, f"{where}.schedule")
    warmup = round(stage.warmup_fraction * steps)
    schedule = _decay(stage.schedule.lower(), stage.learning_rate, max(1, steps - warmup))
    return WarmUp(stage.learning_rate, warmup, schedule) if warmup else schedule


def _decay(name: str, learning_rate: float, steps: int) -> LearningRateSchedule | float:
    if name == "cosine":
        return keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    if name == "linear":
        return keras.optimizers.schedules.PolynomialDecay(learning_rate, steps, end_learning_rate=0.0)
    return learning_rate


def _from_target(stage: TrainingStage, steps: int, where: str) -> LearningRateSchedule:
    schedule = targets.instantiated(
        stage.schedule, where, initial_learning_rate=stage.learning_rate, decay_steps=max(1, steps)
    )
    if not isinstance(schedule, LearningRateSchedule):
        raise ConfigError(
            f"{where}: {stage.schedule[targets.TARGET]} returned a {type(schedule).__name__}; "
            "a schedule of keras.optimizers.schedules is needed"
        )
    return schedule


class WarmUp(_Base):
    """A learning rate that rises linearly from zero, and then follows another schedule.

    Args:
        learning_rate: what it rises to.
        steps: training steps of the rise.
        then: schedule (or number) of the steps after it.
    """

    def __init__(self, learning_rate: float, steps: int, then: LearningRateSchedule | float):
        self.learning_rate = learning_rate
        self.steps = steps
        self.then = then

    def __call__(self, step):
        """Returns the learning rate of a step, counted from 0."""
        step = ops.cast(step, "float32")
        after = self.then(ops.maximum(step - self.steps, 0.0)) if callable(self.then) else self.then
        return ops.where(step < self.steps, self.learning_rate * step / self.steps, after)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {"learning_rate": self.learning_rate, "steps": self.steps, "then": self.then}
