"""What determines the result of a training, apart from its model and its data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from qpipe import targets
from qpipe.config.schema import Distribution, TrainingConfig, TrainingStage
from qpipe.content import sha256, targets_in, with_contents
from qpipe.training.devices import devices


def training_identity(config: TrainingConfig, stage: TrainingStage) -> list[Any]:
    """Returns plain data that is equal for equal trainings (with the same model, data, seed and packages).

    Of each `_target_` the source of its module and of the one that defines it counts; modules that these import are
    not looked at. Files that an argument of a `_target_` names count with name and content, except those of Keras' own
    callbacks, which only write files.

    Args:
        config: the section `training`.
        stage: its stage that runs.
    """
    named = [stage.optimizer, stage.schedule, stage.callbacks, config.loss]
    files = {path: targets.source_files(path) for path in sorted(set(targets_in(named)))}
    sources = {path: [sha256(file) for file in found] for path, found in files.items()}
    settings = dataclasses.replace(
        stage,
        optimizer=with_contents(stage.optimizer),
        schedule=with_contents(stage.schedule),
        callbacks=[_callback_with_contents(callback) for callback in stage.callbacks],
    )
    identity = [settings, with_contents(config.loss), config.class_weights, sources]
    if config.distribution is Distribution.mirrored:
        identity += [config.distribution, len(devices())]
    return identity


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
    return callback if str(callback[targets.TARGET]).startswith("keras.") else with_contents(callback)
