"""Turns a finite `tf.data.Dataset` into arrays, so that order, splits and resuming work as for any other source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from qpipe.config.schema import Task
from qpipe.data.growing_array import GrowingArray
from qpipe.errors import DataError
from qpipe.first_sentence import first_sentence


def collected(
    stream: tf.data.Dataset, *, images: bool, task: Task, scratch: Path | None, source: str
) -> tuple[Any, Any]:
    """Reads a stream of single samples (x, y) to its end.

    Args:
        stream: finite; all x have one shape and type, and all y.
        images: whether x are images, which tells batches from samples.
        task: what y means, which tells batches from samples where x are no images.
        scratch: folder for arrays that outgrow memory.
        source: where the stream comes from, for messages.

    Returns:
        (x, y): arrays or memory maps (samples, ...).

    Raises:
        DataError: the stream is endless, empty, batched, or its elements are not alike.
    """
    if int(stream.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise DataError(f"The tf.data.Dataset {source} is endless (repeat() without a count); a finite one is needed.")
    _check_elements(stream.element_spec, images=images, task=task, source=source)
    x, y = GrowingArray(scratch), GrowingArray(scratch)
    first: tuple[np.ndarray, np.ndarray] | None = None
    try:
        for sample, label in stream.as_numpy_iterator():
            sample, label = np.asarray(sample), np.asarray(label)
            first = first or (sample, label)
            _check_alike(sample, first[0], "x", len(x), images=images, source=source)
            _check_alike(label, first[1], "y", len(y), images=images, source=source)
            x.append(sample)
            y.append(label)
    except (tf.errors.OpError, TypeError, ValueError) as error:
        raise DataError(
            f"Reading the tf.data.Dataset {source} raised {type(error).__name__}: {first_sentence(error)}."
        ) from error
    if first is None:
        raise DataError(f"The tf.data.Dataset {source} is empty.")
    return x.finish(), y.finish()


def _check_elements(spec: Any, *, images: bool, task: Task, source: str) -> None:
    if isinstance(spec, tuple) and len(spec) == 2 and all(isinstance(item, tf.TensorSpec) for item in spec):
        if images and spec[0].shape.rank is not None and spec[0].shape.rank >= 4:
            raise _batched(source, f"x of the shape {tuple(spec[0].shape)}")
        if not images and task is Task.classification and _is_batch(spec[0].shape, spec[1].shape):
            raise _batched(source, f"x of the shape {tuple(spec[0].shape)}, y of the shape {tuple(spec[1].shape)}")
        return
    received = sorted(spec) if isinstance(spec, dict) else spec
    raise DataError(f"Elements of the tf.data.Dataset {source} are {received}; pairs of tensors (x, y) are needed.")


def _is_batch(x: tf.TensorShape, y: tf.TensorShape) -> bool:
    """Whether y is a class for each row of x, rather than for x as a whole or one-hot."""
    if x.rank is None or y.rank is None or x.rank < 2:
        return False
    return y[0] == x[0] != 1 if y.rank == 1 or (y.rank == 2 and y[1] == 1) else False


def _check_alike(value: np.ndarray, first: np.ndarray, name: str, number: int, *, images: bool, source: str) -> None:
    if images and name == "x" and value.ndim >= 4:
        raise _batched(source, f"x of the shape {value.shape}")
    if value.shape != first.shape or value.dtype != first.dtype:
        hint = (
            "; batches become samples with .unbatch()"
            if value.shape[1:] == first.shape[1:] and value.ndim
            else "; all need the same"
        )
        raise DataError(
            f"Element {number} of the tf.data.Dataset {source} has {name} of the shape {value.shape} and type "
            f"{value.dtype}, the first one {first.shape} and {first.dtype}{hint}."
        )


def _batched(source: str, received: str) -> DataError:
    return DataError(
        f"The tf.data.Dataset {source} gives batches ({received}); single samples are needed: append .unbatch()."
    )
