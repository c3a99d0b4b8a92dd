"""Descent in the error of a layer's output by moves of single weights and of pairs; NumPy in float64.

The error of a column is wᵀ G w - 2 wᵀ c: in one weight a parabola, in two a quadratic form of two variables.
"""

from __future__ import annotations

import numpy as np

LEAST_GAIN = 1e-9
"""Of a move, as a share of what a step costs: less is the rounding of sums."""


def coordinate_descent(
    gram: np.ndarray,
    cross: np.ndarray,
    integers: np.ndarray,
    scale: np.ndarray,
    lowest: int,
    highest: int,
    *,
    sweeps: int = 50,
) -> np.ndarray:
    """Moves single weights to the integer with the least error until no move helps.

    Args:
        gram: (groups, rows, rows).
        cross: (groups, rows, columns): E[a t].
        integers: where to start, (groups, rows, columns).
        scale: (groups, columns).
        lowest: smallest integer.
        highest: largest integer.
        sweeps: at most so many passes over all weights.
    """
    integers = integers.copy()
    curvature = np.einsum("gkk->gk", gram)
    residual = cross - gram @ (integers * scale[:, np.newaxis, :])
    for _ in range(sweeps):
        moved = False
        for row in range(gram.shape[1]):
            energy = curvature[:, row, np.newaxis] * scale
            step = np.divide(residual[:, row], energy, out=np.zeros_like(energy), where=energy > 0.0)
            change = np.clip(np.rint(integers[:, row] + step), lowest, highest) - integers[:, row]
            change[np.abs(step) <= 0.5 + 1e-9] = 0.0
            if not change.any():
                continue
            moved = True
            integers[:, row] += change
            residual -= gram[:, :, row, np.newaxis] * (change * scale)[:, np.newaxis, :]
        if not moved:
            break
    return integers


def pair_descent(
    gram: np.ndarray,
    cross: np.ndarray,
    integers: np.ndarray,
    scale: np.ndarray,
    lowest: int,
    highest: int,
    *,
    sweeps: int = 10,
) -> np.ndarray:
    """Moves two weights of a column by one step each, the pair with the largest gain, until no pair helps.

    Two inputs that are alike can pass a step from one to the other, which no single move does. A sweep takes some
    rows² * columns operations.

    Args:
        gram: (groups, rows, rows).
        cross: (groups, rows, columns): E[a t].
        integers: where to start, (groups, rows, columns).
        scale: (groups, columns).
        lowest: smallest integer.
        highest: largest integer.
        sweeps: at most so many passes over all weights.
    """
    integers = integers.copy()
    squares = (scale**2)[:, np.newaxis, :]
    curvature = np.einsum("gkk->gk", gram)[:, :, np.newaxis] * squares
    residual = cross - gram @ (integers * scale[:, np.newaxis, :])
    for _ in range(sweeps):
        moved = False
        for row in range(gram.shape[1]):
            group, column, *move = _best_partners(gram, curvature, residual, integers, scale, row, lowest, highest)
            if not len(group):
                continue
            moved = True
            partner, own_step, partner_step = move
            integers[group, row, column] += own_step
            integers[group, partner, column] += partner_step
            change = gram[group, row] * own_step[:, np.newaxis] + gram[group, partner] * partner_step[:, np.newaxis]
            residual[group, :, column] -= change * scale[group, column, np.newaxis]
        if not moved:
            break
    return integers


def _best_partners(gram, curvature, residual, integers, scale, row: int, lowest: int, highest: int):
    """Returns the moves of one row with a partner that gain: group, column, partner, step of row and of partner."""
    slope = 2.0 * scale[:, np.newaxis, :] * residual
    up = np.where(integers < highest, curvature - slope, np.inf)
    down = np.where(integers > lowest, curvature + slope, np.inf)
    coupling = 2.0 * gram[:, :, row, np.newaxis] * (scale**2)[:, np.newaxis, :]
    best = -LEAST_GAIN * curvature[:, row]
    partner, own_step, partner_step = (np.zeros(best.shape, dtype) for dtype in (int, float, float))
    for step, own in ((1.0, up[:, row]), (-1.0, down[:, row])):
        with_up, with_down = up + step * coupling, down - step * coupling
        with_up[:, row] = with_down[:, row] = np.inf
        change = np.minimum(with_up, with_down)
        candidate = change.argmin(axis=1)
        at = candidate[:, np.newaxis]
        total = own + np.take_along_axis(change, at, 1)[:, 0]
        goes_up = np.take_along_axis(with_up, at, 1)[:, 0] <= np.take_along_axis(with_down, at, 1)[:, 0]
        better = total < best
        best = np.where(better, total, best)
        partner = np.where(better, candidate, partner)
        own_step = np.where(better, step, own_step)
        partner_step = np.where(better, np.where(goes_up, 1.0, -1.0), partner_step)
    group, column = np.nonzero(own_step)
    return group, column, *(array[group, column] for array in (partner, own_step, partner_step))
