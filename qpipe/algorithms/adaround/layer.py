"""Rounding one layer in place, and comparing the result with nearest rounding."""

from __future__ import annotations

import time

import numpy as np
from keras import ops

from qpipe.algorithms.adaround.core import nearest
from qpipe.algorithms.adaround.gptq import error_feedback
from qpipe.algorithms.adaround.problem import RoundingProblem
from qpipe.algorithms.adaround.report import LayerRounding
from qpipe.algorithms.adaround.solve import activation_in_loss, solve
from qpipe.algorithms.weight_scales.apply import install_scale
from qpipe.algorithms.weight_scales.core import output_mse_scale
from qpipe.errors import QuantizationError

SEARCHED_PRODUCTS = 2e8
"""Multiplications of one error feedback up to which it, and not nearest rounding, judges the candidates of a scale."""


def round_layer(problem: RoundingProblem, held_out: np.ndarray) -> LayerRounding:
    """Rounds a layer in place: kernel on the grid, fitted bias, the scale as it was or by `output_mse`.

    Args:
        problem: the layer's.
        held_out: sorted numbers of the samples that judge; may be empty.

    Returns:
        What became of the layer.
    """
    started = time.perf_counter()
    record = LayerRounding(problem.layer.name, problem.solver.name, _why_another_solver(problem))
    record.makes_up_for = [branch.name for branch in problem.branches]
    if problem.by_output_error and problem.quadratic is not None:
        install_scale(problem.layer, problem.form, _scale_of_least_output_error(problem))
    scale = problem.scale
    simple = nearest(problem.kernel, scale, problem.lowest, problem.highest)
    _install(problem, simple, problem.bias)
    before = held_out_error(problem, held_out)
    steps = solve(problem)
    integers = steps[-1].integers
    _install(problem, integers, problem.bias)
    if problem.fits_bias:
        _fit_bias(problem, integers * scale[:, np.newaxis, :])
    if before is not None:
        record.error_before, record.signal = before
        after = held_out_error(problem, held_out)
        assert after is not None
        record.error_after = after[0]
        record.kept_nearest = after[0] > before[0]
    if record.kept_nearest:
        _install(problem, simple, problem.bias)
    else:
        record.changed = float(np.mean(integers != simple))
    for step in steps:
        record.undecided = step.undecided
        record.iterations += step.course.iterations[-1] if step.course else 0
        record.stopped_early = step.stopped_early
        record.course = step.course or record.course
    record.seconds = time.perf_counter() - started
    return record


def held_out_error(problem: RoundingProblem, held_out: np.ndarray) -> tuple[float, float] | None:
    """Returns the mean squared error and the mean square of the target, summed over channels; None without samples.

    Args:
        problem: of the layer, as it is now.
        held_out: sorted numbers of the samples.
    """
    if not len(held_out):
        return None
    activation = activation_in_loss(problem)
    kernel, bias = problem.layer.kernel, problem.data.quantized_bias()
    error = signal = 0.0
    positions = 0
    for inputs, target in problem.batches(held_out):
        wanted = activation(ops.convert_to_tensor(target))
        output = activation(problem.data.output_of(inputs, kernel, bias))
        error += float(ops.sum(ops.square(wanted - output)))
        signal += float(ops.sum(ops.square(wanted)))
        positions += target.size // target.shape[-1]
    return error / positions, signal / positions


def _why_another_solver(problem: RoundingProblem) -> str | None:
    if problem.solver is problem.config.solver:
        return None
    return (
        f"its matrices take {problem.needed_megabytes:,.0f} MB, more than memory_limit_mb="
        f"{problem.config.memory_limit_mb}: sgd in the place of {problem.config.solver.name}"
    )


def _install(problem: RoundingProblem, integers: np.ndarray, bias: np.ndarray | None) -> None:
    """Puts the kernel on the grid, in float32 exactly as the quantizer would, and sets the bias."""
    layer = problem.layer
    kernel = problem.form.to_kernel(integers).astype("float32")
    layer.kernel.assign(kernel * ops.convert_to_numpy(layer.kernel_quantizer.scale))
    if bias is not None:
        layer.bias.assign(bias)


def _fit_bias(problem: RoundingProblem, kernel: np.ndarray) -> None:
    """Gives the bias the mean error; where it would not fit into the accumulator it stays as it was."""
    layer = problem.layer
    layer.bias.assign(problem.means.fitted_bias(kernel).reshape(-1))
    try:
        layer.require_bias_fits()
    except QuantizationError:
        layer.bias.assign(problem.bias)


def _scale_of_least_output_error(problem: RoundingProblem) -> np.ndarray:
    assert problem.quadratic is not None
    gram, quantizer, form = problem.quadratic[0], problem.layer.kernel_quantizer, problem.form

    def feedback(scale):
        return error_feedback(gram, problem.start, scale, problem.lowest, problem.highest)

    return output_mse_scale(
        gram,
        problem.start,
        problem.lowest,
        problem.highest,
        per_channel=quantizer.per_channel,
        power_of_two=quantizer.scale_kind == "power_of_two",
        rounding=feedback if form.groups * form.rows**2 * form.columns <= SEARCHED_PRODUCTS else None,
    )
