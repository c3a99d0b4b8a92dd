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


class OnnxRunner:
    """Runs an ONNX file as it is for its outputs, and a copy with more outputs for the tensors in between.

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
            copy, self._shown = with_outputs(content, network)
            self._file, self._copy = load(content, optimize=optimize), load(copy, optimize=optimize)
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
        names = list(self._shown) if inside else []
        tensors = {}
        for name, array in zip(names, self._copy.run(names, arrays) if names else [], strict=True):
            tensor, first = self._shown[name]
            tensors[tensor] = _relative(np.moveaxis(array, 1, -1) if first else array, self._format(tensor))
        return FileResults(tensors, outputs)

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


def with_outputs(content: bytes, network: Network) -> tuple[bytes, Shown]:
    """Returns a file whose outputs are the quantized tensors of a network that nodes make, and which is which."""
    model = onnx.load_from_string(content)
    made = {name for node in model.graph.node for name in node.output}
    shown: Shown = {}
    del model.graph.output[:]
    for name, tensor in network.tensors.items():
        for suffix in (CHANNELS_FIRST, CHANNELS_LAST):
            if tensor.format is not None and name + suffix in made:
                shown[name + suffix] = name, suffix == CHANNELS_FIRST
                dtype = TYPES[dtype_of(tensor.format)]
                model.graph.output.append(onnx.helper.make_tensor_value_info(name + suffix, dtype, None))
                break
    return model.SerializeToString(), shown


def _relative(stored: np.ndarray, target: QuantizedFormat) -> np.ndarray:
    """Stored integers less their zero point."""
    return stored.astype(np.int64) + target.storage_offset - target.zero_point
