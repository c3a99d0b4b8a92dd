"""What a file format can't express: gathered, and reported together before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from qpipe.errors import ExportError


class Refusal(Exception):  # noqa: N818
    """One thing that a format can't express; the message says what, why and what would be allowed."""


class Refusals:
    """Gathers refusals, one sentence for each layer."""

    def __init__(self):
        self.sentences: list[str] = []

    @contextmanager
    def of_layer(self, layer: str) -> Iterator[None]:
        """Takes note of a refusal inside of the block and goes on behind it."""
        try:
            yield
        except Refusal as refusal:
            self.sentences.append(f"layer {layer!r}: {refusal}")

    def raise_if_any(self, target: str) -> None:
        """Raises one error that names everything that was refused.

        Args:
            target: what can't be written, such as `a LiteRT file`.

        Raises:
            ExportError: if there were refusals.
        """
        if self.sentences:
            raise ExportError(f"{target} can't express this model, nothing was written: {'; '.join(self.sentences)}")
