"""What can be checked of `training` before TensorFlow is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qpipe.config.schema import TrainingConfig, TrainingStage
from qpipe.errors import ConfigError, nearest
from qpipe.targets import TARGET, check_targets
from qpipe.training.names import METRICS, SCHEDULES, loss_names, matching, optimizer_names

_RESUMING = "keras.callbacks.BackupAndRestore"


def check_training(config: TrainingConfig) -> None:
    """Checks names, and `_target_`s with their arguments; Keras is not imported.

    Args:
        config: the section `training`, whose values `qpipe.config.validation` has seen.

    Raises:
        ConfigError: the first mistake.
    """
    for name in ("float", "qat"):
        _check_stage(getattr(config, name), f"training.{name}")
    if config.loss is not None:
        _check_named(config.loss, "training.loss", "loss", loss_names())


def _check_stage(stage: TrainingStage, where: str) -> None:
    if isinstance(stage.optimizer, Mapping):
        _check_optimizer(stage.optimizer, where)
    _check_named(stage.optimizer, f"{where}.optimizer", "optimizer", optimizer_names())
    _check_named(stage.schedule, f"{where}.schedule", "schedule", {name: name for name in SCHEDULES})
    if stage.early_stopping.patience is not None:
        _check_monitor(stage.early_stopping.monitor, f"{where}.early_stopping.monitor")
    for index, callback in enumerate(stage.callbacks):
        _check_callback(callback, f"{where}.callbacks[{index}]")


def _check_optimizer(optimizer: Mapping[str, Any], where: str) -> None:
    for name in ("learning_rate", "lr"):
        if name in optimizer:
            raise ConfigError(
                f"{where}.optimizer.{name}: the optimizer gets its learning rate from {where}.learning_rate and "
                f"{where}.schedule; set these instead"
            )
    if str(optimizer.get(TARGET)).endswith(".LossScaleOptimizer"):
        raise ConfigError(
            f"{where}.optimizer: {optimizer[TARGET]} is not allowed; name the optimizer inside it, "
            f"whose loss {where}.precision=mixed_float16 scales"
        )


def _check_named(value: Any, where: str, kind: str, known: dict[str, str]) -> None:
    if isinstance(value, Mapping):
        check_targets(value, where)
    elif matching(value, known) is None:
        raise ConfigError(f"{where}: unknown {kind} {value!r}; {nearest(value.lower(), known)}")


def _check_callback(callback: Mapping[str, Any], where: str) -> None:
    check_targets(callback, where)
    if callback[TARGET] == _RESUMING:
        raise ConfigError(f"{where}: {_RESUMING} is not allowed: training.checkpoints resumes a training")


def _check_monitor(monitor: str, where: str) -> None:
    """Refuses a name that no model measures; names that begin with an output's are left to the training."""
    metric = monitor.removeprefix("val_")
    if metric not in METRICS and not metric.endswith(tuple(f"_{name}" for name in METRICS)):
        allowed = [*METRICS, *(f"val_{name}" for name in METRICS)]
        raise ConfigError(f"{where}: there is no metric {monitor!r}; {nearest(monitor, allowed)}")
