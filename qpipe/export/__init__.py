"""Files for devices, written from the integer engine's operators, and the proof of what they compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qpipe.export.verification import verify

if TYPE_CHECKING:
    from qpipe.export.litert.export import export_litert
    from qpipe.export.onnx.export import export_onnx

__all__ = ["export_litert", "export_onnx", "verify"]


def __getattr__(name: str):
    """Imports exporters when they are first used: their packages are not everywhere."""
    if name == "export_litert":
        from qpipe.export.litert import require_litert

        require_litert()
        from qpipe.export.litert.export import export_litert

        return export_litert
    if name == "export_onnx":
        from qpipe.export.onnx import require_onnx

        require_onnx()
        from qpipe.export.onnx.export import export_onnx

        return export_onnx
    raise AttributeError(f"module 'qpipe.export' has no name {name!r}")
