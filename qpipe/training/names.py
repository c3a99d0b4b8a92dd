"""Names that a configuration of `training` may use; Keras is not imported."""

from __future__ import annotations

import re

from qpipe import keras_source

SCHEDULES = ("constant", "cosine", "linear")
METRICS = ("loss", "accuracy", "top5_accuracy", "mae")
"""What trainings measure, depending on the task; on the validation part with `val_` before it."""
BALANCED = "balanced"
"""Class weights that are inverse to the classes' frequencies."""

_NOT_BY_NAME = {
    "keras.optimizers": ("Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap"),
    "keras.losses": ("Loss",),
}


def optimizer_names() -> dict[str, str]:
    """Returns the class in `keras.optimizers` for each name in lower case: `adamw` is `AdamW`."""
    return {name.lower(): name for name in _classes("keras.optimizers")}


def loss_names() -> dict[str, str]:
    """Returns the class in `keras.losses` for each name with underscores: `log_cosh` is `LogCosh`."""
    return {_with_underscores(name): name for name in _classes("keras.losses")}


def matching(name: str, known: dict[str, str]) -> str | None:
    """Returns the class that `name` stands for, whatever its case and underscores; None where there is none."""
    bare = {key.replace("_", ""): value for key, value in known.items()}
    return bare.get(name.replace("_", "").lower())


def _classes(module: str) -> list[str]:
    return [name for name in keras_source.classes(module) if name not in _NOT_BY_NAME[module]]


def _with_underscores(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
