"""What is known of a file that was exported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qpipe.export.comparison import FileComparison


@dataclass(frozen=True)
class Bound:
    """How far a file's outputs may be from the integer engine's, by what is documented about its kernels.

    Attributes:
        mismatch_rate: largest share of the outputs' integers that differ.
        largest_lsb: largest difference.
        reason: why they differ at all.
    """

    mismatch_rate: float
    largest_lsb: int
    reason: str

    def is_kept(self, comparison: FileComparison) -> bool:
        """Whether a comparison lies inside."""
        return comparison.mismatch_rate <= self.mismatch_rate and comparison.largest_lsb <= self.largest_lsb


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written.

    Attributes:
        path: of the file.
        bytes: its size.
        operators: names of the format's operators that it uses.
        peak_activation_bytes: memory of the activations of one sample, where operators run one after the other and a
            tensor is freed after its last reader; None where the format does not say.
        bound: how far its outputs may be from the engine's.
        notes: what should be known about it, one sentence each.
        warnings: what it may compute otherwise than the integer engine, one sentence each.
    """

    path: Path
    bytes: int
    operators: tuple[str, ...]
    peak_activation_bytes: int | None
    bound: Bound
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
