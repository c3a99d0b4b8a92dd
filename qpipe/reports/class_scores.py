"""How good a model is on every class alone."""

from __future__ import annotations

import numpy as np

from qpipe.config.schema import Task
from qpipe.evaluation import decisions


def scores_by_class(outputs: np.ndarray, labels: np.ndarray, task: Task, *, probabilities: bool = True) -> np.ndarray:
    """Measures every class.

    Args:
        outputs: (samples, ..., classes) scores.
        labels: class numbers (samples, ...), or 0 and 1 (samples, classes) for `multilabel`.
        task: `classification` or `multilabel`.
        probabilities: of `multilabel` scores, as in `qpipe.evaluation.quality`.

    Returns:
        (classes,): for `classification` the share of the class's samples (or pixels) that are recognized; for
        `multilabel` the F1 score of its decisions. NaN for a class that no sample has.
    """
    decided, classes = decisions(outputs, task, probabilities=probabilities), outputs.shape[-1]
    if task is Task.multilabel:
        true = np.sum((decided == 1) & (labels == 1), axis=0)
        held, found = np.sum(labels == 1, axis=0), np.sum(decided == 1, axis=0)
        return np.where(held > 0, 2 * true / np.maximum(held + found, 1), np.nan)
    numbers = labels.ravel().astype(np.int64)
    samples = np.bincount(numbers, minlength=classes)[:classes]
    right = np.bincount(numbers[decided.ravel() == numbers], minlength=classes)[:classes]
    return np.where(samples > 0, right / np.maximum(samples, 1), np.nan)
