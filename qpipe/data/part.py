"""The arrays that a data source gives, before any preprocessing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Part:
    """Images and labels of one part of a data set, as the source stores them.

    Attributes:
        x: images (samples, height, width, channels), uint8 or float32.
        y: class numbers (samples,), int64.
    """

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: np.ndarray) -> Part:
        """The samples at `indices`, in that order."""
        return Part(x=self.x[indices], y=self.y[indices])


@dataclass(frozen=True, kw_only=True)
class SourceParts:
    """What a source has; a part that is None is split off from `train`."""

    train: Part
    validation: Part | None = None
    test: Part | None = None
