"""Convolutions, dense layers, and a factor and offset for each channel."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from itertools import product

import numpy as np

from qpipe.errors import QuantizationError
from qpipe.integer.operator import Notes, Value
from qpipe.integer.operators.requantization import RealOutput, Requantization
from qpipe.integer.operators.windows import padding_of, taps
from qpipe.numerics import QuantizedTensor

EXACT_IN_FLOAT64 = 2**53


@dataclass(frozen=True, eq=False)
class Linear:
    """What the operators of this file share: acc = sum of (q_x - z_x) * q_w, plus q_b; then a requantization.

    Products are summed in float64 matrix multiplications, which are exact below 2^53 in any order; weights
    that could pass it are refused.

    Attributes:
        kernel: int64 weights.
        bias: (channels,) int64 on the accumulator's scale, or None.
        requantization: from the accumulator to the output, or to real values.
        kernel_scale: float32 (1,) or (channels,), what the kernel's integers stand for; the arithmetic does not use it.
    """

    kernel: np.ndarray
    bias: np.ndarray | None
    requantization: Requantization | RealOutput
    kernel_scale: np.ndarray = field(kw_only=True)

    def __call__(self, x: QuantizedTensor, *, notes: Notes) -> Value:
        """Returns the output for one batch."""
        centred = x.centred
        self._require_exact(centred)
        accumulator = self.accumulate(centred.astype(np.float64)).astype(np.int64)
        return self.requantization(accumulator if self.bias is None else accumulator + self.bias, notes)

    def accumulate(self, x: np.ndarray) -> np.ndarray:
        """Returns the sums of products of whole numbers in float64."""
        raise NotImplementedError

    @property
    def largest_kernel_sum(self) -> int:
        """Largest sum of magnitudes of the weights of one output channel."""
        magnitudes = np.abs(self.kernel)
        return int(magnitudes.sum(axis=tuple(range(magnitudes.ndim - 1))).max(initial=0))

    def _require_exact(self, x: np.ndarray) -> None:
        largest = int(np.abs(x).max(initial=0)) * self.largest_kernel_sum
        if largest >= EXACT_IN_FLOAT64:
            raise QuantizationError(f"sums of products of up to {largest} can't be computed exactly; allowed: 2^53")


@dataclass(frozen=True, eq=False)
class Dense(Linear):
    """Matrix product over the last axis; kernel (inputs, units)."""

    def accumulate(self, x: np.ndarray) -> np.ndarray:
        """Returns (batch, ..., units)."""
        return x @ self.kernel.astype(np.float64)


@dataclass(frozen=True, eq=False)
class Scale(Linear):
    """One factor for each channel; kernel (channels,): a batch normalization that stands alone."""

    @property
    def largest_kernel_sum(self) -> int:
        """Largest magnitude of a factor."""
        return int(np.abs(self.kernel).max(initial=0))

    def accumulate(self, x: np.ndarray) -> np.ndarray:
        """Returns an array of the shape of `x`."""
        return x * self.kernel


@dataclass(frozen=True, eq=False)
class Convolution(Linear):
    """Convolution over one or two spatial axes; kernel (*window, inputs / groups, outputs).

    A depthwise convolution has as many groups as inputs.

    Attributes:
        strides: for each spatial axis.
        dilation: for each spatial axis.
        padding: `valid`, `same` or `causal`; padded positions hold 0, that is z_x.
        groups: of input channels, each with outputs of its own.
    """

    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str
    groups: int = 1

    def accumulate(self, x: np.ndarray) -> np.ndarray:
        """Returns (batch, *output, outputs)."""
        window = self.kernel.shape[:-2]
        kernel = self.kernel.astype(np.float64)
        seen = taps(x, window, self.strides, self.dilation, self.padding)
        return reduce(np.add, (self._multiply(values, kernel[index]) for index, values in seen))

    def _multiply(self, x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        """Multiplies (..., inputs) by one tap of the kernel, (inputs / groups, outputs)."""
        if self.groups == 1:
            return x @ kernel
        inputs, outputs = kernel.shape
        grouped = x.reshape(*x.shape[:-1], self.groups, inputs)
        by_group = kernel.reshape(inputs, self.groups, outputs // self.groups)
        result = grouped * by_group[0] if inputs == 1 else np.einsum("...gi,igo->...go", grouped, by_group)
        return result.reshape(*x.shape[:-1], outputs)


@dataclass(frozen=True, eq=False)
class TransposedConvolution(Linear):
    """The transpose of a convolution with the same window; kernel (*window, outputs, inputs).

    Attributes:
        strides: for each spatial axis.
        dilation: for each spatial axis.
        padding: `valid` or `same`, of the convolution that is transposed.
    """

    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str

    @property
    def largest_kernel_sum(self) -> int:
        """Largest sum of magnitudes of the weights of one output channel."""
        magnitudes = np.abs(self.kernel)
        return int(magnitudes.sum(axis=(*range(magnitudes.ndim - 2), -1)).max(initial=0))

    def accumulate(self, x: np.ndarray) -> np.ndarray:
        """Returns (batch, *output, outputs); size * stride on each axis for `same` padding."""
        window = self.kernel.shape[:-2]
        axes = range(len(window))
        spans = [(window[a] - 1) * self.dilation[a] + 1 for a in axes]
        sizes = [self._output_size(x.shape[1 + a], spans[a], self.strides[a]) for a in axes]
        full = [max((x.shape[1 + a] - 1) * self.strides[a] + spans[a], sizes[a] + spans[a]) for a in axes]
        scattered = np.zeros((x.shape[0], *full, self.kernel.shape[-2]))
        for index in product(*(range(size) for size in window)):
            starts = [index[a] * self.dilation[a] for a in axes]
            ends = [starts[a] + (x.shape[1 + a] - 1) * self.strides[a] + 1 for a in axes]
            spatial = tuple(slice(starts[a], ends[a], self.strides[a]) for a in axes)
            scattered[(slice(None), *spatial)] += x @ self.kernel[index].astype(np.float64).T
        before = [padding_of(self.padding, sizes[a], window[a], self.strides[a], self.dilation[a])[0] for a in axes]
        return scattered[(slice(None), *(slice(before[a], before[a] + sizes[a]) for a in axes))]

    def _output_size(self, size: int, span: int, stride: int) -> int:
        return size * stride if self.padding == "same" else size * stride + max(span - stride, 0)
