"""Metrics that are measured in every epoch, by the task."""

from __future__ import annotations

import keras

from qpipe.config.schema import Task
from qpipe.signature import Signature

TOP5_ABOVE_CLASSES = 20


def make_metrics(signature: Signature, *, from_logits: bool) -> list[keras.metrics.Metric]:
    """Returns the metrics of one output of a model.

    Args:
        signature: the task, and the number of classes.
        from_logits: whether the output is no probability.

    Returns:
        `accuracy` for classes (and `top5_accuracy` of more than 20), `accuracy` over all single answers for a
        multi-label task, `mae` (mean absolute error) for a regression.
    """
    if signature.task is Task.regression:
        return [keras.metrics.MeanAbsoluteError(name="mae")]
    if signature.task is Task.multilabel:
        return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0 if from_logits else 0.5)]
    metrics: list[keras.metrics.Metric] = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
    if signature.classes > TOP5_ABOVE_CLASSES:
        metrics.append(keras.metrics.SparseTopKCategoricalAccuracy(k=5, name="top5_accuracy"))
    return metrics
