"""Arrays of all samples, in memory up to a budget and on disk beyond it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

MEGABYTE = 2**20


class StoredArray:
    """One array (samples, ...), in memory or as a file that is read through a memory map.

    Args:
        values: the array.
        path: its file; None where it is in memory.
        owned: whether it counts: samples that somebody else holds anyway don't.
    """

    def __init__(self, values: np.ndarray, path: Path | None, owned: bool = True):
        self.values = values
        self.path = path
        self.owned = owned

    @property
    def on_disk(self) -> bool:
        """Whether the array is a file."""
        return self.path is not None

    @property
    def bytes_in_memory(self) -> int:
        """What the array takes of the budget."""
        return 0 if self.on_disk or not self.owned else self.values.nbytes


class SampleStore:
    """Keeps layer inputs and outputs below a budget; what does not fit is written to temporary files.

    Attributes:
        peak_bytes: the most that was in memory at a time.
        spilled_bytes: the size of all that went to disk.

    Args:
        limit_bytes: the budget.
    """

    def __init__(self, limit_bytes: int):
        self.limit_bytes = limit_bytes
        self.peak_bytes = 0
        self.spilled_bytes = 0
        self._in_memory = 0
        self._folder: tempfile.TemporaryDirectory | None = None
        self._files = 0

    def keep(self, values: np.ndarray) -> StoredArray:
        """Takes an array that somebody else holds, without a copy."""
        return StoredArray(values, None, owned=False)

    def fill(
        self, samples: int, batch_size: int, batch: Callable[[int, int], Sequence[np.ndarray]]
    ) -> list[StoredArray]:
        """Stores what `batch(start, stop)` returns for all samples.

        Args:
            samples: number of all samples.
            batch_size: samples per call.
            batch: returns one or several arrays of the values of samples `start` to `stop`.

        Returns:
            As many stored arrays as `batch` returns.
        """
        first = batch(0, min(batch_size, samples))
        stored = [self._allocate((samples, *array.shape[1:]), array.dtype) for array in first]
        for start in range(0, samples, batch_size):
            stop = min(start + batch_size, samples)
            for target, values in zip(stored, batch(start, stop) if start else first, strict=True):
                target.values[start:stop] = values
        return stored

    def release(self, stored: StoredArray) -> None:
        """Gives an array's memory or file back."""
        self._in_memory -= stored.bytes_in_memory
        if stored.path is not None:
            stored.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Removes all files."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> SampleStore:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _allocate(self, shape, dtype) -> StoredArray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if self._in_memory + size <= self.limit_bytes:
            self._count(size)
            return StoredArray(np.empty(shape, dtype), None)
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="qpipe-")
        self._files += 1
        path = Path(self._folder.name) / f"{self._files}.npy"
        self.spilled_bytes += size
        return StoredArray(np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=tuple(shape)), path)

    def _count(self, size: int) -> None:
        self._in_memory += size
        self.peak_bytes = max(self.peak_bytes, self._in_memory)
