"""Labels: what each task takes, and the model's output that follows from them."""

from __future__ import annotations

import logging
import math

import numpy as np

from qpipe.config.schema import Task
from qpipe.data.part import Divisible, SourceParts
from qpipe.data.samples import ArraySamples, chunks
from qpipe.data.value_checks import extremes, refuse_not_finite
from qpipe.errors import DataError

_MANY_CLASSES = 1000
"""Class numbers below this are always taken; larger ones only below the number of training samples."""

logger = logging.getLogger("qpipe")


def checked_labels(labels: np.ndarray, task: Task, where: str) -> ArraySamples:
    """Checks the labels of one part and brings them to the form that `Part` promises.

    Args:
        labels: classification: whole numbers (samples[, 1]) or (samples, height, width[, 1]); multilabel: 0 and 1
            (samples[, classes]); regression: numbers (samples, ...), where the last axis is the outputs.
        task: what the labels mean.
        where: what they are called in messages.

    Raises:
        DataError: wrong rank, dtype or values.
    """
    if task is Task.classification:
        return _class_numbers(labels, where)
    if task is Task.multilabel:
        return _many_classes(labels, where)
    return _numbers(labels, where)


def output_shape(source: SourceParts, task: Task) -> tuple[int, ...]:
    """Derives the shape of the model's output for one sample, as far as labels tell, and compares the parts.

    Args:
        source: parts with checked labels.
        task: what the labels mean.

    Returns:
        (classes,), (height, width, classes) for a class per pixel as it is stored, or the shape of a regression's
        labels.

    Raises:
        DataError: the labels of the parts don't fit together, there is only one class, or, where the source does not
            name its classes, a class number reaches both 1000 and the number of training samples.
    """
    labels = source.train.y
    for name, part in source.given():
        if part.y.shape != labels.shape:
            raise DataError(
                f"Labels of the {name} part have the shape {part.y.shape} per sample, those of the training part "
                f"{labels.shape}: all parts need the same."
            )
    if task is not Task.classification:
        return labels.shape
    return (*labels.shape, _count_classes(source))


def class_frequencies(labels: ArraySamples) -> dict[int, int]:
    """Returns how often each class number occurs, read chunk by chunk; classes that don't occur are absent."""
    found: dict[int, int] = {}
    for indices in chunks(len(labels), labels.shape, labels.dtype):
        numbers, counts = np.unique(labels.read(indices), return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            found[number] = found.get(number, 0) + count
    return found


def _class_numbers(labels: np.ndarray, where: str) -> ArraySamples:
    if labels.ndim in (2, 4) and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if labels.ndim not in (1, 3):
        hint = "; one-hot rows become class numbers with argmax, several classes at once need data.task=multilabel"
        raise DataError(
            f"{where} has the shape {labels.shape}; class numbers of shape (samples,), or (samples, height, width) "
            f"for each pixel, are needed{hint if labels.ndim == 2 else ''}."
        )
    if labels.dtype.kind not in "uib":
        hint = "; numbers to be predicted need data.task=regression" if labels.dtype.kind == "f" else ""
        raise DataError(f"{where} has the type {labels.dtype}; labels are whole class numbers (an integer type){hint}.")
    if labels.size and (lowest := extremes(labels)[0]) < 0:
        raise DataError(f"{where} holds the negative label {int(lowest)}; class numbers start at 0.")
    return ArraySamples(labels, np.dtype(np.int64))


def _many_classes(labels: np.ndarray, where: str) -> ArraySamples:
    if labels.ndim == 1:
        labels = labels[:, np.newaxis]
    if labels.ndim != 2:
        raise DataError(
            f"{where} has the shape {labels.shape}; data.task=multilabel needs 0 or 1 for each class: (samples, "
            "classes)."
        )
    if labels.dtype.kind not in "uifb":
        raise DataError(f"{where} has the type {labels.dtype}; data.task=multilabel needs 0 or 1 for each class.")
    for indices in chunks(len(labels), labels.shape[1:], labels.dtype):
        rows = labels[indices[0] : indices[-1] + 1]
        wrong = rows[(rows != 0) & (rows != 1)]
        if wrong.size:
            raise DataError(f"{where} holds the label {wrong[0]}; data.task=multilabel needs 0 or 1 for each class.")
    return ArraySamples(labels, np.dtype(np.float32))


def _numbers(labels: np.ndarray, where: str) -> ArraySamples:
    if labels.ndim == 0:
        raise DataError(f"{where} is a single number; data.task=regression needs (samples, ...).")
    if labels.dtype.kind not in "uif":
        raise DataError(f"{where} has the type {labels.dtype}; data.task=regression needs integers or floats.")
    refuse_not_finite(labels, where)
    return ArraySamples(labels[:, np.newaxis] if labels.ndim == 1 else labels, np.dtype(np.float32))


def _count_classes(source: SourceParts) -> int:
    if not source.class_names:
        _refuse_absurd_class(source.train)
    present = class_frequencies(source.train.y)
    largest = max(present)
    if len(present) < 2:
        raise DataError(f"All labels of the training part are {largest}: at least two classes are needed.")
    classes = len(source.class_names) if source.class_names else largest + 1
    for name, part in source.given():
        _refuse_unknown_class(part, name, classes)
    if len(present) < classes:
        example = next(number for number in range(classes) if number not in present)
        logger.warning(
            "The training part has no sample of %d of its %d classes (class numbers are 0...%d), such as class %d.",
            classes - len(present),
            classes,
            classes - 1,
            example,
        )
    return classes


def _refuse_absurd_class(train: Divisible) -> None:
    labels = train.y.array
    allowed = max(len(train), _MANY_CLASSES)
    position = int(np.argmax(labels)) // math.prod(labels.shape[1:])
    largest = int(np.max(labels[position]))
    if largest >= allowed:
        raise DataError(
            f"Labels of the training part hold the class number {largest} (sample {position}), but with {len(train)} "
            f"samples class numbers have to stay below {allowed}: number the classes from 0 without gaps; numbers to "
            "be predicted need data.task=regression."
        )


def _refuse_unknown_class(part: Divisible, name: str, classes: int) -> None:
    reached = int(extremes(part.y.array)[1])
    if reached >= classes:
        raise DataError(
            f"Labels of the {name} part reach {reached}, those of the training part only {classes - 1}: "
            "the training part has to hold every class."
        )
