"""What an algorithm did to one layer: one line of its report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerNote:
    """One layer.

    Attributes:
        name: of the layer, or of both layers of a pair.
        change: how much was changed, in the algorithm's own measure; None where nothing was.
        reason: why nothing was changed.
    """

    name: str
    change: float | None
    reason: str | None = None

    def summary(self, measure: str) -> str:
        """Returns one line; `measure` says what `change` is."""
        return f"{self.name}: {self.reason}" if self.change is None else f"{self.name}: {measure} {self.change:.4g}"
