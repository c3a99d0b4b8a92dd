"""What determines the result of a training, apart from its model and its data."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from qpipe import targets
from qpipe.config.schema import TrainingConfig, TrainingStage


def training_identity(config: TrainingConfig, stage: TrainingStage) -> list[Any]:
    """Returns plain data that is equal for equal trainings (with the same model, data, seed and packages).

    Of each `_target_` the source of its module and of the one that defines it counts; modules that these import are
    not looked at.
    Files that an argument of a `_target_` names count with their name and content, except those of Keras' own
    callbacks, which only write files.

    Args:
        config: the section `training`.
        stage: its stage that runs.
    """
    named = [stage.optimizer, stage.schedule, stage.callbacks, config.loss]
    files = {path: targets.source_files(path) for path in sorted(set(_targets(named)))}
    sources = {path: [hashlib.sha256(file.read_bytes()).hexdigest() for file in found] for path, found in files.items()}
    settings = dataclasses.replace(
        stage,
        optimizer=_with_contents(stage.optimizer),
        schedule=_with_contents(stage.schedule),
        callbacks=[_callback_with_contents(callback) for callback in stage.callbacks],
    )
    return [settings, _with_contents(config.loss), config.class_weights, sources]


def versions() -> dict[str, str]:
    """Returns what computes: the versions of the packages, and the backend and precision of Keras."""
    import keras
    import numpy
    import tensorflow

    import qpipe

    packages = {package.__name__: package.__version__ for package in (keras, tensorflow, numpy, qpipe)}
    backend = f"{keras.backend.backend()}/{keras.config.floatx()}/{keras.config.dtype_policy().name}"
    return packages | {"backend": backend}


def _callback_with_contents(callback: Mapping[str, Any]) -> Any:
    return callback if str(callback[targets.TARGET]).startswith("keras.") else _with_contents(callback)


def _with_contents(value: Any, *, is_argument: bool = False) -> Any:
    """Returns `value` with name and content's hash in the place of each file that an argument names."""
    if isinstance(value, Mapping):
        return {name: _with_contents(inner, is_argument=True) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with_contents(inner, is_argument=is_argument) for inner in value]
    if is_argument and isinstance(value, str) and os.path.isfile(path := os.path.expanduser(value)):
        with open(path, "rb") as file:
            return {"file": os.path.basename(path), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    return value


def _targets(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get(targets.TARGET), str):
            yield value[targets.TARGET]
        for inner in value.values():
            yield from _targets(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _targets(inner)
