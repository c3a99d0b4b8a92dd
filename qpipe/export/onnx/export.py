"""Exporting a quantized model as an ONNX file."""

from __future__ import annotations
