"""Error feedback and descent against the paper's plain loop and brute force."""

import itertools

import numpy as np
import pytest

from qpipe.algorithms.adaround.core import nearest
from qpipe.algorithms.adaround.descent import coordinate_descent, pair_descent
from qpipe.algorithms.adaround.gptq import error_feedback, least_squares, regularized


def problem(groups=2, rows=6, columns=3, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(groups, rows, rows)) * np.geomspace(1, 0.1, rows)
    inputs = rng.normal(size=(groups, 400, rows)) @ mixing
    gram = np.swapaxes(inputs, 1, 2) @ inputs / 400 + 1e-3 * np.eye(rows)
    kernel = rng.normal(size=(groups, rows, columns))
    return gram, kernel, np.abs(kernel).max(axis=1) / 3.0


def error(gram, cross, integers, scale):
    kernel = integers * scale[:, np.newaxis, :]
    return np.einsum("gkm,gkl,glm->gm", kernel, gram, kernel) - 2 * np.einsum("gkm,gkm->gm", kernel, cross)


def plain_gptq(gram, kernel, scale, lowest, highest):
    """One row after the other; the inverse is updated by Gaussian elimination (equations 2 and 3)."""
    order = np.argsort(-np.diag(gram), kind="stable")
    weights, inverse = kernel[order].copy(), np.linalg.inv(gram[np.ix_(order, order)])
    integers = np.zeros_like(weights)
    for row in range(len(order)):
        integers[row] = np.clip(np.rint(weights[row] / scale), lowest, highest)
        step = (weights[row] - integers[row] * scale) / inverse[row, row]
        weights[row + 1 :] -= np.outer(inverse[row + 1 :, row], step)
        inverse -= np.outer(inverse[:, row], inverse[row]) / inverse[row, row]
    result = np.empty_like(integers)
    result[order] = integers
    return result


@pytest.mark.parametrize("rows", [6, 300])
def test_error_feedback_is_gptq(rows):
    """With 300 rows the blocks of the update come into play."""
    gram, kernel, scale = problem(rows=rows)
    ours = error_feedback(gram, kernel, scale, -3, 3)
    for group in range(2):
        expected = plain_gptq(gram[group], kernel[group], scale[group], -3, 3)
        assert np.mean(ours[group] != expected) <= (0.0 if rows == 6 else 0.01)


@pytest.mark.parametrize("seed", range(5))
def test_descent_ends_near_the_best_of_all_roundings(seed):
    """Brute force over the 2^8 roundings up or down of each column."""
    gram, kernel, scale = problem(groups=1, rows=8, columns=2, seed=seed)
    cross = gram @ kernel
    start = error_feedback(gram, kernel, scale, -3, 3)
    ours = error(gram, cross, coordinate_descent(gram, cross, start, scale, -3, 3), scale)[0]
    simple = error(gram, cross, nearest(kernel, scale, -3, 3), scale)[0]
    constant = error(gram, cross, kernel / scale[:, np.newaxis, :], scale)[0]
    for column in range(2):
        lower = np.floor(kernel[0, :, column] / scale[0, column])
        best = min(
            error(gram, cross[:, :, [column]], np.clip(lower + bits, -3, 3)[None, :, None], scale[:, [column]])[0, 0]
            for bits in itertools.product((0, 1), repeat=8)
        )
        assert ours[column] - constant[column] <= 1.25 * (best - constant[column])
        assert ours[column] <= simple[column]


def test_descent_stops_where_no_single_move_helps():
    gram, kernel, scale = problem(seed=3)
    cross = gram @ kernel + 0.1
    ours = coordinate_descent(gram, cross, nearest(kernel, scale, -3, 3), scale, -3, 3)
    reached = error(gram, cross, ours, scale)
    for row in range(6):
        for move in (-1, 1):
            other = ours.copy()
            other[:, row] = np.clip(other[:, row] + move, -3, 3)
            assert (error(gram, cross, other, scale) >= reached - 1e-9).all()


@pytest.mark.parametrize("seed", [0, 8, 10])
def test_descent_in_pairs_stops_where_no_pair_helps_and_never_makes_it_worse(seed):
    """Brute force over all pairs of moves from where it stops; ends of the range included."""
    gram, kernel, scale = problem(seed=seed)
    scale = scale / 1.5
    cross = gram @ kernel + 0.1
    start = coordinate_descent(gram, cross, nearest(kernel, scale, -3, 3), scale, -3, 3)
    ours = pair_descent(gram, cross, start, scale, -3, 3, sweeps=100)
    assert (ours != start).any()
    assert np.abs(ours).max() <= 3
    assert (ours == np.rint(ours)).all()
    reached = error(gram, cross, ours, scale)
    assert (reached <= error(gram, cross, start, scale) + 1e-12).all()
    for first, second in itertools.combinations(range(6), 2):
        for moves in itertools.product((-1, 1), repeat=2):
            other = ours.copy()
            other[:, [first, second]] += np.array(moves)[np.newaxis, :, np.newaxis]
            allowed = np.abs(other).max(axis=1) <= 3
            assert (error(gram, cross, other, scale) >= reached - 1e-6)[allowed].all()


def test_two_inputs_that_are_alike_pass_a_step_to_each_other():
    """Each move alone makes it worse: only the pair helps."""
    gram = np.array([[[1.0, 0.99], [0.99, 1.0]]])
    kernel, scale = np.array([[[0.6], [0.4]]]), np.ones((1, 1))
    cross, start = gram @ kernel, np.array([[[0.0], [1.0]]])
    np.testing.assert_array_equal(coordinate_descent(gram, cross, start, scale, -3, 3), start)
    np.testing.assert_array_equal(pair_descent(gram, cross, start, scale, -3, 3), [[[1.0], [0.0]]])


def test_inputs_that_are_always_zero_are_no_trouble():
    gram, kernel, scale = problem()
    gram[:, 2], gram[:, :, 2] = 0.0, 0.0
    regular, cross = regularized(gram, gram @ kernel, kernel, 1e-3)
    integers = error_feedback(regular, least_squares(regular, cross), scale, -3, 3)
    assert np.isfinite(coordinate_descent(regular, cross, integers, scale, -3, 3)).all()
    all_zero, cross = regularized(0.0 * gram, 0.0 * kernel, kernel, 1e-3)
    np.testing.assert_allclose(least_squares(all_zero, cross), kernel)


def test_least_squares_makes_up_for_other_inputs():
    """Targets of inputs a, seen through scaled inputs a / 2: the best kernel is twice as large."""
    gram, kernel, _ = problem()
    gram, cross = regularized(gram / 4, gram @ kernel / 2, kernel, 1e-9)
    np.testing.assert_allclose(least_squares(gram, cross), 2 * kernel, rtol=1e-4)


def test_inputs_that_hardly_vary_are_no_trouble():
    """Their covariances are what rounding left of large sums: not positive definite by themselves."""
    gram, kernel, scale = problem()
    noise = np.random.default_rng(0).normal(size=gram.shape)
    covariance = 1e-6 * (noise + np.swapaxes(noise, 1, 2)) - 1e-6 * np.eye(6)
    regular, cross = regularized(covariance, 0.0 * kernel, kernel, 1e-3, energy=np.ones(2))
    integers = error_feedback(regular, least_squares(regular, cross), scale, -3, 3)
    assert (np.abs(integers) <= 3).all()
    assert np.abs(least_squares(regular, cross) - kernel).max() < np.abs(kernel).max()
