"""The callbacks of a training stage: early stopping, and the user's own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras

from qpipe import targets
from qpipe.config.schema import EarlyStopping, TrainingStage
from qpipe.errors import ConfigError, QpipeError, nearest
from qpipe.first_sentence import first_sentence

_METHODS = [name for name in dir(keras.callbacks.Callback) if name.startswith(("on_", "set_"))]
_SET_LEARNING_RATE = (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)


def check_callbacks(stage: TrainingStage, monitors: Iterable[str] | None, where: str) -> None:
    """Checks callbacks as far as that is possible without making them: for a stage that comes later.

    Args:
        stage: its early stopping, callbacks and schedule.
        monitors: names of all metrics that an epoch ends with; None where they are not known yet.
        where: config path of the stage, for errors.

    Raises:
        ConfigError: a `_target_` does not exist, is no callback or refuses its arguments, a metric does not exist, or
            a callback that sets the learning rate meets a schedule.
    """
    if monitors is not None and stage.early_stopping.patience is not None:
        _check_monitor(stage.early_stopping.monitor, monitors, f"{where}.early_stopping.monitor")
    for index, config in enumerate(stage.callbacks):
        place = f"{where}.callbacks[{index}]"
        target = targets.locate(config[targets.TARGET], place)
        if not inspect.isclass(target):
            continue
        if not issubclass(target, keras.callbacks.Callback):
            raise ConfigError(f"{place}: {config[targets.TARGET]} is no keras.callbacks.Callback")
        _check_learning_rate(target, stage, where, place)
        arguments = _bound(target, config, place)
        if monitors is not None and isinstance(arguments.get("monitor"), str):
            _check_monitor(arguments["monitor"], monitors, f"{place}.monitor")


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
        callbacks.append(_with_errors_named(callback, place))
    if stage.early_stopping.patience is not None:
        _check_monitor(stage.early_stopping.monitor, monitors, f"{where}.early_stopping.monitor")
        callbacks.append(_early_stopping(stage.early_stopping))
    return callbacks


def _bound(target: type, config: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Returns the arguments that a class would get, its defaults included."""
    arguments = {str(name): value for name, value in config.items() if name != targets.TARGET}
    try:
        bound = inspect.signature(target).bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"{where}: {config[targets.TARGET]} refuses its arguments: {error}") from None
    bound.apply_defaults()
    return bound.arguments


def _with_errors_named(callback: keras.callbacks.Callback, where: str) -> keras.callbacks.Callback:
    """Lets errors that the callback's own methods raise say which callback it was."""
    for name in _METHODS:
        method = getattr(callback, name)
        if getattr(method, "__func__", None) is not getattr(keras.callbacks.Callback, name):
            setattr(callback, name, _naming_errors(method, f"{where}: {type(callback).__name__}.{name}"))
    return callback


def _naming_errors(method: Callable[..., Any], what: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def named(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except QpipeError:
            raise
        except Exception as error:
            raise ConfigError(f"{what} raised {type(error).__name__}: {first_sentence(error)}") from error

    return named


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
