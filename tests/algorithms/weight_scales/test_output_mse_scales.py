"""Scales of least output error against a dense search, and in the calibration."""

import numpy as np
import pytest
from algorithms.small_networks import folded_network, output_error, quantized, samples

from qpipe.algorithms.adaround.gptq import error_feedback
from qpipe.algorithms.weight_scales.core import output_error as error_of
from qpipe.algorithms.weight_scales.core import output_mse_scale
from qpipe.config.schema import ScaleKind, WeightRange


def problem(rows=10, columns=4, seed=0):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(300, rows)) @ rng.normal(size=(rows, rows))
    return (inputs.T @ inputs / 300)[None], rng.standard_t(3, size=(1, rows, columns))


def nearest_error(gram, kernel, scale):
    integers = np.clip(np.rint(kernel / scale[:, None, :]), -3, 3)
    return error_of(gram, integers * scale[:, None, :] - kernel)


def test_scale_is_the_best_of_a_dense_search():
    gram, kernel = problem()
    ours = nearest_error(gram, kernel, output_mse_scale(gram, kernel, -3, 3))
    largest = np.abs(kernel).max(axis=1) / 3
    dense = np.min([nearest_error(gram, kernel, largest * share) for share in np.linspace(0.25, 1.0, 2000)], axis=0)
    assert (ours <= 1.1 * dense).all()
    assert ours.sum() < nearest_error(gram, kernel, largest).sum()


def test_one_scale_for_all_minimizes_the_sum():
    gram, kernel = problem()
    scale = output_mse_scale(gram, kernel, -3, 3, per_channel=False)
    assert len(np.unique(scale)) == 1
    candidates = np.abs(kernel).max() / 3 * np.linspace(0.25, 1.0, 500)
    dense = min(nearest_error(gram, kernel, np.full((1, 4), value)).sum() for value in candidates)
    assert nearest_error(gram, kernel, scale).sum() <= 1.1 * dense


def test_powers_of_two_and_dead_channels():
    gram, kernel = problem()
    kernel[:, :, 1] = 0.0
    scale = output_mse_scale(gram, kernel, -3, 3, power_of_two=True)
    np.testing.assert_array_equal(np.exp2(np.rint(np.log2(scale))), scale)
    assert np.isfinite(output_mse_scale(gram, kernel, -3, 3)).all()


def test_a_better_rounding_chooses_the_scale_that_is_best_for_it():
    gram, kernel = problem()

    def feedback(scale):
        return error_feedback(gram, kernel, scale, -3, 3)

    def error(scale):
        return error_of(gram, feedback(scale) * scale[:, None, :] - kernel)

    for_nearest = output_mse_scale(gram, kernel, -3, 3)
    for_feedback = output_mse_scale(gram, kernel, -3, 3, rounding=feedback)
    assert error(for_feedback).sum() < error(for_nearest).sum()


@pytest.mark.parametrize("scale", ScaleKind)
def test_calibration_chooses_scales_by_the_output(scale):
    model, unseen = folded_network(), samples(64, seed=9)
    by_output = quantized(model, range_=WeightRange.output_mse, scale=scale)
    by_weights = quantized(model, range_=WeightRange.mse, scale=scale)
    if scale is ScaleKind.float:
        assert output_error(by_output, model, unseen) < output_error(by_weights, model, unseen)
    quantizer = by_output.get_layer("stem").kernel_quantizer
    assert quantizer.fixed
    if scale is ScaleKind.power_of_two:
        np.testing.assert_array_equal(np.exp2(np.rint(np.log2(quantizer.scale))), quantizer.scale)


def test_a_second_calibration_keeps_the_scales():
    from qpipe import calibrate

    model = quantized(folded_network(), range_=WeightRange.output_mse)
    before = np.array(model.get_layer("stem").kernel_quantizer.scale)
    calibrate(model, 2.0 * samples(32, seed=5))
    np.testing.assert_array_equal(np.array(model.get_layer("stem").kernel_quantizer.scale), before)
