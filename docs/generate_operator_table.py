"""Writes `docs/operator-table.md`: which layers each file format can express, in which widths, and how exactly.

    python docs/generate_operator_table.py

Every cell is an export: a small network of the layer is quantized to the widths and written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers as k

import qpipe
from qpipe.config.export_schema import ExportConfig, ExportFormat
from qpipe.config.schema import OutputQuantizerConfig, QuantizerConfig, WeightQuantizerConfig
from qpipe.errors import ExportError
from qpipe.export.formats import FORMATS, Request
from qpipe.export.network import network_of

PAGE = Path(__file__).parent / "operator-table.md"
IMAGE, LINE = (8, 8, 4), (8, 4)
EXACT = 2e-5

Build = Callable[[Any], Any]


def _branches(merge: k.Layer) -> Build:
    return lambda x: merge([k.Conv2D(4, 1)(x), k.Conv2D(4, 1)(x)])


LAYERS: dict[str, tuple[tuple[int, ...], Build]] = {
    "Conv2D (strides, dilation, groups)": (IMAGE, k.Conv2D(4, 3, padding="same", groups=2)),
    "Conv2D 1×1": (IMAGE, k.Conv2D(4, 1)),
    "Conv1D (causal too)": (LINE, k.Conv1D(4, 3, padding="causal")),
    "DepthwiseConv2D, DepthwiseConv1D": (IMAGE, k.DepthwiseConv2D(3)),
    "SeparableConv2D, SeparableConv1D": (IMAGE, k.SeparableConv2D(4, 3)),
    "Conv2DTranspose, Conv1DTranspose": (IMAGE, k.Conv2DTranspose(4, 3, strides=2)),
    "Dense": (IMAGE, lambda x: k.Dense(4)(k.Flatten()(x))),
    "BatchNormalization that stays": (IMAGE, lambda x: k.BatchNormalization()(k.MaxPooling2D()(k.Conv2D(4, 1)(x)))),
    "Add of two": (IMAGE, _branches(k.Add())),
    "Add of more": (IMAGE, lambda x: k.Add()([k.Conv2D(4, 1)(x) for _ in range(3)])),
    "Subtract": (IMAGE, _branches(k.Subtract())),
    "Multiply": (IMAGE, _branches(k.Multiply())),
    "Concatenate": (IMAGE, _branches(k.Concatenate())),
    "AveragePooling2D, AveragePooling1D": (IMAGE, lambda x: k.AveragePooling2D(2)(k.Conv2D(4, 1)(x))),
    "MaxPooling2D, MaxPooling1D": (IMAGE, lambda x: k.MaxPooling2D()(k.Conv2D(4, 1)(x))),
    "GlobalAveragePooling2D, 1D": (IMAGE, lambda x: k.GlobalAveragePooling2D()(k.Conv2D(4, 1)(x))),
    "GlobalMaxPooling2D, 1D": (IMAGE, lambda x: k.GlobalMaxPooling2D()(k.Conv2D(4, 1)(x))),
    "ZeroPadding2D, ZeroPadding1D": (IMAGE, lambda x: k.ZeroPadding2D()(k.Conv2D(4, 1)(x))),
    "Cropping2D, Cropping1D": (IMAGE, lambda x: k.Cropping2D()(k.Conv2D(4, 1)(x))),
    "UpSampling2D, UpSampling1D (nearest)": (IMAGE, lambda x: k.UpSampling2D()(k.Conv2D(4, 1)(x))),
    "Reshape, Flatten": (IMAGE, lambda x: k.Reshape((16, 16))(k.Conv2D(4, 1)(x))),
    "Permute": (IMAGE, lambda x: k.Permute((2, 1, 3))(k.Conv2D(4, 1)(x))),
    "ReLU, ReLU6 behind a layer": (IMAGE, lambda x: k.ReLU(6.0)(k.Conv2D(4, 1)(x))),
    "ReLU on its own": (IMAGE, lambda x: k.ReLU(4.0)(k.MaxPooling2D()(k.Conv2D(4, 1)(x)))),
    "PReLU": (IMAGE, lambda x: k.PReLU(shared_axes=[1, 2])(k.Conv2D(4, 1)(x))),
    "sigmoid": (IMAGE, lambda x: k.Activation("sigmoid")(k.Conv2D(4, 1)(x))),
    "tanh": (IMAGE, lambda x: k.Activation("tanh")(k.Conv2D(4, 1)(x))),
    "swish, gelu, elu, leaky ReLU, hard-swish, …": (IMAGE, lambda x: k.Activation("swish")(k.Conv2D(4, 1)(x))),
    "Softmax": (IMAGE, lambda x: k.Softmax()(k.Dense(4)(k.Flatten()(x)))),
}
"""A network for each row, whose last layers are the ones that the row is about."""


def _widths(weight: int, activation: int, symmetric: bool = False) -> QuantizerConfig:
    output = OutputQuantizerConfig(bitwidth=activation, symmetric=symmetric)
    kernel = WeightQuantizerConfig(bitwidth=weight)
    return QuantizerConfig(weight=kernel, input=output, output=output, float_softmax=False)


WIDTHS: dict[str, tuple[QuantizerConfig, bool]] = {
    "W8A8": (_widths(8, 8), True),
    "W4A8": (_widths(4, 8), True),
    "W4A8, `pack_int4=false`": (_widths(4, 8), False),
    "W8A4": (_widths(8, 4), True),
    "W8A15": (_widths(8, 15, symmetric=True), True),
}
"""Quantizers of each column, and whether weights of 4 bits are packed."""
TITLES = {ExportFormat.litert: "LiteRT", ExportFormat.onnx: "ONNX"}
COLUMNS = {
    ExportFormat.litert: tuple(WIDTHS),
    ExportFormat.onnx: tuple(name for name in WIDTHS if "pack" not in name),
}

INTRODUCTION = """# Layers, formats and widths

Made by `docs/generate_operator_table.py`: every cell is an export. W4A8 means weights of 4 bits, activations of 8;
weights of 5 to 7 bits are stored in 8, those of 2 and 3 in 4. W8A15 stands for 9 to 16 bits with `symmetric: true`,
but 16 bits where an activation is never negative (behind a ReLU) do not fit int16.

*exact*: every kernel rounds as the integer engine does; next to a tie a softmax may differ by one step. *± n*: a layer
may differ by up to n in its last bits, because the runtime's kernel rounds otherwise. *–*: refused. The bounds of a
file are `bound` of what `qpipe.export_litert` and `qpipe.export_onnx` return. Most rows have a 1×1 convolution in
front. [Deploy](deploy.md) says more.

"""


def page() -> str:
    """Returns the whole page."""
    rows = {name: row(name) for name in LAYERS}
    return INTRODUCTION + "\n".join(_table(target, rows) for target in COLUMNS)


def row(name: str) -> dict[tuple[ExportFormat, str], str]:
    """Returns the cells of one layer: by format and width, and by format and `operators` those of the format.

    Args:
        name: a key of `LAYERS`.
    """
    shape, build = LAYERS[name]
    cells: dict[tuple[ExportFormat, str], str] = {}
    samples = np.random.default_rng(0).normal(size=(32, *shape)).astype("float32")
    for width, (quantizers, packs) in WIDTHS.items():
        keras.utils.set_random_seed(0)
        inputs = keras.Input(shape)
        model = qpipe.calibrate(qpipe.quantize(keras.Model(inputs, build(inputs)), quantizers), samples)
        network = network_of(model)
        for target, columns in COLUMNS.items():
            if width not in columns:
                continue
            cells[target, width], operators = _cell(target, network, packs)
            cells.setdefault((target, "operators"), operators)
    return cells


def _cell(target: ExportFormat, network, packs: bool) -> tuple[str, str]:
    """How exactly a network can be written, and with which operators."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FORMATS[target].file
        try:
            exported = FORMATS[target].write(Request(network, path, ExportConfig(pack_int4=packs)))
        except ExportError:
            return "–", "–"
    bound = exported.bound
    return "exact" if bound.layer <= EXACT else f"± {bound.lsb}", ", ".join(exported.operators)


def _table(target: ExportFormat, rows: dict[str, dict]) -> str:
    columns = COLUMNS[target]
    lines = [
        f"## {TITLES[target]}\n",
        f"| layer | {' | '.join(columns)} | operators of W8A8 |",
        f"|---|{'---|' * len(columns)}---|",
    ]
    for name, cells in rows.items():
        shown = " | ".join(cells[target, width] for width in columns)
        lines.append(f"| {name} | {shown} | {cells[target, 'operators']} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
