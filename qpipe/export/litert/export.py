"""Exporting a quantized model as a LiteRT file."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from qpipe.config.export_schema import ExportIo
from qpipe.errors import ExportError, nearest
from qpipe.export.exported import ExportedFile
from qpipe.export.litert.sizes import float_file_bytes, peak_activation_bytes
from qpipe.export.litert.write import write_network
from qpipe.export.network import Network, network_of
from qpipe.integer.operator import Notes
from qpipe.lowering.predict import run_program
from qpipe.sample_batches import arrays_of
from qpipe.storage import whole_file

logger = logging.getLogger("qpipe")

BATCH_SIZE = 64


def export_litert(
    model: keras.Model,
    path: str | Path,
    *,
    io: str = "int8",
    pack_int4: bool = True,
    labels: Sequence[str] | None = None,
    normalization: str | None = None,
    samples: Any = None,
) -> ExportedFile:
    """Writes a quantized model as a LiteRT file (`.tflite`) that computes the integers of the integer engine.

    The file has the model's own integers and scales, a batch of any size, and a signature `serving_default` with the
    model's names. The dequantization at the outputs is left out; a softmax in float behind it computes with integers.

    Args:
        model: a calibrated or trained model that `qpipe.quantize` returned.
        path: where the file goes, with the ending `.tflite`; its folder is made where it does not exist.
        io: `int8`: inputs and outputs are the quantized integers; `float`: real values.
        pack_int4: whether weights of at most 4 bits are stored in 4 bits. Convolutions then leave XNNPACK and round
            otherwise; false stores them in 8 bits.
        labels: names of the classes, for the metadata.
        normalization: how raw data becomes the model's input, for the metadata.
        samples: (samples, ...) inputs as the model takes them; only needed where the worst case of a layer's sums
            does not fit the runtime's accumulator: the engine then looks at the sums that occur.

    Returns:
        Path, size, operators, and what should be known about the file.

    Raises:
        ExportError: what the format can't express, one sentence for each layer; nothing is written then.
        QuantizationError: if the model is not quantized, or an output was never calibrated.
        StorageError: if the file can't be written.
    """
    if io not in ExportIo.__members__:
        raise ExportError(f"io={io!r} is not known; {nearest(str(io), ExportIo.__members__)}")
    if Path(path).suffix != ".tflite":
        raise ExportError(f"{path}: a LiteRT file needs the ending '.tflite'")
    network = network_of(model)
    observed = None
    if samples is not None:
        run_program(network.program, arrays_of(model, samples), batch_size=BATCH_SIZE, keep=False)
        observed = network.program.notes
    description = {"labels": None if labels is None else list(labels), "normalization": normalization}
    exported = write_litert(
        network, Path(path), io=ExportIo[io], pack_int4=pack_int4, description=description, observed=observed
    )
    for warning in exported.warnings:
        logger.warning(warning)
    return exported


def write_litert(
    network: Network,
    path: Path,
    *,
    io: ExportIo,
    pack_int4: bool,
    description: Mapping[str, Any],
    observed: Mapping[str, Notes] | None = None,
    check_sums: bool = True,
) -> ExportedFile:
    """Writes a network; see `write_network` and `export_litert` for arguments and errors."""
    written = write_network(
        network, io=io, pack_int4=pack_int4, description=description, observed=observed, check_sums=check_sums
    )
    with whole_file(path) as temporary:
        temporary.write_bytes(written.content)
    return ExportedFile(
        path,
        len(written.content),
        tuple(sorted({operator for operator, _, _ in written.graph.operators})),
        peak_activation_bytes(written.graph),
        float_file_bytes(written.graph, len(written.content)),
        written.bound,
        written.notes,
        written.warnings,
    )
