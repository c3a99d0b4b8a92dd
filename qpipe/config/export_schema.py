"""The part of the schema that configures the files a job exports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class ExportFormat(Enum):
    """Files that can be written."""

    litert = "litert"
    onnx = "onnx"
    c_array = "c_array"


class ExportIo(Enum):
    """Values at the ends of a file."""

    int8 = "int8"
    float = "float"


class OnnxOperators(Enum):
    """Operators of convolutions, dense layers and batch normalizations in an ONNX file."""

    qdq = "qdq"
    qlinear = "qlinear"


@dataclass(kw_only=True)
class ExportConfig:
    """Files for devices, and what they have to compute."""

    formats: list[ExportFormat] | None = None
    """`litert` (`model.tflite`), `onnx` (`model.onnx`), `c_array` (`model.h` and `model.cc` with the bytes of the
    LiteRT file), any of them, or `[]`; what a format can't express fails the job. null: `litert` where it can express
    the model, else a warning."""
    io: ExportIo = ExportIo.int8
    """`int8`: inputs and outputs are the quantized integers (16 bits where these are wider); `float`: real values, with
    a quantization and a dequantization at the ends of the file."""
    pack_int4: bool = True
    """Whether LiteRT files store weights of at most 4 bits in 4 bits, where there is a kernel for it. Convolutions then
    leave XNNPACK and round otherwise; false stores them in 8 bits, and the file is exact."""
    require_exact: bool = False
    """Whether a file that differs from the integer engine by more than is documented for its operators fails the job,
    after everything is stored."""
    onnx_operators: OnnxOperators = OnnxOperators.qlinear
    """Linear layers in an ONNX file: `qlinear` as QLinearConv, the standard's integer operator, exact whatever a
    runtime optimizes; `qdq` between DequantizeLinear and QuantizeLinear, for accelerators that want to fuse them
    themselves: without that, the layers sum in float."""
