"""Running ONNX files in ONNX Runtime, and looking at the tensors in between."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from qpipe.errors import ExportError
from qpipe.export.comparison import FileResults
from qpipe.export.network import Network
from qpipe.export.onnx.graph import CHANNELS_FIRST, CHANNELS_LAST, TYPES
from qpipe.export.onnx.storage import dtype_of
from qpipe.integer.operator import Value
from qpipe.integer.operators import Quantize
from qpipe.numerics import QuantizedFormat, QuantizedTensor

Shown = dict[str, tuple[str, bool]]
"""For the name of a tensor in the file that of the network's tensor, and whether its channels come first."""


GIVEN = "/given"
"""What follows the name of a tensor that a copy of the file takes instead of computing it."""


class OnnxRunner:
    """Runs an ONNX file as it is for its outputs, and two copies for the tensors in between.

    One copy has more outputs; in the other one, each layer is given the engine's integers too.

    Args:
        network: what the file was written of.
        path: of the file.
        optimize: whether the runtime may fuse operators, as it does by default.

    Raises:
        ExportError: if it can't be loaded, or has other inputs or outputs than the network.
    """

    def __init__(self, network: Network, path: Path, *, optimize: bool = True):
        content = path.read_bytes()
        try:
            self._shown = shown_tensors(content, network)
            copies = with_outputs(content, network, self._shown), with_inputs(content, network, self._shown)
            self._file, self._copy, self._cut = (load(part, optimize=optimize) for part in (content, *copies))
        except Exception as error:  # protobuf, onnx and the runtime have errors of their own, without a common class
            raise ExportError(f"{path}: ONNX Runtime can't load it: {str(error).splitlines()[0]}") from None
        self._network = network
        self._quantized = {
            step.inputs[0]: step.outputs[0] for step in network.program.steps if isinstance(step.operator, Quantize)
        }
        self._require_ends(path)

    def run(self, engine: Mapping[str, Value], *, inside: bool = True) -> FileResults:
        """Runs the file on one batch, and its copy where that is wanted; see `FileRunner`."""
        arrays = {entry.name: self._input(engine, entry) for entry in self._file.get_inputs()}
        results = self._file.run(list(self._network.output_names), arrays)
        outputs = [self._output(*pair) for pair in zip(self._network.program.outputs, results, strict=True)]
        if not inside or not self._shown:
            return FileResults({}, outputs)
        taken = {entry.name for entry in self._cut.get_inputs()}
        given = {name + GIVEN: self._stored(engine, name) for name in self._shown if name + GIVEN in taken}
        read = {name: array for name, array in arrays.items() if name in taken}
        return FileResults(self._inside(self._copy, arrays), outputs, self._inside(self._cut, read | given))

    def _inside(self, session: onnxruntime.InferenceSession, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The integers of all shown tensors relative to their zero points, channels last."""
        results = zip(self._shown.values(), session.run(list(self._shown), arrays), strict=True)
        return {
            tensor: _relative(np.moveaxis(array, 1, -1) if first else array, self._format(tensor))
            for (tensor, first), array in results
        }

    def _stored(self, engine: Mapping[str, Value], name: str) -> np.ndarray:
        """The engine's integers of a shown tensor as the file stores them."""
        tensor, first = self._shown[name]
        value = engine[tensor]
        assert isinstance(value, QuantizedTensor)
        stored = (value.integers - value.format.storage_offset).astype(dtype_of(value.format))
        return np.moveaxis(stored, -1, 1) if first else stored

    def _input(self, engine: Mapping[str, Value], entry: onnxruntime.NodeArg) -> np.ndarray:
        """A float input as it is, or the integers of its quantization as they are stored."""
        value = engine[entry.name if entry.type == "tensor(float)" else self._quantized[entry.name]]
        if not isinstance(value, QuantizedTensor):
            return value.astype(np.float32)
        return (value.integers - value.format.storage_offset).astype(dtype_of(value.format))

    def _output(self, name: str, array: np.ndarray) -> np.ndarray:
        """The integers relative to the zero point of an output, also of one with real values."""
        target = self._format(name)
        if array.dtype == np.float32:
            return np.rint(array / target.scale).astype(np.int64)
        return _relative(array, target)

    def _format(self, name: str) -> QuantizedFormat:
        target = self._network.tensors[name].format
        assert target is not None
        return target

    def _require_ends(self, path: Path) -> None:
        ends = self._file.get_inputs(), self._file.get_outputs()
        inputs, outputs = (sorted(entry.name for entry in entries) for entries in ends)
        known, expected = sorted(self._network.program.inputs), sorted(self._network.output_names)
        if outputs != expected or not set(inputs) <= set(known):
            raise ExportError(
                f"{path} has the inputs {inputs} and the outputs {outputs}; the model's are {known} and {expected}"
            )


def load(content: bytes, *, optimize: bool = True, threads: int = 1) -> onnxruntime.InferenceSession:
    """Loads a file for the processor.

    Args:
        content: of the file.
        optimize: whether the runtime may fuse operators.
        threads: of the runtime.
    """
    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def shown_tensors(content: bytes, network: Network) -> Shown:
    """Returns the quantized tensors of a network that nodes of its file make."""
    made = {name for node in onnx.load_from_string(content).graph.node for name in node.output}
    shown: Shown = {}
    for name, tensor in network.tensors.items():
        suffix = next((suffix for suffix in (CHANNELS_FIRST, CHANNELS_LAST) if name + suffix in made), None)
        if tensor.format is not None and suffix is not None:
            shown[name + suffix] = name, suffix == CHANNELS_FIRST
    return shown


def with_outputs(content: bytes, network: Network, shown: Shown) -> bytes:
    """Returns a file whose outputs are the shown tensors."""
    model = onnx.load_from_string(content)
    del model.graph.output[:]
    model.graph.output.extend(_described(name, network, shown, name) for name in shown)
    return model.SerializeToString()


def with_inputs(content: bytes, network: Network, shown: Shown) -> bytes:
    """Returns a file that makes each shown tensor, as an output, of others that it takes as inputs."""
    model = onnx.load_from_string(with_outputs(content, network, shown))
    read = set()
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name in shown:
                node.input[index] = name + GIVEN
                read.add(name)
    model.graph.input.extend(_described(name + GIVEN, network, shown, name) for name in shown if name in read)
    return model.SerializeToString()


def _described(name: str, network: Network, shown: Shown, tensor: str) -> onnx.ValueInfoProto:
    target = network.tensors[shown[tensor][0]].format
    assert target is not None
    return onnx.helper.make_tensor_value_info(name, TYPES[dtype_of(target)], None)


def _relative(stored: np.ndarray, target: QuantizedFormat) -> np.ndarray:
    """Stored integers less their zero point."""
    return stored.astype(np.int64) + target.storage_offset - target.zero_point
