"""Arrays that are collected sample by sample, and moved to a temporary file when they outgrow memory."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import IO

import numpy as np

from qpipe.data import samples
from qpipe.errors import DataError

logger = logging.getLogger("qpipe")

_SPARE_BYTES = 2**29
_WRITE_BYTES = 2**25


class GrowingArray:
    """Collects samples of one shape and type: in memory up to the limit, beyond it in a file without a name.

    The file vanishes with the process, however that ends.

    Args:
        folder: for the file; None takes the system's temporary folder.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = Path(tempfile.gettempdir()) if folder is None else folder
        self._pending: list[np.ndarray] = []
        self._pending_bytes = 0
        self._file: IO[bytes] | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, sample: np.ndarray) -> None:
        """Adds one sample.

        Raises:
            DataError: the disk is full, or nearly.
        """
        if self._count == 0:
            self._shape, self._dtype = sample.shape, sample.dtype
        self._count += 1
        self._pending.append(sample)
        self._pending_bytes += sample.nbytes
        if self._pending_bytes > (samples.LARGEST_IN_MEMORY if self._file is None else _WRITE_BYTES):
            self._write()

    def finish(self) -> np.ndarray:
        """Returns all samples: an array (samples, ...), or a read-only memory map of the file.

        Raises:
            DataError: the disk is full, or nearly.
        """
        if self._file is None:
            return np.stack(self._pending)
        self._write()
        self._file.flush()
        return np.memmap(self._file, self._dtype, mode="r", shape=(self._count, *self._shape))

    def _write(self) -> None:
        try:
            if self._file is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (lives as long as its memory map)
                logger.info("Samples that do not fit in memory are kept in a temporary file in %s.", self._folder)
            free = shutil.disk_usage(self._folder).free
            if free < self._pending_bytes + _SPARE_BYTES:
                raise DataError(
                    f"After {self._count} samples only {free // 2**20} MiB are free in {self._folder}, where the data "
                    "are kept because they don't fit in memory; free some space, or end the data with .take(n)."
                )
            for sample in self._pending:
                self._file.write(np.ascontiguousarray(sample).data)
        except OSError as error:
            raise DataError(
                f"Samples that don't fit in memory can't be written to {self._folder}: {error.strerror or error}."
            ) from None
        self._pending, self._pending_bytes = [], 0
