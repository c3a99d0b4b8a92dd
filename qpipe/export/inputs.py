"""The inputs of a file, whatever its format: integers, or real values with a quantization behind them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container
from typing import Any

from qpipe.config.export_schema import ExportIo
from qpipe.export.refusals import Refusal
from qpipe.integer.operators import Quantize
from qpipe.integer.operators.boundary import Preparation


class FileInputs(ABC):
    """Made while the network's quantizations of its inputs are written.

    Attributes:
        preparations: what has to be done to real values before they are quantized, where the file leaves it out.
    """

    def __init__(self, writer: Any, io: ExportIo):
        self.preparations: dict[str, Preparation] = {}
        self._writer = writer
        self._io = io

    @property
    @abstractmethod
    def _written(self) -> Container[str]:
        """The network's inputs that the file has already."""

    @abstractmethod
    def _from_real_values(self, operator: Quantize, call: Any, name: str) -> None:
        """Writes input `name`, if it is not there yet, as real values, and their quantization."""

    @abstractmethod
    def _from_integers(self, operator: Quantize, call: Any, name: str) -> None:
        """Writes input `name` as the integers that its quantization gives."""

    def write_quantize(self, operator: Quantize, call: Any) -> None:
        """Writes the quantization of an input.

        Raises:
            Refusal: if its tensor is no input of the network, or several quantizers read an input of integers.
        """
        name = call.step.inputs[0]
        if name not in self._writer.network.program.inputs:
            raise Refusal("it quantizes what a layer in float computes")
        if self._io is ExportIo.float:
            self._from_real_values(operator, call, name)
        elif name in self._written:
            raise Refusal(
                f"input {name!r} has several quantizers, a file of integers can have one: export with io=float"
            )
        else:
            self._from_integers(operator, call, name)
