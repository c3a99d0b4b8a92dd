"""Checks the values of `data` that the schema's types alone can't judge."""

from __future__ import annotations

from qpipe.config.ranges import choice, fraction, refuse, whole
from qpipe.config.schema import DataConfig, DigitsData, DigitsTarget, NpzData, Task

LARGEST_IMAGE = 16384
"""Pixels per axis of `data.image_size`."""


def validate_data(data: DataConfig) -> None:
    """Checks sizes, fractions, the task, and keys that exclude each other.

    Raises:
        ConfigError: the first mistake.
    """
    _validate_images(data)
    fraction("data.augmentation.shift", data.augmentation.shift, 0.0, 0.5)
    fraction("data.validation_fraction", data.validation_fraction, 0.0, 1.0)
    fraction("data.test_fraction", data.test_fraction, 0.0, 1.0)
    if data.validation_fraction + data.test_fraction >= 1.0:
        refuse("data.test_fraction", data.test_fraction, "with data.validation_fraction it must stay below 1")
    whole("data.calibration_samples", data.calibration_samples, 1)
    whole("data.limit", data.limit, 1, optional=True)
    if isinstance(data, NpzData):
        _validate_keys(data)
    if isinstance(data, DigitsData) and data.task is Task.multilabel:
        refuse("data.task", data.task.name, "the digits have one class each: give classification or regression")
    if isinstance(data, DigitsData) and data.target is DigitsTarget.pixels and data.task is not Task.classification:
        refuse("data.task", data.task.name, "data.target=pixels is a classification of each pixel")


def _validate_images(data: DataConfig) -> None:
    if data.image_size is not None:
        if len(data.image_size) != 2:
            refuse("data.image_size", data.image_size, "give [height, width], or null to keep the size")
        for index, size in enumerate(data.image_size):
            whole(f"data.image_size[{index}]", size, 1, LARGEST_IMAGE)
    if data.channels is not None:
        choice("data.channels", data.channels, (1, 3))
    if not data.preprocess.strip():
        refuse("data.preprocess", data.preprocess, "raw, unit, symmetric or a module of keras.applications")
    if data.images:
        return
    if data.preprocess != "raw":
        refuse("data.preprocess", data.preprocess, "with data.images=false samples are taken as they are: give raw")
    for key in ("image_size", "channels"):
        if getattr(data, key) is not None:
            refuse(f"data.{key}", getattr(data, key), "with data.images=false it has to be null")
    if data.augmentation.shift or data.augmentation.flip:
        refuse("data.augmentation", "a shift or flip", "with data.images=false nothing is augmented")


def _validate_keys(data: NpzData) -> None:
    for part in ("validation", "test"):
        images, labels = getattr(data.keys, f"x_{part}"), getattr(data.keys, f"y_{part}")
        if (images is None) != (labels is None):
            lacking = f"data.keys.{'x' if images is None else 'y'}_{part}"
            refuse(lacking, None, f"x_{part} and y_{part} are given together, or both are null")
