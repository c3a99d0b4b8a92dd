"""The callbacks of a training stage: early stopping, and the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from qpipe import targets
from qpipe.config.schema import EarlyStopping, TrainingStage
from qpipe.errors import ConfigError, nearest

_SET_LEARNING_RATE = (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)


def check_callbacks(stage: TrainingStage, where: str) -> None:
    """Checks the user's own callbacks as far as that is possible without making them: for a stage that comes later.

    Args:
        stage: its callbacks and schedule.
        where: config path of the stage, for errors.

    Raises:
        ConfigError: a `_target_` does not exist or is no callback, or it sets the learning rate and meets a schedule.
    """
    for index, config in enumerate(stage.callbacks):
        place = f"{where}.callbacks[{index}]"
        target = targets.locate(config[targets.TARGET], place)
        if not inspect.isclass(target):
            continue
        if not issubclass(target, keras.callbacks.Callback):
            raise ConfigError(f"{place}: {config[targets.TARGET]} is no keras.callbacks.Callback")
        _check_learning_rate(target, stage, where, place)


def make_callbacks(stage: TrainingStage, monitors: Iterable[str], where: str) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that a stage asks for, the user's own first.

    Args:
        stage: its early stopping, callbacks and schedule.
        monitors: names of all metrics that an epoch ends with.
        where: config path of the stage, for errors.

    Raises:
        ConfigError: a `_target_` is no callback or refuses its arguments, a metric does not exist, or a callback that
            sets the learning rate meets a schedule.
    """
    callbacks = []
    for index, config in enumerate(stage.callbacks):
        place = f"{where}.callbacks[{index}]"
        callback = _own(config, place)
        if isinstance(getattr(callback, "monitor", None), str):
            _check_monitor(callback.monitor, monitors, f"{place}.monitor")
        _check_learning_rate(type(callback), stage, where, place)
        callbacks.append(callback)
    if stage.early_stopping.patience is not None:
        _check_monitor(stage.early_stopping.monitor, monitors, f"{where}.early_stopping.monitor")
        callbacks.append(_early_stopping(stage.early_stopping))
    return callbacks


def _own(config: Mapping[str, Any], where: str) -> keras.callbacks.Callback:
    callback = targets.instantiated(config, where)
    if not isinstance(callback, keras.callbacks.Callback):
        raise ConfigError(
            f"{where}: {config[targets.TARGET]} returned a {type(callback).__name__}; "
            "a keras.callbacks.Callback is needed"
        )
    return callback


def _check_learning_rate(kind: type, stage: TrainingStage, where: str, place: str) -> None:
    """Keras would refuse to set the learning rate of a schedule, but only when it comes to it."""
    if not issubclass(kind, _SET_LEARNING_RATE):
        return
    for name, value, allowed in (
        ("schedule", stage.schedule, "constant"),
        ("warmup_fraction", stage.warmup_fraction, 0),
    ):
        if value != allowed:
            raise ConfigError(
                f"{place}: {kind.__name__} sets the learning rate, and so does {where}.{name}: "
                f"set {where}.{name}={allowed}"
            )


def _early_stopping(config: EarlyStopping) -> keras.callbacks.EarlyStopping:
    return keras.callbacks.EarlyStopping(
        monitor=config.monitor,
        min_delta=config.min_delta,
        patience=config.patience,
        mode="max" if config.monitor.endswith("accuracy") else "min",
        restore_best_weights=config.restore_best,
    )


def _check_monitor(monitor: str, monitors: Iterable[str], where: str) -> None:
    if monitor not in monitors:
        raise ConfigError(f"{where}: there is no metric {monitor!r}; {nearest(monitor, monitors)}")
