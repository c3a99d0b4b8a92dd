"""What is known of a file that was exported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written.

    Attributes:
        path: of the file.
        bytes: its size.
        operators: names of the format's operators that it uses.
        peak_activation_bytes: memory of the activations of one sample, where operators run one after the other and a
            tensor is freed after its last reader.
        notes: what should be known about it, one sentence each.
        warnings: what it may compute otherwise than the integer engine, one sentence each.
    """

    path: Path
    bytes: int
    operators: tuple[str, ...]
    peak_activation_bytes: int
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
