"""Looking into a LiteRT file: every tensor of the network becomes an output, on the path that the file itself takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from qpipe.errors import ExportError
from qpipe.export.comparison import FileResults
from qpipe.export.litert.file import IDENTIFIER, SIGNATURE
from qpipe.export.litert.run import LoadedFile
from qpipe.export.litert.storage import stored
from qpipe.export.network import Network
from qpipe.integer.operator import Value
from qpipe.integer.operators import Quantize
from qpipe.numerics import QuantizedTensor


class LiteRtRunner:
    """Runs a LiteRT file as it is for its outputs, and a copy with more outputs for the tensors in between.

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
        except (ValueError, RuntimeError, KeyError, IndexError, TypeError) as error:
            raise ExportError(f"{path}: LiteRT can't load it: {str(error).splitlines()[0]}") from None
        self._network = network
        self._quantized = {
            step.inputs[0]: step.outputs[0] for step in network.program.steps if isinstance(step.operator, Quantize)
        }
        self._require_ends(path)

    def run(self, engine: Mapping[str, Value]) -> FileResults:
        """Runs file and copy on the inputs among the engine's tensors for one batch."""
        arrays = {name: self._input(engine, name) for name in self._file.inputs}
        outputs, tensors = self._file.run(arrays), self._copy.run(arrays)
        relative = {
            name: _relative(array, self._copy.outputs[name]).reshape(-1, *self._network.tensors[name].shape)
            for name, array in tensors.items()
        }
        return FileResults(relative, [self._output(outputs, name) for name in self._network.output_names])

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


def with_outputs(content: bytes, names: set[str]) -> bytes:
    """Returns a file in which the tensors of these names, as far as operators make them, are the only outputs."""
    model = schema.ModelT.InitFromPackedBuf(content)
    graph = model.subgraphs[0]
    made = sorted({index for operator in graph.operators for index in operator.outputs})
    named = {graph.tensors[index].name.decode(): index for index in made}
    outputs = {name: index for name, index in named.items() if name in names}
    graph.outputs = list(outputs.values())
    signature = next(entry for entry in model.signatureDefs if entry.signatureKey.decode() == SIGNATURE)
    signature.outputs = []
    for name, index in outputs.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        signature.outputs.append(entry)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _relative(array: np.ndarray, detail: dict) -> np.ndarray:
    """Stored integers less their zero point."""
    return array.astype(np.int64) - int(detail["quantization_parameters"]["zero_points"][0])
