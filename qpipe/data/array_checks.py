"""Checks of the arrays that a user brings; each mistake gets one sentence."""

from __future__ import annotations

import numpy as np

from qpipe.config.schema import DataConfig, Task
from qpipe.data.labels import checked_labels
from qpipe.data.part import Part
from qpipe.data.samples import ArraySamples
from qpipe.data.value_checks import refuse_not_finite
from qpipe.errors import DataError


def checked_part(
    samples: np.ndarray, labels: np.ndarray, config: DataConfig, *, x_name: str, y_name: str, source: str
) -> Part:
    """Checks one part and brings it to the form that `Part` promises; memory maps are not copied.

    Args:
        samples: images (samples, height, width[, channels]) of integers or floats; with `images=false` of any shape.
        labels: as `data.task` asks for; a regression's maps (samples, height, width) get a last axis.
        config: `task` and `images` are used.
        x_name: what `samples` is called in messages, such as `'x_train'`.
        y_name: what `labels` is called in messages.
        source: where both come from, such as `in data.npz`.

    Raises:
        DataError: wrong rank or dtype, no samples, different lengths, NaN or infinity, labels that don't fit the task.
    """
    x = _checked_samples(samples, f"{x_name} {source}", images=config.images)
    y = checked_labels(labels, config.task, f"{y_name} {source}")
    if len(x) != len(y):
        raise DataError(f"{x_name} has {len(x)} samples but {y_name} has {len(y)} labels {source}.")
    if config.images and config.task is Task.regression and y.shape == x.shape[:2]:
        y = ArraySamples(y.array[..., np.newaxis], y.dtype)
    return Part(x=x, y=y)


def _checked_samples(samples: np.ndarray, where: str, *, images: bool) -> ArraySamples:
    if images and samples.ndim not in (3, 4):
        raise DataError(
            f"{where} has the shape {samples.shape}; images of (samples, height, width[, channels]) are needed "
            "(data.images=false takes other shapes)."
        )
    if samples.ndim < 2:
        raise DataError(f"{where} has the shape {samples.shape}; (samples, ...) with at least two axes is needed.")
    if samples.dtype.kind not in "uif":
        kind = "images" if images else "samples"
        raise DataError(f"{where} has the type {samples.dtype}; {kind} are integers or floats.")
    if samples.size == 0:
        raise DataError(f"{where} is empty (shape {samples.shape}).")
    refuse_not_finite(samples, where)
    if images and samples.ndim == 3:
        samples = samples[..., np.newaxis]
    dtype = np.dtype(np.uint8 if samples.dtype == np.uint8 else np.float32)
    if not isinstance(samples, np.memmap):
        samples = samples.astype(dtype, copy=False)
    return ArraySamples(samples, dtype)
