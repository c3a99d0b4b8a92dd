"""Running an exported file and comparing it with the integer engine, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from qpipe.errors import ExportError, nearest
from qpipe.export.comparison import FileComparison, FileResults, FileRunner
from qpipe.export.network import Network, network_of
from qpipe.integer import Program
from qpipe.integer.operator import Value
from qpipe.integer.operators import Quantize
from qpipe.lowering.verification import TensorComparison
from qpipe.numerics import QuantizedTensor
from qpipe.sample_batches import arrays_of

BATCH_SIZE = 64


def verify(model: keras.Model, path: str | Path, x: Any, *, batch_size: int = BATCH_SIZE) -> FileComparison:
    """Runs an exported file, and compares every tensor that it shows with the integer engine's.

    Args:
        model: the quantized model that was exported.
        path: of the file; its ending says which format it has.
        x: (samples, ...) float inputs as the model takes them; for several inputs the structure that the model takes.
        batch_size: samples per step.

    Returns:
        Share and size of the differences at the outputs and in every layer, and the file's outputs.

    Raises:
        ExportError: if the file can't be read, has another format or other inputs or outputs than the model.
    """
    path, arrays = Path(path), arrays_of(model, x)
    batches = (
        [array[start : start + batch_size] for array in arrays] for start in range(0, len(arrays[0]), batch_size)
    )
    network = network_of(model)
    return compare(network, runner_of(network, path), batches)


def runner_of(network: Network, path: Path) -> FileRunner:
    """Loads a file that was written of a network.

    Raises:
        ExportError: if it can't be read, or has a format that is not known.
    """
    if path.suffix not in RUNNERS:
        raise ExportError(f"{path}: unknown ending {path.suffix!r}; {nearest(path.suffix, RUNNERS)}")
    if not path.is_file():
        raise ExportError(f"{path}: there is no such file")
    return RUNNERS[path.suffix](network, path)


def compare(
    network: Network,
    runner: FileRunner,
    batches: Iterable[list[np.ndarray]],
    *,
    samples: int | None = None,
    on_batch: Callable[[int], None] = lambda step: None,
) -> FileComparison:
    """Runs engine and file batch by batch.

    Args:
        network: what the file should compute.
        runner: of the file.
        batches: lists of one float array (samples, ...) for each input.
        samples: how many the engine computes, rounded up to whole batches; the file computes all. None: all.
        on_batch: called after every batch with its number, from 1.
    """
    comparison = FileComparison()
    program = network.program
    predictions: list[list[np.ndarray]] = [[] for _ in program.outputs]
    inputs_only = _quantizations(program)
    for step, batch in enumerate(batches, start=1):
        arrays = [np.asarray(array, np.float32) for array in batch]
        compares = samples is None or comparison.samples < samples
        engine = (program if compares else inputs_only).run(arrays, keep=True)
        results = runner.run(engine, inside=compares)
        if compares:
            _add(comparison, network, engine, results)
            comparison.samples += len(arrays[0])
        for name, integers, kept in zip(program.outputs, results.outputs, predictions, strict=True):
            target = network.tensors[name].format
            assert target is not None
            kept.append(integers.astype(np.float32) * target.scale)
        on_batch(step)
    comparison.predictions = [np.concatenate(parts) for parts in predictions if parts]
    return comparison


def _add(comparison: FileComparison, network: Network, engine: dict[str, Value], results: FileResults) -> None:
    """Compares the tensors of one batch."""
    for given, compared in ((results.tensors, comparison.tensors), (results.isolated, comparison.isolated)):
        for name, value in engine.items():
            if isinstance(value, QuantizedTensor) and name in given:
                compared.setdefault(name, TensorComparison()).add(given[name], value.centred)
    for name, output, integers in zip(network.program.outputs, network.output_names, results.outputs, strict=True):
        value = engine[name]
        assert isinstance(value, QuantizedTensor)
        comparison.outputs.setdefault(output, TensorComparison()).add(integers, value.centred)


def _quantizations(program: Program) -> Program:
    """The part of a program that quantizes its inputs."""
    steps = [step for step in program.steps if isinstance(step.operator, Quantize)]
    return Program(program.inputs, steps, tuple(name for step in steps for name in step.outputs))


def _litert(network: Network, path: Path) -> FileRunner:
    from qpipe.export.litert import require_litert

    require_litert()
    from qpipe.export.litert.probe import LiteRtRunner

    return LiteRtRunner(network, path)


def _onnx(network: Network, path: Path) -> FileRunner:
    from qpipe.export.onnx import require_onnx_runtime

    require_onnx_runtime()
    from qpipe.export.onnx.run import OnnxRunner

    return OnnxRunner(network, path)


RUNNERS: dict[str, Callable[[Network, Path], FileRunner]] = {".tflite": _litert, ".onnx": _onnx}
"""For every ending of a file's name what loads and runs it."""
