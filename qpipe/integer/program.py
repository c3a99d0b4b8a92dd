"""A quantized network as a list of operators on named tensors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from qpipe.errors import QuantizationError
from qpipe.integer.operator import Notes, Operator, Value


@dataclass(frozen=True)
class Step:
    """One operator: the layer that it comes from, and the names of the tensors that it reads and makes."""

    layer: str
    operator: Operator
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass
class Program:
    """The operators of a network in the order in which they run.

    Attributes:
        inputs: names of the input tensors.
        steps: the operators.
        outputs: names of the output tensors.
        notes: what each layer's operator saw since the program was made, by layer.
    """

    inputs: tuple[str, ...]
    steps: list[Step]
    outputs: tuple[str, ...]
    notes: dict[str, Notes] = field(default_factory=dict)

    def run(self, inputs: Iterable[np.ndarray], *, keep: bool = False) -> dict[str, Value]:
        """Runs the program on one batch.

        Args:
            inputs: one float32 array (batch, ...) for each input.
            keep: whether every tensor is returned, or the outputs alone.

        Returns:
            Tensors by name.
        """
        tensors: dict[str, Value] = dict(zip(self.inputs, inputs, strict=True))
        left = self._reads()
        for step in self.steps:
            notes = self.notes.setdefault(step.layer, Notes())
            try:
                results = step.operator(*(tensors[name] for name in step.inputs), notes=notes)
            except QuantizationError as error:
                raise QuantizationError(f"layer {step.layer!r}: {error}") from None
            made = results if isinstance(results, list) else [results]
            tensors.update(zip(step.outputs, made, strict=True))
            for name in step.inputs:
                left[name] -= 1
                if not left[name] and not keep:
                    tensors.pop(name, None)
        return tensors if keep else {name: tensors[name] for name in self.outputs}

    def _reads(self) -> dict[str, int]:
        """How often each tensor is still to be read; outputs once more."""
        left = dict.fromkeys(self.outputs, 1)
        for step in self.steps:
            for name in step.inputs:
                left[name] = left.get(name, 0) + 1
        return left
