"""What determines the result of a training, apart from its model and its data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from qpipe import targets
from qpipe.config.schema import TrainingConfig, TrainingStage


def training_identity(config: TrainingConfig, stage: TrainingStage) -> list[Any]:
    """Returns plain data that is equal for equal trainings (with the same model, data, seed and packages).

    Of each `_target_` the source of its module counts; modules that it imports are not looked at.

    Args:
        config: the section `training`.
        stage: its stage that runs.
    """
    named = [stage.optimizer, stage.schedule, stage.callbacks, config.loss]
    files = {path: targets.source_file(path) for path in sorted(set(_targets(named)))}
    sources = {path: hashlib.sha256(file.read_bytes()).hexdigest() for path, file in files.items() if file is not None}
    return [stage, config.loss, config.class_weights, sources]


def versions() -> dict[str, str]:
    """Returns what computes: the versions of the packages, and the backend and precision of Keras."""
    import keras
    import numpy
    import tensorflow

    import qpipe

    packages = {package.__name__: package.__version__ for package in (keras, tensorflow, numpy, qpipe)}
    backend = f"{keras.backend.backend()}/{keras.config.floatx()}/{keras.config.dtype_policy().name}"
    return packages | {"backend": backend}


def _targets(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get(targets.TARGET), str):
            yield value[targets.TARGET]
        for inner in value.values():
            yield from _targets(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _targets(inner)
