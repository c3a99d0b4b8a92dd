"""The formats that a job can export: the name of the file, and what writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qpipe.config.export_schema import ExportConfig, ExportFormat
from qpipe.export.exported import ExportedFile
from qpipe.export.network import Network
from qpipe.integer.operator import Notes


@dataclass(frozen=True)
class Request:
    """What is to be written.

    Attributes:
        network: as `network_of` gives it.
        path: of the file.
        config: of the export.
        description: further metadata, as plain values.
        observed: what the engine noted about each layer on data, if it ran.
        final: whether the weights are final: sums that may not fit an accumulator are looked at only then.
    """

    network: Network
    path: Path
    config: ExportConfig
    description: Mapping[str, Any] = field(default_factory=dict)
    observed: Mapping[str, Notes] | None = None
    final: bool = True


def _litert(request: Request) -> ExportedFile:
    from qpipe.export.litert import require_litert

    require_litert()
    from qpipe.export.litert.export import write_litert

    return write_litert(
        request.network,
        request.path,
        io=request.config.io,
        pack_int4=request.config.pack_int4,
        description=request.description,
        observed=request.observed,
        check_sums=request.final,
    )


def _onnx(request: Request) -> ExportedFile:
    from qpipe.export.onnx import require_onnx_runtime

    require_onnx_runtime()
    from qpipe.export.onnx.export import write_onnx

    return write_onnx(
        request.network,
        request.path,
        io=request.config.io,
        operators=request.config.onnx_operators,
        description=request.description,
    )


@dataclass(frozen=True)
class Format:
    """A format: the name of its file in a job's folder `model`, and what writes it."""

    file: str
    write: Callable[[Request], ExportedFile]


FORMATS: dict[ExportFormat, Format] = {
    ExportFormat.litert: Format("model.tflite", _litert),
    ExportFormat.onnx: Format("model.onnx", _onnx),
}
"""Formats whose files can be run and compared; a C array is made of the LiteRT file."""
