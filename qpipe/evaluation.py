"""How good a model's outputs are, and how much the quantized model's differ from the float model's."""

from __future__ import annotations

import keras
import numpy as np

from qpipe.config.schema import Task
from qpipe.data import Dataset
from qpipe.data.dataset import PartName
from qpipe.training.metrics import TOP5_ABOVE_CLASSES

BATCH_SIZE = 256
TOP = 5
SMALLEST = float(np.finfo(np.float32).tiny)


def predictions(model: keras.Model, dataset: Dataset, part: PartName = "test") -> list[np.ndarray]:
    """Returns the outputs of a model for a part of the data: (samples, ...) each, in the order of `model.outputs`."""
    outputs = model.predict(dataset.evaluation_batches(part, BATCH_SIZE).map(lambda x, y: x), verbose=0)
    return keras.tree.flatten(outputs)


def quality(outputs: np.ndarray, labels: np.ndarray, task: Task, *, probabilities: bool = True) -> dict[str, float]:
    """Measures outputs against labels.

    Args:
        outputs: (samples, ..., classes) scores, or predicted values for a regression.
        labels: class numbers (samples, ...); 0 and 1 (samples, classes) for `multilabel`; values for a regression.
        task: what the outputs mean.
        probabilities: of `multilabel` scores: whether they are probabilities (a class holds from 0.5 on) or logits
            (from 0 on).

    Returns:
        `classification`: `accuracy` (share of the largest score being that of the class; per pixel where labels are
        maps, then with `mean_iou`), and `top5_accuracy` where there are more than 20 classes. `multilabel`:
        `accuracy` (share of decisions) and `f1` (mean over classes). `regression`: `mae`, `rmse` and `r2`.
    """
    from sklearn import metrics

    if task is Task.regression:
        flat, expected = outputs.reshape(-1, outputs.shape[-1]), labels.reshape(-1, labels.shape[-1])
        error = (flat - expected).astype(np.float64)
        return {
            "mae": float(np.abs(error).mean()),
            "rmse": float(np.sqrt((error**2).mean())),
            "r2": float(metrics.r2_score(expected, flat)) if len(expected) > 1 else float("nan"),
        }
    decided = decisions(outputs, task, probabilities=probabilities)
    measured = {"accuracy": float(np.mean(decided == labels))}
    if task is Task.multilabel:
        return measured | {"f1": float(metrics.f1_score(labels, decided, average="macro", zero_division=0.0))}
    if labels.ndim > 1:
        measured["mean_iou"] = float(metrics.jaccard_score(labels.ravel(), decided.ravel(), average="macro"))
    if outputs.shape[-1] > TOP5_ABOVE_CLASSES:
        measured["top5_accuracy"] = top_accuracy(outputs, labels)
    return measured


def likeness(outputs: np.ndarray, reference: np.ndarray, task: Task, *, probabilities: bool = True) -> dict[str, float]:
    """Compares a quantized model's outputs with the float model's.

    Args:
        outputs: (samples, ..., classes) of the quantized model.
        reference: of the same shape, of the float model.
        task: what the outputs mean.
        probabilities: as in `quality`.

    Returns:
        `agreement`: share of equal decisions. For a regression `deviation`: root mean square of the difference,
        divided by the standard deviation of the reference.
    """
    if task is Task.regression:
        difference = float(np.sqrt(np.mean((outputs - reference).astype(np.float64) ** 2)))
        return {"deviation": difference / max(float(reference.std(dtype=np.float64)), SMALLEST)}
    pair = [decisions(scores, task, probabilities=probabilities) for scores in (outputs, reference)]
    return {"agreement": float(np.mean(pair[0] == pair[1]))}


def decisions(outputs: np.ndarray, task: Task, *, probabilities: bool = True) -> np.ndarray:
    """Returns the class of the largest score, or for `multilabel` 1 where a class holds, else 0."""
    if task is Task.multilabel:
        return (outputs >= (0.5 if probabilities else 0.0)).astype(np.int64)
    return outputs.argmax(axis=-1)


def top_accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Returns the share of samples whose class is among the five with the largest scores."""
    best = np.argpartition(outputs, -TOP, axis=-1)[..., -TOP:]
    return float(np.mean((best == labels[..., np.newaxis]).any(axis=-1)))
