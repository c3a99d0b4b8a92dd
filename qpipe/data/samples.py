"""Samples of one part as a source stores them: an array in memory, a memory-mapped file, or files of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

LARGEST_IN_MEMORY = 2**30
"""Bytes up to which what is made of a part is kept in memory; larger parts are read batch by batch."""

_CHUNK_BYTES = 2**25


class Samples(Protocol):
    """Samples that are read by their number, a few at a time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""

    @property
    def dtype(self) -> np.dtype:
        """Type of what `read` returns."""

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> Samples:
        """The samples at `indices`, in that order, without reading them."""

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Reads the samples at `indices` (count,): an array (count, *shape)."""

    def tensor(self, indices: tf.Tensor) -> tf.Tensor:
        """What `read` returns, inside a TensorFlow graph."""

    def update_digest(self, digest: Any) -> None:
        """Adds content and order of the samples to a `hashlib` digest."""


@dataclass(frozen=True)
class ArraySamples:
    """Rows of an array, which may be a memory map; a choice of them copies nothing.

    Attributes:
        array: (rows, ...).
        dtype: to which rows are converted when they are read.
        rows: which rows; None takes all.
    """

    array: np.ndarray
    dtype: np.dtype
    rows: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.array.shape[1:]

    def __len__(self) -> int:
        return len(self.array if self.rows is None else self.rows)

    def take(self, indices: np.ndarray) -> ArraySamples:
        """The samples at `indices`, in that order; nothing is copied."""
        return ArraySamples(self.array, self.dtype, indices if self.rows is None else self.rows[indices])

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Reads the samples at `indices` (count,): an array (count, *shape)."""
        rows = indices if self.rows is None else self.rows[indices]
        return np.asarray(self.array[rows]).astype(self.dtype, copy=False)

    def tensor(self, indices: tf.Tensor) -> tf.Tensor:
        """What `read` returns, inside a TensorFlow graph."""
        import tensorflow as tf

        batch = tf.numpy_function(self.read, [indices], tf.as_dtype(self.dtype), stateful=False)
        return tf.ensure_shape(batch, (None, *self.shape))

    def update_digest(self, digest: Any) -> None:
        """Adds content and order of the samples to a digest; the rows are read in stored order."""
        digest.update(f"{self.dtype.str}{(len(self), *self.shape)}".encode())
        order = np.arange(len(self)) if self.rows is None else np.argsort(self.rows, kind="stable")
        digest.update(order.astype("<i8").tobytes())
        for indices in chunks(len(self), self.shape, self.dtype):
            digest.update(np.ascontiguousarray(self.read(order[indices])).data)


def read_all(samples: Samples) -> np.ndarray:
    """Reads all samples: an array (samples, *shape)."""
    return samples.read(np.arange(len(samples)))


def transformed(
    samples: Samples, transform: Callable[[Any], Any], shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    """Reads all samples chunk by chunk and transforms each chunk.

    Args:
        samples: what is read.
        transform: from an array (count, *samples.shape) to an array or tensor (count, *shape).
        shape: of a transformed sample.
        dtype: of the result.

    Returns:
        An array (samples, *shape).
    """
    result = np.empty((len(samples), *shape), dtype)
    for indices in chunks(len(samples), shape, dtype):
        result[indices] = np.asarray(transform(samples.read(indices)))
    return result


def chunks(count: int, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[np.ndarray]:
    """Numbers 0...count-1 in runs of about 32 MiB of samples of the given shape."""
    length = max(1, _CHUNK_BYTES // max(1, nbytes(1, shape, dtype)))
    for start in range(0, count, length):
        yield np.arange(start, min(start + length, count))


def nbytes(count: int, shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Bytes of `count` samples."""
    return count * math.prod(shape) * np.dtype(dtype).itemsize


def fits_in_memory(count: int, shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether `count` samples stay below the limit of what is kept in memory."""
    return nbytes(count, shape, dtype) <= LARGEST_IN_MEMORY
