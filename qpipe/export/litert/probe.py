"""Looking into a LiteRT file, on the path that the file itself takes: tensors in between become outputs, or inputs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from qpipe.errors import ExportError
from qpipe.export.comparison import FileResults
from qpipe.export.litert.file import IDENTIFIER, SIGNATURE, tensor_maps
from qpipe.export.litert.run import LoadedFile
from qpipe.export.litert.storage import stored
from qpipe.export.network import Network
from qpipe.integer.operator import Value
from qpipe.integer.operators import Quantize
from qpipe.numerics import QuantizedTensor


class LiteRtRunner:
    """Runs a LiteRT file for its outputs, and copies of it for the tensors in between.

    One copy has all of them as outputs. In another every layer reads the engine's integers instead of what the layers
    before have made of them.

    Args:
        network: what the file was written of.
        path: of the file.

    Raises:
        ExportError: if it can't be loaded, or has other inputs or outputs than the network.
    """

    def __init__(self, network: Network, path: Path):
        content = path.read_bytes()
        shown = {name for name, tensor in network.tensors.items() if tensor.format is not None}
        try:
            self._file = LoadedFile(content)
            self._copy = LoadedFile(with_outputs(content, shown))
            self._apart = LoadedFile(with_outputs(content, shown, apart=True))
        except (ValueError, RuntimeError, KeyError, IndexError, TypeError) as error:
            raise ExportError(f"{path}: LiteRT can't load it: {str(error).splitlines()[0]}") from None
        self._network, self._path = network, path
        self._quantized = {
            step.inputs[0]: step.outputs[0] for step in network.program.steps if isinstance(step.operator, Quantize)
        }
        self._require_ends(path)

    def run(self, engine: Mapping[str, Value], *, inside: bool = True) -> FileResults:
        """Runs the file on one batch, and its copies where they are wanted; see `FileRunner`.

        Raises:
            ExportError: if LiteRT has no kernel for what the file asks.
        """
        try:
            return self._run(engine, inside)
        except RuntimeError as error:
            raise ExportError(f"{self._path}: LiteRT can't run it: {str(error).splitlines()[0]}") from None

    def _run(self, engine: Mapping[str, Value], inside: bool) -> FileResults:
        arrays = {name: self._input(engine, name) for name in self._file.inputs}
        results = self._file.run(arrays)
        outputs = [self._output(results, name) for name in self._network.output_names]
        if not inside:
            return FileResults({}, outputs)
        given = {name: self._stored(engine, name) for name in self._apart.inputs if name not in arrays}
        return FileResults(
            self._tensors(self._copy, arrays),
            outputs,
            self._tensors(self._apart, arrays | given),
        )

    def _tensors(self, copy: LoadedFile, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {
            name: _relative(array, copy.outputs[name]).reshape(-1, *self._network.tensors[name].shape)
            for name, array in copy.run(arrays).items()
        }

    def _stored(self, engine: Mapping[str, Value], name: str) -> np.ndarray:
        """The engine's integers as the file stores them, in the shape that it gives them."""
        detail, value = self._apart.inputs[name], engine[name.removeprefix(GIVEN)]
        assert isinstance(value, QuantizedTensor)
        stored_integers = value.centred + int(detail["quantization_parameters"]["zero_points"][0])
        return stored_integers.astype(detail["dtype"]).reshape(-1, *detail["shape"][1:])

    def _input(self, engine: Mapping[str, Value], name: str) -> np.ndarray:
        """A float input as it is, or the integers of its quantization as they are stored."""
        dtype = np.dtype(self._file.inputs[name]["dtype"])
        value = engine[name if dtype == np.float32 else self._quantized[name]]
        if not isinstance(value, QuantizedTensor):
            return value.astype(dtype)
        return (value.integers - stored(value.format, dtype.name).offset).astype(dtype)

    def _output(self, outputs: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        """The integers relative to the zero point of an output, also of one with real values."""
        array = outputs[name]
        if array.dtype == np.float32:
            position = self._network.output_names.index(name)
            target = self._network.tensors[self._network.program.outputs[position]].format
            assert target is not None
            return np.rint(array / target.scale).astype(np.int64)
        return _relative(array, self._file.outputs[name])

    def _require_ends(self, path: Path) -> None:
        given = [sorted(self._file.inputs), sorted(self._file.outputs)]
        model = [sorted(self._network.program.inputs), sorted(self._network.output_names)]
        if given[1] != model[1] or not set(given[0]) <= set(model[0]):
            raise ExportError(
                f"{path} has the inputs {given[0]} and the outputs {given[1]}; the model has {model[0]} and {model[1]}"
            )


GIVEN = "given/"
"""How inputs are called that stand for a tensor in between."""


def with_outputs(content: bytes, names: set[str], *, apart: bool = False) -> bytes:
    """Returns a file in which the tensors of these names, as far as operators make them, are the only outputs.

    Args:
        content: of the file.
        names: of tensors.
        apart: whether operators read further inputs, `given/<name>`, in the place of these tensors.
    """
    model = schema.ModelT.InitFromPackedBuf(content)
    graph = model.subgraphs[0]
    made = sorted({index for operator in graph.operators for index in operator.outputs})
    named = {graph.tensors[index].name.decode(): index for index in made}
    outputs = {name: index for name, index in named.items() if name in names}
    graph.outputs = list(outputs.values())
    signature = next(entry for entry in model.signatureDefs if entry.signatureKey.decode() == SIGNATURE)
    signature.outputs = tensor_maps(outputs)
    if apart:
        given = {GIVEN + name: _stand_in(graph, index) for name, index in outputs.items() if _is_read(graph, index)}
        graph.inputs = [*graph.inputs, *given.values()]
        signature.inputs = [*signature.inputs, *tensor_maps(given)]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _is_read(graph: schema.SubGraphT, index: int) -> bool:
    return any(index in operator.inputs for operator in graph.operators)


def _stand_in(graph: schema.SubGraphT, index: int) -> int:
    """Adds a tensor of the same kind and lets operators read it instead; returns its position."""
    graph.tensors.append(copy.copy(graph.tensors[index]))
    position = len(graph.tensors) - 1
    for operator in graph.operators:
        operator.inputs = [position if i == index else i for i in operator.inputs]
    return position


def _relative(array: np.ndarray, detail: dict) -> np.ndarray:
    """Stored integers less their zero point."""
    return array.astype(np.int64) - int(detail["quantization_parameters"]["zero_points"][0])
