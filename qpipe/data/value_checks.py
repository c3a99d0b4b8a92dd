"""Extremes of arrays that may be larger than memory, read in stored order and a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qpipe.data.samples import chunks
from qpipe.errors import DataError


def refuse_not_finite(array: np.ndarray, where: str) -> None:
    """Refuses NaN and infinity in an array (samples, ...).

    Args:
        array: any number type; a memory map is read chunk by chunk.
        where: what it is called in the message.

    Raises:
        DataError: names how many there are.
    """
    if array.dtype.kind != "f":
        return
    count = sum(int((~np.isfinite(rows)).sum()) for rows in _chunks(array))
    if count:
        raise DataError(f"{where} holds {count} values that are NaN or infinite.")


def extremes(array: np.ndarray) -> tuple[float, float]:
    """Returns the least and the largest value of an array (samples, ...) that is not empty."""
    pairs = [(float(rows.min()), float(rows.max())) for rows in _chunks(array)]
    return min(low for low, _ in pairs), max(high for _, high in pairs)


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    for indices in chunks(len(array), array.shape[1:], array.dtype):
        yield array[indices[0] : indices[-1] + 1]
