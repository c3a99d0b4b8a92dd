"""Exports a quantized model to ONNX and compares the file with the integer engine.

Needs `onnx` and `onnxruntime`; without them, the tests of a module that imports this one are skipped.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import keras
import pytest

REASON = "ONNX and ONNX Runtime are not installed (pip install 'qpipe[onnx]')"
onnx = pytest.importorskip("onnx", reason=REASON)
pytest.importorskip("onnxruntime", reason=REASON)

import qpipe  # noqa: E402
from qpipe.export.comparison import FileComparison  # noqa: E402
from qpipe.export.network import network_of  # noqa: E402
from qpipe.export.onnx.run import OnnxRunner  # noqa: E402
from qpipe.export.verification import compare  # noqa: E402
from qpipe.sample_batches import arrays_of  # noqa: E402


def compared(
    model: keras.Model, x: Any, folder: Path, ends: tuple[str, ...] = ("int8", "float"), operators: str = "qdq"
) -> dict[tuple[str, bool], FileComparison]:
    """Returns the comparison for each kind of ends, with and without the runtime's optimizer."""
    network, found = network_of(model), {}
    for io, optimize in itertools.product(ends, (True, False)):
        path = folder / f"{io}.onnx"
        if optimize:
            qpipe.export_onnx(model, path, io=io, operators=operators)
        found[io, optimize] = compare(network, OnnxRunner(network, path, optimize=optimize), [arrays_of(model, x)])
    return found


def assert_exact(
    model: keras.Model, x: Any, folder: Path, ends: tuple[str, ...] = ("int8", "float"), operators: str = "qdq"
) -> None:
    """Every tensor of the file, the runtime's optimizer on and off, holds the integers of the engine."""
    for (io, optimize), comparison in compared(model, x, folder, ends, operators).items():
        what = f"io={io}, optimize={optimize}: {comparison.summary()}"
        assert comparison.tensors, what
        assert comparison.isolated.keys() == comparison.tensors.keys(), what
        assert comparison.first_difference is None, what
        assert comparison.largest_lsb == 0, what


def assert_near(comparison: FileComparison, rate: float, lsb: int = 1) -> None:
    """The outputs differ in at most a share of their values, by at most so many integers."""
    assert comparison.mismatch_rate <= rate, comparison.summary()
    assert comparison.largest_lsb <= lsb, comparison.summary()


def read(path: Path) -> onnx.ModelProto:
    return onnx.load(path)


def operators_of(path: Path) -> list[str]:
    """The operators of a file in their order."""
    return [node.op_type for node in read(path).graph.node]


def properties_of(path: Path) -> dict[str, str]:
    """The metadata of a file."""
    return {entry.key: entry.value for entry in read(path).metadata_props}
