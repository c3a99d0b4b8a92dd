"""ONNX files (`.onnx`), written from the integer engine's operators."""

from __future__ import annotations

import importlib.util

from qpipe.errors import ExportError


def require_onnx() -> None:
    """Raises an ExportError if the package that writes ONNX files is not installed."""
    _require("onnx", "ONNX files need")


def require_onnx_runtime() -> None:
    """Raises an ExportError if the packages that run ONNX files are not installed."""
    _require("onnx", "ONNX files need")
    _require("onnxruntime", "running ONNX files needs")


def _require(package: str, what: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ExportError(
            f"{what} the package {package}: pip install 'qpipe[onnx]', or leave `onnx` out of export.formats"
        )
