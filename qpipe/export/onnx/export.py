"""Exporting a quantized model as an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from qpipe.config.export_schema import ExportIo, OnnxOperators
from qpipe.errors import ExportError, nearest
from qpipe.export.exported import Bound, ExportedFile
from qpipe.export.network import Network, network_of
from qpipe.export.onnx.storage import has_wide_activations
from qpipe.export.onnx.write import WrittenGraph, write_network
from qpipe.storage import whole_file

EXACT = Bound(0.0, 0, 0.0, "all of its operators compute with the engine's integers")
BOUND = Bound(1e-3, 1, 1e-3, "where the runtime does not fuse a layer to integers, it sums in float32")
WIDE_BOUND = Bound(5e-3, 4, 2e-2, "ONNX Runtime sums the products of 16-bit activations in float32")
WITH_REAL_VALUES = {"Conv", "ConvTranspose", "Gemm"}


def export_onnx(
    model: keras.Model,
    path: str | Path,
    *,
    io: str = "int8",
    operators: str = "qlinear",
    labels: Sequence[str] | None = None,
    normalization: str | None = None,
) -> ExportedFile:
    """Writes a quantized model as an ONNX file (`.onnx`) that computes the integers of the integer engine.

    The file has the model's own integers and scales, the model's order of axes at its inputs and outputs, and a batch
    of any size. Its operators compute with the integers themselves, with the exceptions that `operators` names. The
    dequantization at the outputs is left out; a softmax in float behind it computes with integers.

    Args:
        model: a calibrated or trained model that `qpipe.quantize` returned.
        path: where the file goes, with the ending `.onnx`; its folder is made where it does not exist.
        io: `int8`: inputs and outputs are the quantized integers (int16 where they have more than 8 bits); `float`:
            real values.
        operators: of convolutions, dense layers and batch normalizations. `qlinear`: QLinearConv, the integer operator,
            where all of a layer has at most 8 bits; transposed convolutions and wider layers as with `qdq`. `qdq`: real
            values between DequantizeLinear and QuantizeLinear, from which runtimes may make integer operators; where
            they don't, the layer sums in float32.
        labels: names of the classes, for the metadata.
        normalization: how raw data becomes the model's input, for the metadata.

    Returns:
        Path, size, operators, and what should be known about the file.

    Raises:
        ExportError: what the format can't express, one sentence for each layer; nothing is written then.
        QuantizationError: if the model is not quantized, or an output was never calibrated.
        StorageError: if the file can't be written.
    """
    if io not in ExportIo.__members__:
        raise ExportError(f"io={io!r} is not known; {nearest(str(io), ExportIo.__members__)}")
    if operators not in OnnxOperators.__members__:
        raise ExportError(f"operators={operators!r} is not known; {nearest(str(operators), OnnxOperators.__members__)}")
    if Path(path).suffix != ".onnx":
        raise ExportError(f"{path}: an ONNX file needs the ending '.onnx'")
    description = {"labels": None if labels is None else list(labels), "normalization": normalization}
    return write_onnx(
        network_of(model), Path(path), io=ExportIo[io], operators=OnnxOperators[operators], description=description
    )


def write_onnx(
    network: Network, path: Path, *, io: ExportIo, operators: OnnxOperators, description: Mapping[str, Any]
) -> ExportedFile:
    """Writes a network; see `write_network` and `export_onnx` for arguments and errors."""
    written = write_network(network, io=io, operators=operators, description=description)
    with whole_file(path) as temporary:
        temporary.write_bytes(written.content)
    return ExportedFile(
        path,
        len(written.content),
        written.operators,
        None,
        None,
        _bound(network, written),
        written.notes,
    )


def _bound(network: Network, written: WrittenGraph) -> Bound:
    if has_wide_activations(network):
        return WIDE_BOUND
    return BOUND if WITH_REAL_VALUES.intersection(written.operators) else EXACT
