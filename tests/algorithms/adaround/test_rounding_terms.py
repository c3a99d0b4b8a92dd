"""Soft rounding against the paper's formulas in float64 NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from qpipe.algorithms.adaround.core import SoftRounding, hardened, nearest, rounding_down, undecided


def paper_h(v, zeta=1.1, gamma=-0.1):
    return np.clip((zeta - gamma) / (1.0 + np.exp(-np.asarray(v, np.float64))) + gamma, 0.0, 1.0)


def test_h_and_its_slope():
    v = np.linspace(-6.0, 6.0, 241)
    soft = SoftRounding()
    np.testing.assert_allclose(soft.h(tf.constant(v)), paper_h(v), atol=1e-9)
    step = 1e-6
    expected = (paper_h(v + step) - paper_h(v - step)) / (2 * step)
    smooth = (paper_h(v - step) > 0) & (paper_h(v + step) < 1)
    upstream = np.linspace(1.0, 3.0, v.size)
    _, by_v = soft.h_and_chain_rule(tf.constant(v))
    np.testing.assert_allclose(by_v(tf.constant(upstream))[smooth], (upstream * expected)[smooth], rtol=1e-5)
    _, by_v = soft.h_and_chain_rule(tf.constant([-9.0, 9.0]))
    np.testing.assert_array_equal(by_v(tf.constant([1.0, 1.0])), [0.0, 0.0])


@pytest.mark.parametrize("ends", [(1.1, -0.1), (1.3, -0.05)])
def test_start_gives_any_h_with_both_ends(ends):
    soft = SoftRounding(zeta=ends[0], gamma=ends[1])
    h = np.array([0.0, 0.001, 0.3, 0.5, 0.97, 1.0])
    np.testing.assert_allclose(paper_h(soft.start(h), *ends), h, atol=1e-6)


def test_beta_is_annealed_by_a_cosine_after_the_warm_start():
    soft = SoftRounding(iterations=1000, warm_start=0.2, beta_start=20.0, beta_end=2.0)
    values = [float(soft.beta(tf.constant(i))) for i in (0, 200, 600, 1000)]
    assert values == pytest.approx([20.0, 20.0, 11.0, 2.0], abs=1e-4)
    weights = [float(soft.weight_of_penalty(tf.constant(i))) for i in (0, 199, 200, 999)]
    assert weights == pytest.approx([0.0, 0.0, 0.01, 0.01])


def test_penalty_is_a_sum_over_weights_and_its_slope_is_its_derivative():
    h = np.random.default_rng(0).uniform(0.05, 0.95, (4, 5))
    soft = SoftRounding()
    assert float(soft.penalty(tf.constant(h), 3.5)) == pytest.approx(np.sum(1 - np.abs(2 * h - 1) ** 3.5))
    assert float(soft.penalty(tf.constant(np.tile(h, (2, 1))), 3.5)) == pytest.approx(
        2 * np.sum(1 - np.abs(2 * h - 1) ** 3.5)
    )
    step = 1e-6
    expected = (1 - np.abs(2 * (h + step) - 1) ** 3.5 - (1 - np.abs(2 * (h - step) - 1) ** 3.5)) / (2 * step)
    slope = soft.penalty_slope(tf.constant(h), tf.constant(3.5, tf.float64))
    np.testing.assert_allclose(slope, expected, rtol=1e-5)


@pytest.mark.parametrize("beta", [20.0, 2.0, 1.5])
def test_the_penalty_has_no_slope_half_way(beta):
    assert float(SoftRounding().penalty_slope(tf.constant(0.5), tf.constant(beta))) == 0.0


def test_the_soft_weight_starts_at_the_float_weight():
    kernel = np.random.default_rng(0).uniform(-0.69, 0.69, (2, 5, 3))
    scale = np.full((2, 3), 0.1)
    lower, h = rounding_down(kernel, scale, -7, 7)
    np.testing.assert_array_equal(lower, np.floor(kernel / 0.1))
    np.testing.assert_allclose(0.1 * (lower + h), kernel)


def test_weights_beyond_the_range_are_decided_from_the_start():
    """Others leave them without a gradient and count them as undecided for ever."""
    kernel = np.array([[[0.95], [-0.95], [0.7], [-0.7], [0.31]]])
    lower, h = rounding_down(kernel, np.full((1, 1), 0.1), -7, 7)
    np.testing.assert_allclose(h[0, :, 0], [1.0, 0.0, 1.0, 0.0, 0.1], atol=1e-9)
    assert (hardened(lower, h)[0, :, 0] == [7, -7, 7, -7, 3]).all()
    assert undecided(h[:, :4]) == 0
    assert undecided(h) == 1


def test_hardened_h_is_0_or_1_whatever_was_undecided():
    h = np.array([0.0, 0.2, 0.499, 0.5, 0.8, 1.0])
    np.testing.assert_array_equal(hardened(np.full(6, -2.0), h), [-2, -2, -2, -1, -1, -1])
    assert undecided(h) == 4
    assert undecided(np.array([0.0009, 0.9991])) == 0


def test_nearest_rounds_ties_to_even_in_float32():
    kernel = np.array([[[0.25], [0.75], [-0.25], [9.0]]])
    np.testing.assert_array_equal(nearest(kernel, np.full((1, 1), 0.5), -3, 3)[0, :, 0], [0, 2, 0, 3])
