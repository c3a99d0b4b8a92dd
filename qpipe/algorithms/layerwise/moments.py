"""Second moments of a layer's inputs and of the output that it should have: all that a squared error needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from qpipe.algorithms.layerwise.matrix_form import MatrixForm


class Means(NamedTuple):
    """E[a] (groups, rows) and E[t] (groups, columns) of a layer."""

    inputs: np.ndarray
    outputs: np.ndarray

    def fitted_bias(self, kernel: np.ndarray) -> np.ndarray:
        """Returns the bias (groups, columns) with which a kernel leaves no mean error."""
        return self.outputs - np.einsum("gk,gkm->gm", self.inputs, kernel)


@dataclass
class Moments:
    """Means over samples and positions, per group of channels, float64.

    With a the inputs of one output and t the output that the float model has there (before its activation):

    Attributes:
        gram: E[a aᵀ], (groups, rows, rows).
        cross: E[a t], (groups, rows, columns).
        energy: E[t²], (groups, columns).
        inputs: E[a], (groups, rows).
        outputs: E[t], (groups, columns).
    """

    gram: np.ndarray
    cross: np.ndarray
    energy: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray

    def without_bias(self, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns E[a (t - bias)] and E[(t - bias)²] for a bias (groups, columns)."""
        cross = self.cross - self.inputs[:, :, np.newaxis] * bias[:, np.newaxis, :]
        return cross, self.energy - 2.0 * bias * self.outputs + bias**2

    def centered(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns G and C about the means: those of the problem in which the bias takes over the mean error."""
        gram = self.gram - self.inputs[:, :, np.newaxis] * self.inputs[:, np.newaxis, :]
        return gram, self.cross - self.inputs[:, :, np.newaxis] * self.outputs[:, np.newaxis, :]

    @property
    def variance(self) -> np.ndarray:
        """Variance of t, (groups, columns)."""
        return self.energy - self.outputs**2

    @property
    def means(self) -> Means:
        """The first moments."""
        return Means(self.inputs, self.outputs)

    def error(self, kernel: np.ndarray, bias: np.ndarray) -> float:
        """Returns the mean squared error of a kernel (groups, rows, columns), summed over output channels."""
        cross, energy = self.without_bias(bias)
        quadratic = np.einsum("gkm,gkl,glm->", kernel, self.gram, kernel, optimize=True)
        return float(quadratic - 2.0 * np.sum(kernel * cross) + np.sum(energy))


def moments(form: MatrixForm, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> Moments:
    """Gathers the moments of a layer.

    Products are summed up about the means of the first batch, in float32 within a batch and in float64 beyond, so that
    deviations which are small beside the mean are not lost.

    Args:
        form: the layer's matrix form.
        batches: pairs of the layer's input (samples, ...) and the wanted output (samples, ..., channels).
    """
    accumulate = _accumulator(form)
    total: list[np.ndarray] | None = None
    centre: tuple[Any, Any] | None = None
    positions = 0
    for x, target in batches:
        x, target = tf.constant(x), tf.constant(target)
        if centre is None:
            centre = tuple(
                tf.reduce_mean(part, axis=1, keepdims=True) for part in (form.rows_of(x), form.columns_of(target))
            )
        sums = [part.numpy().astype("float64") for part in accumulate(x, target, *centre)]
        positions += int(tf.size(target)) // target.shape[-1]
        total = sums if total is None else [old + new for old, new in zip(total, sums, strict=True)]
    if total is None or centre is None:
        raise ValueError("there are no batches")
    about = [part.numpy().astype("float64")[:, 0] for part in centre]
    return _about_zero([part / positions for part in total], *about)


def _about_zero(means_about: list[np.ndarray], rows: np.ndarray, columns: np.ndarray) -> Moments:
    """Returns the moments about 0 from those about `rows` (groups, rows) and `columns` (groups, columns)."""
    gram, cross, energy, inputs, outputs = means_about

    def outer(left, right):
        return left[:, :, np.newaxis] * right[:, np.newaxis, :]

    return Moments(
        gram=gram + outer(rows, inputs) + outer(inputs, rows) + outer(rows, rows),
        cross=cross + outer(rows, outputs) + outer(inputs, columns) + outer(rows, columns),
        energy=energy + 2.0 * columns * outputs + columns**2,
        inputs=inputs + rows,
        outputs=outputs + columns,
    )


def _accumulator(form: MatrixForm) -> Callable:
    @tf.function(reduce_retracing=True)
    def accumulate(x, target, rows_centre, columns_centre):
        rows, columns = form.rows_of(x) - rows_centre, form.columns_of(target) - columns_centre
        return (
            tf.matmul(rows, rows, transpose_a=True),
            tf.matmul(rows, columns, transpose_a=True),
            tf.reduce_sum(tf.square(columns), axis=1),
            tf.reduce_sum(rows, axis=1),
            tf.reduce_sum(columns, axis=1),
        )

    return accumulate


def means(form: MatrixForm, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> Means:
    """Gathers the first moments of a layer alone: E[a] (groups, rows) and E[t] (groups, columns).

    Args:
        form: the layer's matrix form.
        batches: as in `moments`.
    """
    inputs, outputs, positions = 0.0, 0.0, 0
    for x, target in batches:
        inputs = inputs + tf.reduce_sum(form.rows_of(tf.constant(x)), axis=1).numpy().astype("float64")
        outputs = outputs + tf.reduce_sum(form.columns_of(tf.constant(target)), axis=1).numpy().astype("float64")
        positions += target.size // target.shape[-1]
    return Means(np.asarray(inputs) / positions, np.asarray(outputs) / positions)
