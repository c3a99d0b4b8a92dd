"""LiteRT files (`.tflite`), written from the integer engine's operators."""

from __future__ import annotations

import importlib.util

from qpipe.errors import ExportError


def require_litert() -> None:
    """Raises an ExportError if the packages that write and run LiteRT files are not installed."""
    if importlib.util.find_spec("ai_edge_litert") is None or importlib.util.find_spec("flatbuffers") is None:
        raise ExportError(
            "LiteRT files need the packages ai-edge-litert (which exists for Linux and macOS, not for Windows) and "
            "flatbuffers; install them, or set export.formats=[]"
        )
