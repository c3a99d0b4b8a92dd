"""What is known of a file that was exported."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from qpipe.export.comparison import FileComparison
from qpipe.lowering.verification import TensorComparison


@dataclass(frozen=True)
class Bound:
    """How far a file may be from the integer engine, by what is documented about its kernels.

    Attributes:
        layer: largest share of integers that a layer makes otherwise, given the same inputs; one value is always free.
        lsb: by how much at most.
        output: largest share of the outputs' integers that differ, by at most as much; None where layers may add up
            and amplify their differences without a bound.
        reason: why they differ at all.
    """

    layer: float
    lsb: int
    output: float | None
    reason: str

    def is_kept(self, comparison: FileComparison) -> bool:
        """Whether a comparison lies inside."""
        layers = comparison.isolated or comparison.tensors
        kept = all(self._keeps(tensor, self.layer) for tensor in layers.values())
        if self.output is None:
            return kept
        return kept and all(self._keeps(tensor, self.output) for tensor in comparison.outputs.values())

    def describe(self) -> str:
        """Returns the bound as a part of a sentence."""
        outputs = "" if self.output is None else f", {self.output:.2%} at the outputs"
        return f"{self.layer:.3%} of a layer's integers{outputs}, by {self.lsb} LSB: {self.reason}"

    def _keeps(self, tensor: TensorComparison, rate: float) -> bool:
        return tensor.differing <= math.ceil(rate * tensor.values) and tensor.largest_lsb <= self.lsb


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written.

    Attributes:
        path: of the file.
        bytes: its size.
        operators: names of the format's operators that it uses.
        peak_activation_bytes: memory of the activations of one sample, where operators run one after the other and a
            tensor is freed after its last reader; None where the format does not say.
        float_bytes: size of the same file with its quantized constants in float32; None where nobody asks for it.
        bound: how far it may be from the engine.
        notes: what should be known about it, one sentence each.
        warnings: what it may compute otherwise than the integer engine, one sentence each.
    """

    path: Path
    bytes: int
    operators: tuple[str, ...]
    peak_activation_bytes: int | None
    float_bytes: int | None
    bound: Bound
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
