"""From a data configuration to a `Dataset`."""

from __future__ import annotations

import numpy as np

from qpipe.config.schema import DataConfig, DigitsData, NpzData
from qpipe.data.dataset import Dataset
from qpipe.data.digits import load_digits
from qpipe.data.npz import check_file, load_npz
from qpipe.data.part import SourceParts
from qpipe.data.preprocess import Preprocessor, check_preprocess
from qpipe.data.split import split_parts
from qpipe.errors import DataError


def check_data_source(config: DataConfig) -> None:
    """Checks what can be checked before anything is loaded: names and files.

    Raises:
        DataError: the source is missing, unreadable or foreign, or its preprocessing is unknown.
    """
    check_preprocess(config)
    if isinstance(config, NpzData):
        check_file(config)


def load_dataset(config: DataConfig, *, seed: int) -> Dataset:
    """Loads a source, checks it, and splits it.

    Args:
        config: `DigitsData` or `NpzData`.
        seed: decides the splits; the same seed gives bit-identical arrays.

    Returns:
        The data set with its train, validation and test parts.

    Raises:
        DataError: the source is missing, unreadable or does not fit.
    """
    parts = _load_source(config)
    _check_same_images(parts)
    classes = _count_classes(parts)
    preprocessor = Preprocessor.for_images(config, image_shape=parts.train.x.shape[1:])
    train, validation, test = split_parts(parts, config, seed=seed)
    preprocessor.warn_if_range_is_odd(train.x)
    return Dataset(
        train=train,
        validation=validation,
        test=test,
        classes=classes,
        augmentation=config.augmentation,
        preprocessor=preprocessor,
    )


def _load_source(config: DataConfig) -> SourceParts:
    if isinstance(config, DigitsData):
        return load_digits(config)
    if isinstance(config, NpzData):
        return load_npz(config)
    raise DataError(f"data is of the kind {type(config).__name__}; allowed: DigitsData, NpzData.")


def _check_same_images(parts: SourceParts) -> None:
    expected = parts.train.x.shape[1:]
    for name, part in (("validation", parts.validation), ("test", parts.test)):
        if part is not None and part.x.shape[1:] != expected:
            raise DataError(
                f"Images of the {name} part have (height, width, channels) = {part.x.shape[1:]}, "
                f"those of the training part {expected}: all parts need the same."
            )


def _count_classes(parts: SourceParts) -> int:
    classes = int(parts.train.y.max()) + 1
    if len(np.unique(parts.train.y)) < 2:
        raise DataError(f"All labels of the training part are {classes - 1}: at least two classes are needed.")
    for name, part in (("validation", parts.validation), ("test", parts.test)):
        if part is not None and part.y.max() >= classes:
            raise DataError(
                f"Labels of the {name} part reach {part.y.max()}, those of the training part only {classes - 1}: "
                "the training part has to hold every class."
            )
    return classes
