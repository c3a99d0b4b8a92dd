"""What a data source gives, before any preprocessing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from qpipe.data.samples import ArraySamples, Samples


class Divisible(Protocol):
    """Samples with labels, of which a choice can be taken."""

    @property
    def y(self) -> ArraySamples:
        """Labels."""

    def __len__(self) -> int: ...

    def take(self: AnyPart, indices: np.ndarray) -> AnyPart:
        """The samples at `indices`, in that order."""


AnyPart = TypeVar("AnyPart", bound=Divisible)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Samples and labels of one part of a data set, as the source stores them.

    Attributes:
        x: uint8 or float32 samples; images are (height, width, channels).
        y: labels: int64 class numbers of shape () or (height, width), else float32.
    """

    x: Samples
    y: ArraySamples

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: np.ndarray) -> Part:
        """The samples at `indices`, in that order; nothing is read."""
        return Part(x=self.x.take(indices), y=self.y.take(indices))


@dataclass(frozen=True, kw_only=True)
class SourceParts(Generic[AnyPart]):
    """What a source has; a part that is None is split off from `train`.

    Attributes:
        train: training part.
        validation: validation part.
        test: test part.
        class_names: one per class, where the source knows them.
    """

    train: AnyPart
    validation: AnyPart | None = None
    test: AnyPart | None = None
    class_names: tuple[str, ...] | None = None

    def given(self) -> Iterator[tuple[str, AnyPart]]:
        """Name and part of each part that the source has."""
        yield "training", self.train
        if self.validation is not None:
            yield "validation", self.validation
        if self.test is not None:
            yield "test", self.test
