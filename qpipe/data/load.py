"""From a data configuration to a `Dataset`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from qpipe.config.schema import CallableData, DataConfig, DigitsData, FolderData, KerasData, NpzData, Task
from qpipe.data import callable_source, folder, keras_sets, npz
from qpipe.data.dataset import Dataset
from qpipe.data.digits import load_digits
from qpipe.data.image_files import examined
from qpipe.data.label_format import LabelFormat
from qpipe.data.labels import output_shape
from qpipe.data.part import Part, SourceParts
from qpipe.data.preprocess import Preprocessor, Unchanged, check_preprocess
from qpipe.data.split import split_parts
from qpipe.errors import DataError
from qpipe.signature import Signature

logger = logging.getLogger("qpipe")


def check_data_source(config: DataConfig) -> None:
    """Checks what can be checked before anything is loaded: names, files and folders, without TensorFlow.

    Raises:
        ConfigError: a `_target_` does not exist.
        DataError: the source is missing, unreadable or foreign, or its preprocessing is unknown.
    """
    check_preprocess(config)
    if isinstance(config, NpzData):
        npz.check_file(config)
    elif isinstance(config, KerasData):
        keras_sets.check_set(config)
    elif isinstance(config, FolderData):
        folder.check_folder(config)
    elif isinstance(config, CallableData):
        callable_source.check_callable(config)


def load_dataset(config: DataConfig, *, seed: int, scratch: Path | None = None) -> Dataset:
    """Loads a source, checks it, and splits it.

    Args:
        config: one of the schema's data sources.
        seed: decides the splits; the same seed gives bit-identical samples.
        scratch: folder for samples that a source can't keep in memory; None takes the system's temporary folder.
            They are removed when the process ends.

    Returns:
        The data set with its train, validation and test parts.

    Raises:
        ConfigError: a `_target_` does not exist, or raises an error.
        DataError: the source is missing, unreadable or does not fit.
    """
    source = _load_source(config, scratch)
    labels_shape = output_shape(source, config.task)
    parts = split_parts(source, config, seed=seed)
    train, validation, test = examined(parts, config) if isinstance(config, FolderData) else parts
    _check_same_shape(train, validation=validation, test=test)
    preprocessor = _preprocessor(config, train)
    label_format = LabelFormat.for_labels(config, stored=train.y.shape, image_shape=train.x.shape)
    _report_labels_that_stay(config, label_format)
    classes = labels_shape[-1:] if config.task is Task.classification else ()
    return Dataset(
        train=train,
        validation=validation,
        test=test,
        signature=Signature(
            input_shape=preprocessor.output_shape, output_shape=(*label_format.shape, *classes), task=config.task
        ),
        class_names=source.class_names,
        augmentation=config.augmentation,
        preprocessor=preprocessor,
        label_format=label_format,
    )


def _load_source(config: DataConfig, scratch: Path | None) -> SourceParts[Any]:
    if isinstance(config, DigitsData):
        return load_digits(config)
    if isinstance(config, NpzData):
        return npz.load_npz(config)
    if isinstance(config, KerasData):
        return keras_sets.load_set(config)
    if isinstance(config, FolderData):
        return folder.load_folder(config)
    if isinstance(config, CallableData):
        return callable_source.load_callable(config, scratch)
    raise DataError(
        f"data is of the kind {type(config).__name__}; "
        "allowed: CallableData, DigitsData, FolderData, KerasData, NpzData."
    )


def _check_same_shape(train: Part, **others: Part) -> None:
    for name, part in others.items():
        if part.x.shape != train.x.shape:
            raise DataError(
                f"Samples of the {name} part have the shape {part.x.shape}, those of the training part "
                f"{train.x.shape}: all parts need the same."
            )


def _preprocessor(config: DataConfig, train: Part) -> Preprocessor | Unchanged:
    if not config.images:
        return Unchanged(output_shape=train.x.shape)
    preprocessor = Preprocessor.for_images(config, image_shape=train.x.shape)
    preprocessor.warn_if_range_is_odd(train.x)
    return preprocessor


def _report_labels_that_stay(config: DataConfig, labels: LabelFormat) -> None:
    augmented = config.augmentation.shift or config.augmentation.flip
    if augmented and len(labels.shape) > 1 and not labels.is_map:
        logger.warning(
            "data.augmentation moves the images, but not their labels of shape %s: only maps of the images' height and "
            "width are moved along.",
            labels.shape,
        )
