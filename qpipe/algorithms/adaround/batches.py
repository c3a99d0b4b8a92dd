"""What `sgd` draws its batches from: cached inputs and outputs of a layer, as many of them as fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from qpipe.algorithms.layerwise.sample_store import SampleStore, StoredArray

Batches = Callable[[np.ndarray], Iterator[tuple[np.ndarray, np.ndarray]]]

SHARE_OF_LIMIT = 4


class BatchSource:
    """Float outputs and quantized inputs of a layer, computed once.

    Where both do not fit into a quarter of the memory limit they are kept on disk, and every call of the compiled
    loop draws from another random part of the samples that does.

    Args:
        batches: yields inputs and outputs for sorted numbers of samples.
        chunk: samples that it yields at a time.
        store: keeps the arrays.
        indices: sorted numbers of the samples.
        seed: of the parts.
    """

    def __init__(self, batches: Batches, chunk: int, store: SampleStore, indices: np.ndarray, seed: int):
        self.batches, self.chunk = batches, chunk
        self.store, self.indices, self.seed = store, indices, seed
        self._arrays: list[StoredArray] = []
        self._part: tuple[np.ndarray, np.ndarray] | None = None

    def __enter__(self) -> BatchSource:
        self._arrays = self.store.fill(len(self.indices), self.chunk, self._pair)
        return self

    def __exit__(self, *exception) -> None:
        for array in self._arrays:
            self.store.release(array)

    def samples(self, first: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns inputs and targets for the call that begins with iteration `first`."""
        inputs, targets = (array.values for array in self._arrays)
        size = (inputs.nbytes + targets.nbytes) / len(self.indices)
        fitting = max(1, int(self.store.limit_bytes / SHARE_OF_LIMIT / size))
        if fitting >= len(self.indices):
            if self._part is None:
                self._part = np.asarray(inputs), np.asarray(targets)
            return self._part
        chosen = np.random.default_rng([self.seed, first]).choice(len(self.indices), fitting, replace=False)
        chosen.sort()
        return np.asarray(inputs[chosen]), np.asarray(targets[chosen])

    def _pair(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        return next(self.batches(self.indices[start:stop]))
