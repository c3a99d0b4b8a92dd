"""What a training tells while it runs: steps, epochs, and the history of its metrics."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping

import keras

logger = logging.getLogger("qpipe")

OnBatch = Callable[[int, int], None]
OnEpoch = Callable[[int, Mapping[str, float]], None]


class Progress(keras.callbacks.Callback):
    """Calls back after steps and epochs, and keeps the metrics of all epochs; NaN where an epoch lacks a metric.

    Args:
        on_batch: called after every step with its number (from 1) and the number of all steps.
        on_epoch: called after every epoch with its number (from 1) and its metrics.
        steps: training steps of the whole stage.
        step: steps that are done.
        history: metrics of the epochs that are done.
        where: config path of the stage, for warnings.
    """

    def __init__(
        self,
        on_batch: OnBatch,
        on_epoch: OnEpoch,
        *,
        steps: int,
        step: int,
        history: Mapping[str, list[float]],
        where: str,
    ):
        super().__init__()
        self.history = {name: list(values) for name, values in history.items()}
        self._on_batch, self._on_epoch = on_batch, on_epoch
        self._step, self._steps = step, steps
        self._where = where

    def on_train_batch_end(self, batch, logs=None):
        """Counts a step."""
        self._step += 1
        self._on_batch(self._step, self._steps)

    def on_epoch_end(self, epoch, logs=None):
        """Keeps and hands on the metrics of an epoch; a loss that is no number is reported."""
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        done = max(map(len, self.history.values()), default=0)
        for name in {**self.history, **metrics}:
            self.history.setdefault(name, [math.nan] * done).append(metrics.get(name, math.nan))
        if not math.isfinite(metrics.get("loss", 0.0)):
            logger.warning("%s: the loss is %s after epoch %d", self._where, metrics["loss"], epoch + 1)
        self._on_epoch(epoch + 1, metrics)
