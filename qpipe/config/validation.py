"""Checks values that the schema's types alone can't judge, before anything is imported or computed."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from omegaconf import MISSING

from qpipe.config.quantizer_validation import validate_quantizer
from qpipe.config.ranges import choice, fraction, patterns, positive, refuse, whole
from qpipe.config.schema import (
    ApplicationModel,
    DataConfig,
    FoldingConfig,
    JobConfig,
    MethodName,
    NpzData,
    TrackingConfig,
    TrainingStage,
)
from qpipe.errors import ConfigError

LARGEST_SEED = 2**32 - 1


def validate(config: JobConfig) -> list[str]:
    """Checks a whole job.

    Args:
        config: the resolved configuration.

    Returns:
        One sentence for each key that is set although the chosen method does not use it.

    Raises:
        ConfigError: the first mistake: its path, what was received and what is allowed.
    """
    _refuse_missing(config, "")
    if not re.fullmatch(r"[\w.+=@ -]{1,120}", config.name) or set(config.name) <= {".", " "}:
        refuse("name", config.name, "it names a folder: 1 to 120 letters, digits, spaces or any of _ . + = @ -")
    if not config.runs_dir.strip():
        refuse("runs_dir", config.runs_dir, "give a folder")
    whole("seed", config.seed, 0, LARGEST_SEED)
    if isinstance(config.model, ApplicationModel) and config.model.batchnorm_momentum is not None:
        fraction("model.batchnorm_momentum", config.model.batchnorm_momentum, 0.0, 1.0)
    _validate_data(config.data)
    _validate_stage("training.float", config.training.float)
    _validate_stage("training.qat", config.training.qat)
    validate_folding(config.folding)
    validate_quantizer(config.quantizer)
    _validate_tracking(config.tracking)
    return _unused_keys(config)


def validate_folding(config: FoldingConfig, path: str = "folding") -> None:
    """Checks selectors and the freeze delay.

    Raises:
        ConfigError: the first mistake.
    """
    patterns(f"{path}.layers", config.layers)
    patterns(f"{path}.exclude", config.exclude)
    delay = config.ema_freeze_delay
    if delay is not None and not isinstance(delay, bool) and isinstance(delay, int) and delay < 0:
        refuse(f"{path}.ema_freeze_delay", delay, "write null for no freeze, or the number of steps before it")
    whole(f"{path}.ema_freeze_delay", delay, 0, optional=True)


def _refuse_missing(node: Any, path: str) -> None:
    if isinstance(node, str) and node == MISSING:
        raise ConfigError(f"{path} is not set: give it on the command line as {path}=...")
    if dataclasses.is_dataclass(node):
        for field in dataclasses.fields(node):
            _refuse_missing(getattr(node, field.name), f"{path}.{field.name}" if path else field.name)
    elif isinstance(node, list):
        for index, item in enumerate(node):
            _refuse_missing(item, f"{path}[{index}]")


def _validate_data(data: DataConfig) -> None:
    if data.image_size is not None:
        if len(data.image_size) != 2:
            refuse("data.image_size", data.image_size, "give [height, width], or null to keep the size")
        for index, size in enumerate(data.image_size):
            whole(f"data.image_size[{index}]", size, 1)
    if data.channels is not None:
        choice("data.channels", data.channels, (1, 3))
    if not data.preprocess.strip():
        refuse("data.preprocess", data.preprocess, "raw, unit, symmetric or a module of keras.applications")
    fraction("data.augmentation.shift", data.augmentation.shift, 0.0, 0.5)
    fraction("data.validation_fraction", data.validation_fraction, 0.0, 1.0)
    fraction("data.test_fraction", data.test_fraction, 0.0, 1.0)
    if data.validation_fraction + data.test_fraction >= 1.0:
        refuse("data.test_fraction", data.test_fraction, "with data.validation_fraction it must stay below 1")
    whole("data.calibration_samples", data.calibration_samples, 1)
    whole("data.limit", data.limit, 1, optional=True)
    if isinstance(data, NpzData):
        for part in ("validation", "test"):
            images, labels = getattr(data.keys, f"x_{part}"), getattr(data.keys, f"y_{part}")
            if (images is None) != (labels is None):
                lacking = f"data.keys.{'x' if images is None else 'y'}_{part}"
                refuse(lacking, None, f"x_{part} and y_{part} are given together, or both are null")


def _validate_stage(path: str, stage: TrainingStage) -> None:
    whole(f"{path}.epochs", stage.epochs, 0)
    whole(f"{path}.batch_size", stage.batch_size, 1)
    if not stage.optimizer.strip():
        refuse(f"{path}.optimizer", stage.optimizer, "give the name of a Keras optimizer, such as adam")
    positive(f"{path}.learning_rate", stage.learning_rate)
    fraction(f"{path}.warmup_fraction", stage.warmup_fraction, 0.0, 1.0)


def _validate_tracking(tracking: TrackingConfig) -> None:
    if not tracking.experiment.strip():
        refuse("tracking.experiment", tracking.experiment, "give a name")
    positive("tracking.timeout", tracking.timeout)


def _unused_keys(config: JobConfig) -> list[str]:
    if config.method.name != MethodName.ptq:
        return []
    default = FoldingConfig()
    unused = [
        f"folding.{key}"
        for key in ("mode", "ema_freeze_delay")
        if getattr(config.folding, key) != getattr(default, key)
    ]
    return [f"{key} is set but not used: method=ptq does not train the quantized model" for key in unused]
