"""How much each class counts in the loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from qpipe.config.schema import Task
from qpipe.data import Dataset
from qpipe.errors import ConfigError
from qpipe.training.names import BALANCED

WHERE = "training.class_weights"


def class_weights(config: Any, dataset: Dataset) -> np.ndarray | None:
    """Returns the weight of each class.

    Args:
        config: null, `balanced`, or one number per class.
        dataset: its task and classes; `balanced` reads the labels of its training part.

    Returns:
        float32 (classes,), or None where all classes count alike. `balanced` weights are inverse to a class's
        frequency (in samples or pixels), and 1 on average; a class that does not occur gets 1.

    Raises:
        ConfigError: the task has no classes to choose from, or there are more or fewer weights than classes.
    """
    if config is None:
        return None
    signature = dataset.signature
    if signature.task is not Task.classification:
        raise ConfigError(f"{WHERE}: only data.task=classification has class weights, not {signature.task.value}")
    if config == BALANCED:
        return _balanced(dataset.labels("train"), signature.classes)
    if len(config) != signature.classes:
        raise ConfigError(f"{WHERE}: {len(config)} weights are given, but the data has {signature.classes} classes")
    return np.asarray(config, "float32")


def _balanced(labels: np.ndarray, classes: int) -> np.ndarray:
    counts = np.bincount(np.ravel(labels), minlength=classes)
    occurring = counts > 0
    weights = np.ones(classes, "float32")
    weights[occurring] = counts.sum() / (occurring.sum() * counts[occurring])
    return weights
