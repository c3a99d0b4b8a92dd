"""What data and model have to agree on."""

from __future__ import annotations

from dataclasses import dataclass

from qpipe.config.schema import Task


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Shapes of one sample, as the data has them and the model must.

    Attributes:
        input_shape: of the model's input, such as (height, width, channels).
        output_shape: of the model's output, such as (classes,), or (height, width, classes) for a class per pixel.
        task: what the output means.
    """

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    task: Task = Task.classification

    @property
    def classes(self) -> int:
        """Number of classes; for a regression the number of values that are predicted."""
        return self.output_shape[-1]
