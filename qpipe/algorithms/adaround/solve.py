"""The solvers of one layer's rounding problem; each returns integers (groups, rows, columns)."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from qpipe.algorithms.adaround.batches import BatchSource
from qpipe.algorithms.adaround.core import rounding_down
from qpipe.algorithms.adaround.descent import coordinate_descent, pair_descent
from qpipe.algorithms.adaround.gptq import error_feedback
from qpipe.algorithms.adaround.gram import round_on_matrices
from qpipe.algorithms.adaround.optimize import Rounded
from qpipe.algorithms.adaround.problem import RoundingProblem
from qpipe.algorithms.adaround.sgd import round_on_batches
from qpipe.config.schema import Solver

PAIRED_PRODUCTS = 5e7
"""Size of a layer, groups * rows² * columns, up to which weights are moved in pairs as well: some seconds."""


def solve(problem: RoundingProblem) -> list[Rounded]:
    """Runs the problem's solver, and the polishing after it where it is wanted.

    Returns:
        One result for each step; the last one counts.
    """
    steps = [SOLVERS[problem.solver](problem)]
    if problem.config.polish and problem.solver is not Solver.sgd:
        steps.append(polish(problem, steps[0].integers))
    return steps


def gptq(problem: RoundingProblem) -> Rounded:
    """Error feedback, then descent by single weights and by pairs."""
    assert problem.quadratic is not None
    ends = problem.lowest, problem.highest
    integers = error_feedback(problem.quadratic[0], problem.start, problem.scale, *ends)
    return Rounded(_descended(problem, integers))


def gram(problem: RoundingProblem) -> Rounded:
    """AdaRound on the layer's matrices, then descent as with `gptq`."""
    assert problem.quadratic is not None
    lower, h = rounding_down(problem.start, problem.scale, problem.lowest, problem.highest)
    result = round_on_matrices(
        problem.settings.soft(problem.config.iterations),
        *problem.quadratic,
        lower,
        h,
        problem.scale,
        optimizer=problem.settings.optimizer,
        jit_compile=True,
        on_call=_told(problem, problem.config.iterations),
    )
    result.integers = _descended(problem, result.integers)
    return result


def sgd(problem: RoundingProblem) -> Rounded:
    """AdaRound on batches."""
    lower, h = rounding_down(problem.start, problem.scale, problem.lowest, problem.highest)
    return _on_batches(problem, lower, h, problem.config.iterations)


def polish(problem: RoundingProblem, integers: np.ndarray) -> Rounded:
    """AdaRound on batches between the given integers and their neighbours on the side of the continuous kernel.

    It starts halfway between the integers and the continuous kernel.
    """
    ratio = problem.start / problem.scale[:, np.newaxis, :]
    lower = np.where(integers > ratio, integers - 1.0, integers)
    lower = np.clip(lower, problem.lowest, problem.highest - 1)
    h = 0.5 * (np.clip(ratio - lower, 0.0, 1.0) + np.clip(integers - lower, 0.0, 1.0))
    return _on_batches(problem, lower, h, problem.config.polish or 0)


SOLVERS: dict[Solver, Callable[[RoundingProblem], Rounded]] = {Solver.gptq: gptq, Solver.gram: gram, Solver.sgd: sgd}


def activation_in_loss(problem: RoundingProblem) -> Callable:
    """Returns the activation behind which the error is taken: the layer's own, or none."""
    batches = problem.solver is Solver.sgd or bool(problem.config.polish)
    if problem.config.include_activation is False or not batches:
        return keras.activations.linear
    return problem.layer.activation


def _descended(problem: RoundingProblem, integers: np.ndarray) -> np.ndarray:
    assert problem.quadratic is not None
    gram, cross, _ = problem.quadratic
    rest = problem.scale, problem.lowest, problem.highest
    integers = coordinate_descent(gram, cross, integers, *rest)
    form = problem.form
    if form.groups * form.rows**2 * form.columns > PAIRED_PRODUCTS:
        return integers
    return pair_descent(gram, cross, integers, *rest)


def _on_batches(problem: RoundingProblem, lower: np.ndarray, h: np.ndarray, iterations: int) -> Rounded:
    form, settings = problem.form, problem.settings
    activation, bias = activation_in_loss(problem), _bias_of_kernel(problem)
    source = BatchSource(problem.batches, problem.data.chunk, problem.store, problem.train, settings.seed)
    with source:
        result = round_on_batches(
            settings.soft(iterations),
            lambda inputs, kernel: activation(problem.layer.linear_op(inputs, kernel) + bias(kernel)),
            source.samples,
            form.to_kernel(lower).astype("float32"),
            form.to_kernel(h),
            ops.convert_to_numpy(problem.layer.kernel_quantizer.scale),
            batch_size=problem.config.batch_size,
            seed=settings.seed,
            loss=lambda target, output: settings.loss(activation(target), output),
            optimizer=settings.optimizer,
            on_call=_told(problem, iterations),
        )
    result.integers = form.to_matrix(result.integers).astype("float64")
    return result


def _bias_of_kernel(problem: RoundingProblem) -> Callable:
    """Returns the function from a kernel to the bias that goes with it: the fitted one, or the layer's own."""
    form = problem.form
    if not problem.fits_bias:
        own = ops.convert_to_tensor(problem.bias_matrix.reshape(-1), "float32")
        return lambda kernel: own
    inputs, outputs = (ops.convert_to_tensor(mean, "float32") for mean in problem.means)

    def fitted(kernel):
        matrix = ops.reshape(kernel, (form.rows, form.groups, form.columns))
        return ops.reshape(outputs - ops.einsum("gk,kgm->gm", inputs, matrix), (-1,))

    return fitted


def _told(problem: RoundingProblem, iterations: int) -> Callable[[int, float, float], None]:
    def tell(iteration: int, loss: float, decided: float) -> None:
        problem.settings.on_progress(problem.layer.name, iteration, iterations, loss, decided)

    return tell
