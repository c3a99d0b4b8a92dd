"""How a file's integers compare with the integer engine's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from qpipe.integer.operator import Value
from qpipe.lowering.verification import TensorComparison


@dataclass(frozen=True, eq=False)
class FileResults:
    """What a file computed for one batch.

    Attributes:
        tensors: integers relative to the zero point, by the name of the engine's tensor; those that the file shows.
        outputs: likewise, for every output of the model in its order.
        isolated: likewise, where each layer is given the engine's tensors: what it does by itself.
    """

    tensors: Mapping[str, np.ndarray]
    outputs: list[np.ndarray]
    isolated: Mapping[str, np.ndarray] = field(default_factory=dict)


class FileRunner(Protocol):
    """Runs a file of some format."""

    def run(self, engine: Mapping[str, Value], *, inside: bool = True) -> FileResults:
        """Runs the file on one batch.

        Args:
            engine: the engine's tensors, those of the inputs among them.
            inside: whether tensors between inputs and outputs are wanted, for which the engine has to have all.
        """


@dataclass
class FileComparison:
    """A file against the integer engine.

    Attributes:
        samples: how many were compared.
        outputs: comparison of each output, by the model's name for it.
        tensors: of every tensor that the file shows, in the order in which the engine computes them; differences of
            the layers before included.
        isolated: of the same tensors, each layer given the engine's integers.
        predictions: real values of each output, as the file gives them: (samples, ...).
    """

    samples: int = 0
    outputs: dict[str, TensorComparison] = field(default_factory=dict)
    tensors: dict[str, TensorComparison] = field(default_factory=dict)
    isolated: dict[str, TensorComparison] = field(default_factory=dict)
    predictions: list[np.ndarray] = field(default_factory=list)

    @property
    def mismatch_rate(self) -> float:
        """Share of the integers of all outputs that differ."""
        values = sum(output.values for output in self.outputs.values())
        return sum(output.differing for output in self.outputs.values()) / values if values else 0.0

    @property
    def largest_lsb(self) -> int:
        """Largest difference at an output."""
        return max((output.largest_lsb for output in self.outputs.values()), default=0)

    @property
    def layer_mismatch_rate(self) -> float:
        """The largest share of one layer's integers that it computes otherwise than the engine from the same inputs."""
        compared = self.isolated or self.tensors
        return max((tensor.mismatch_rate for tensor in compared.values()), default=0.0)

    @property
    def differing_layers(self) -> list[str]:
        """The layers that compute other integers than the engine from the same inputs."""
        return [name for name, tensor in self.isolated.items() if tensor.differing]

    @property
    def first_difference(self) -> str | None:
        """The first layer in which file and engine part, if any."""
        return next((name for name, tensor in self.tensors.items() if tensor.differing), None)

    def summary(self) -> str:
        """Returns one sentence for the terminal."""
        compared = f"{self.samples} samples, {len(self.tensors)} tensors"
        if self.first_difference is None and not self.largest_lsb:
            return f"{compared}: the file computes the very same integers as the integer engine"
        where = "" if self.first_difference is None else f"; they part first in {self.first_difference!r}"
        return (
            f"{compared}: {self.mismatch_rate:.3%} of the output's integers differ from the integer engine's, by at "
            f"most {self.largest_lsb} LSB{where}; by itself the worst layer makes {self.layer_mismatch_rate:.3%}"
        )
