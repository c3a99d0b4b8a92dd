"""Checks of images and labels that come from a user's file; each mistake gets one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qpipe.data.part import Part
from qpipe.errors import DataError


def checked_part(images: np.ndarray, labels: np.ndarray, *, x_key: str, y_key: str, path: Path) -> Part:
    """Checks one part and brings it to the form that `Part` promises.

    Args:
        images: (samples, height, width[, channels]) of integers or floats.
        labels: class numbers (samples,) or (samples, 1), integers.
        x_key: name of `images` in the file, for messages.
        y_key: name of `labels` in the file, for messages.
        path: the file, for messages.

    Raises:
        DataError: wrong rank or dtype, no samples, different lengths, NaN or infinity, negative labels.
    """
    x = _checked_images(images, f"'{x_key}' in {path}")
    y = _checked_labels(labels, f"'{y_key}' in {path}")
    if len(x) != len(y):
        raise DataError(f"'{x_key}' has {len(x)} samples but '{y_key}' has {len(y)} labels in {path}.")
    return Part(x=x, y=y)


def _checked_images(images: np.ndarray, where: str) -> np.ndarray:
    if images.ndim not in (3, 4):
        raise DataError(
            f"{where} has the shape {images.shape}; images of (samples, height, width[, channels]) are needed."
        )
    if images.dtype.kind not in "uif":
        raise DataError(f"{where} has the type {images.dtype}; images are integers or floats.")
    if images.size == 0:
        raise DataError(f"{where} is empty (shape {images.shape}).")
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        count = int((~np.isfinite(images)).sum())
        raise DataError(f"{where} holds {count} values that are NaN or infinite.")
    if images.ndim == 3:
        images = images[..., np.newaxis]
    return images if images.dtype == np.uint8 else images.astype(np.float32)


def _checked_labels(labels: np.ndarray, where: str) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        hint = "; one-hot rows become class numbers with argmax" if labels.ndim == 2 else ""
        raise DataError(f"{where} has the shape {labels.shape}; class numbers of shape (samples,) are needed{hint}.")
    if labels.dtype.kind not in "ui":
        raise DataError(f"{where} has the type {labels.dtype}; labels are whole class numbers (an integer type).")
    if labels.size and labels.min() < 0:
        raise DataError(f"{where} holds the negative label {labels.min()}; class numbers start at 0.")
    return labels.astype(np.int64)
