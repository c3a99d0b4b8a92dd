"""Quantized tensors and formats of qpipe as tensors of a LiteRT file, and random ones to compare with.

LiteRT stores 8 bits in int8: an unsigned integer q as q - 128, its zero point z as z - 128.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from one_operator_file import FileTensor, OneOperator

from qpipe.numerics import QuantizedFormat, QuantizedTensor

SCALES = ("float", "power_of_two")


class Comparison(NamedTuple):
    """What LiteRT computed: its integers as qpipe counts them, and whether XNNPACK did it."""

    integers: np.ndarray
    delegated: bool


def litert(
    operator: str,
    inputs: Sequence[QuantizedTensor | FileTensor],
    expected: QuantizedTensor,
    options: Mapping[str, object] | None = None,
    version: int = 2,
) -> Comparison:
    """Runs one operator in LiteRT.

    Args:
        operator: name in the file format.
        inputs: quantized tensors that are fed, and constants of the file.
        expected: gives the output's format and shape.
        options: fields of the operator's options.
        version: the operator's version.
    """
    tensors = [x if isinstance(x, FileTensor) else file_tensor(x.format, x.integers.shape) for x in inputs]
    output = file_tensor(expected.format, expected.integers.shape)
    loaded = OneOperator(operator, tensors, output, options, version)
    stored = loaded(*(x.integers - x.format.storage_offset for x in inputs if isinstance(x, QuantizedTensor)))
    return Comparison(stored.astype(np.int64) + expected.format.storage_offset, loaded.delegated)


def file_tensor(target: QuantizedFormat, shape: tuple[int, ...]) -> FileTensor:
    """Returns a tensor of the graph that is fed or computed."""
    return FileTensor(shape, f"int{target.bitwidth}", target.scale, target.zero_point - target.storage_offset)


def integer_constant(values) -> FileTensor:
    """Returns an int32 constant: shapes, axes, paddings."""
    return FileTensor.constant(np.array(values, np.int32))


def weight_constant(kernel: np.ndarray, scale: np.ndarray, channel_axis: int) -> FileTensor:
    """Returns int8 weights with one scale, or one for each channel."""
    return FileTensor.constant(np.ascontiguousarray(kernel, np.int8), scale, 0, channel_axis)


def assert_equal_integers(expected: QuantizedTensor, got: Comparison) -> None:
    """Fails where an integer differs, and where most integers saturate and would agree whatever the arithmetic."""
    difference = expected.integers - got.integers
    count, size = np.count_nonzero(difference), difference.size
    assert count == 0, f"{count} of {size} integers differ ({count / size:.1e}), by up to {np.abs(difference).max()}"
    inside = (expected.integers > expected.integers.min()) & (expected.integers < expected.integers.max())
    assert inside.mean() > 0.1, f"only {inside.mean():.0%} of the integers lie inside of the range"


def random_format(random: np.random.Generator, scales: str, *, signed: bool = True, exponent: int = -5):
    """Returns an 8-bit format with a scale of about 2^exponent; signed with any zero point, unsigned with 0."""
    spread = random.uniform(-1, 1) if scales == "float" else int(random.integers(-1, 2))
    zero_point = int(random.integers(-60, 61)) if signed else 0
    return QuantizedFormat(8, signed, np.float32(2.0 ** (exponent + spread)), zero_point)


def random_tensor(random: np.random.Generator, target: QuantizedFormat, shape: tuple[int, ...]) -> QuantizedTensor:
    """Returns integers over the whole range of a format."""
    lowest, highest = target.integers
    return QuantizedTensor(random.integers(lowest, highest + 1, shape), target)
