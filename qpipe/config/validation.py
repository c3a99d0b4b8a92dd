"""Checks values that the schema's types alone can't judge, before anything is imported or computed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from omegaconf import MISSING

from qpipe.config.data_validation import validate_data
from qpipe.config.export_validation import unused_export_keys, validate_export
from qpipe.config.post_training_validation import contradictions, unused_rounding_keys, validate_post_training
from qpipe.config.quantizer_validation import training_only_keys, validate_quantizer
from qpipe.config.ranges import fraction, patterns, positive, refuse, whole
from qpipe.config.schema import ApplicationModel, FoldingConfig, JobConfig, MethodName, TrackingConfig, TrainingStage
from qpipe.config.sweep_validation import validate_sweep
from qpipe.config.training_validation import validate_training
from qpipe.errors import ConfigError

LARGEST_SEED = 2**32 - 1


def validate(config: JobConfig) -> list[str]:
    """Checks a whole job.

    Args:
        config: the resolved configuration.

    Returns:
        One sentence for each key that is set although nothing uses it, and for settings that work against each other.

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
    validate_data(config.data)
    validate_training(config.training, config.data.task)
    validate_folding(config.folding)
    validate_quantizer(config.quantizer)
    validate_post_training(config)
    validate_export(config)
    whole("verify.samples", config.verify.samples, 1, optional=True)
    _validate_tracking(config.tracking)
    validate_sweep(config.sweep)
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


def _validate_tracking(tracking: TrackingConfig) -> None:
    if not tracking.experiment.strip():
        refuse("tracking.experiment", tracking.experiment, "give a name")
    positive("tracking.timeout", tracking.timeout)


def _unused_keys(config: JobConfig) -> list[str]:
    sentences = []
    if config.method.name == MethodName.ptq:
        unused = _changed("folding", config.folding, FoldingConfig(), ("mode", "ema_freeze_delay"))
        unused += _changed("training.qat", config.training.qat, TrainingStage())
        unused += training_only_keys(config.quantizer)
        sentences += _unused(unused, "method=ptq does not train the quantized model")
    if config.method.name == MethodName.qat and config.adaround.enabled:
        unused = _changed("folding", config.folding, FoldingConfig(), ("mode",))
        sentences += _unused(unused, "rounding makes plain layers of folded ones, without batch statistics")
    sentences += unused_rounding_keys(config.adaround) + contradictions(config) + unused_export_keys(config)
    if not config.model.train:
        unused = _changed("training.float", config.training.float, TrainingStage())
        sentences += _unused(unused, "model.train=false takes the model's weights as they are")
    if not config.verify.enabled and config.verify.samples is not None:
        sentences += _unused(["verify.samples"], "verify.enabled=false compares nothing")
    return sentences


def _changed(path: str, value: Any, default: Any, keys: Sequence[str] = ()) -> list[str]:
    """Paths of the keys that differ from the default."""
    names = keys or [field.name for field in dataclasses.fields(default)]
    return [f"{path}.{name}" for name in names if getattr(value, name) != getattr(default, name)]


def _unused(paths: list[str], reason: str) -> list[str]:
    if not paths:
        return []
    return [f"{', '.join(paths)} {'is' if len(paths) == 1 else 'are'} set but not used: {reason}"]
