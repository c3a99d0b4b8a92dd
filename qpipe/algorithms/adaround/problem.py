"""The rounding problem of one layer: its integers' range, its matrices, and the kernel to start from."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import keras
import numpy as np

from qpipe.algorithms.adaround.gptq import least_squares, regularized
from qpipe.algorithms.adaround.settings import RoundingSettings
from qpipe.algorithms.layerwise.branches import Branch
from qpipe.algorithms.layerwise.matrix_form import MatrixForm
from qpipe.algorithms.layerwise.moments import Means, Moments, means, moments
from qpipe.algorithms.layerwise.sample_store import MEGABYTE, SampleStore
from qpipe.algorithms.layerwise.walk import LayerData
from qpipe.config.schema import RoundingTarget, Solver

MATRIX_COPIES = 4
"""How often a layer's matrices are in memory at a time: as sums, regularized, sorted, and inverted."""

RIDGE = 1e-3
"""rho as a share of G's mean diagonal."""


class RoundingProblem:
    """A layer, the samples to optimize on, and what follows from them; everything is computed when it is needed.

    Args:
        data: the layer and its inputs.
        form: the layer as a matrix product.
        settings: of the rounding.
        store: keeps what `sgd` draws from.
        train: sorted numbers of the samples that are optimized on.

    Attributes:
        kernel: float kernel of the quantized layer, (groups, rows, columns).
        bias: its float bias, or None.
        lowest: smallest integer.
        highest: largest integer.
    """

    def __init__(
        self, data: LayerData, form: MatrixForm, settings: RoundingSettings, store: SampleStore, train: np.ndarray
    ):
        self.data, self.form, self.layer = data, form, data.layer
        self.settings, self.config, self.store, self.train = settings, settings.config, store, train
        self.kernel = form.to_matrix(keras.ops.convert_to_numpy(self.layer.kernel)).astype("float64")
        self.bias = None if self.layer.bias is None else keras.ops.convert_to_numpy(self.layer.bias)
        self.lowest, self.highest = (int(end) for end in self.layer.kernel_quantizer.integers)

    @property
    def needed_megabytes(self) -> float:
        """Memory that solving with matrices takes."""
        return MATRIX_COPIES * self.form.matrix_bytes / MEGABYTE

    @property
    def solver(self) -> Solver:
        """The configured solver, or `sgd` where the matrices exceed the memory limit."""
        return self.config.solver if self.needed_megabytes <= self.config.memory_limit_mb else Solver.sgd

    @property
    def fits_bias(self) -> bool:
        """Whether the bias takes over the mean error."""
        return self.config.fit_bias and self.bias is not None

    @property
    def by_output_error(self) -> bool:
        """Whether the scale is chosen here."""
        return self.layer.kernel_quantizer.range == "output_mse"

    @property
    def scale(self) -> np.ndarray:
        """The present scale, (groups, columns)."""
        return self.form.scale_matrix(keras.ops.convert_to_numpy(self.layer.kernel_quantizer.scale)).astype("float64")

    @cached_property
    def moments(self) -> Moments | None:
        """The layer's second moments; None where they are not needed or exceed the memory limit."""
        needed = (
            self.solver is not Solver.sgd or self.config.target is RoundingTarget.least_squares or self.by_output_error
        )
        if not needed or self.needed_megabytes > self.config.memory_limit_mb:
            return None
        return moments(self.form, self.batches(self.train))

    @cached_property
    def means(self) -> Means:
        """The layer's first moments."""
        return means(self.form, self.batches(self.train)) if self.moments is None else self.moments.means

    @cached_property
    def quadratic(self) -> tuple[np.ndarray, np.ndarray, float] | None:
        """G, C and the constant of the squared error wᵀ G w - 2 wᵀ C + const; None without moments."""
        if self.moments is None:
            return None
        if self.fits_bias:
            gram, cross = self.moments.centered()
            constant = self.moments.variance
        else:
            gram = self.moments.gram
            cross, constant = self.moments.without_bias(self.bias_matrix)
        energy = np.einsum("gkk->gk", self.moments.gram).mean(axis=1)
        gram, cross = regularized(gram, cross, self.kernel, RIDGE, energy)
        return gram, cross, float(np.sum(constant))

    @cached_property
    def start(self) -> np.ndarray:
        """The continuous kernel that rounding starts from."""
        if self.quadratic is None or self.config.target is RoundingTarget.float:
            return self.kernel
        gram, cross, _ = self.quadratic
        return least_squares(gram, cross)

    @property
    def bias_matrix(self) -> np.ndarray:
        """The quantized bias, (groups, columns); zeros where the layer has none."""
        bias = self.data.quantized_bias()
        if bias is None:
            return np.zeros((self.form.groups, self.form.columns))
        return self.form.per_channel(bias).astype("float64")

    def batches(self, indices: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the inputs that the layer is rounded on and the outputs that it should have, chunk by chunk.

        Args:
            indices: sorted numbers of the samples.
        """
        return self.data.batches(indices, asymmetric=self.config.asymmetric, with_branches=bool(self.branches))

    @property
    def branches(self) -> list[Branch]:
        """Branches that are added to the layer's output and whose errors it makes up for."""
        return self.data.branches if self.config.asymmetric else []
