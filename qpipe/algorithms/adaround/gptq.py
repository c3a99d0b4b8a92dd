"""Rounding by error feedback on the matrices of a layer, and their continuous solution; NumPy in float64.

GPTQ: Frantar et al., arXiv 2210.17323.
"""

from __future__ import annotations

import numpy as np

BLOCK = 128
SMALLEST_SHARE_OF_ENERGY = 1e-5


def error_feedback(gram: np.ndarray, start: np.ndarray, scale: np.ndarray, lowest: int, highest: int) -> np.ndarray:
    """Rounds one input after the other and moves the ones that are left to make up for the error.

    The most energetic inputs come first. The update of the rest is that of equation 2, with the Cholesky factor of
    the inverse (section 3.3, step 3), for blocks of inputs.

    Args:
        gram: (groups, rows, rows), positive definite.
        start: (groups, rows, columns) continuous weights.
        scale: (groups, columns).
        lowest: smallest integer.
        highest: largest integer.

    Returns:
        Integers (groups, rows, columns).
    """
    groups, rows, _ = gram.shape
    order = np.argsort(-np.einsum("gkk->gk", gram), axis=1, kind="stable")
    group = np.arange(groups)[:, np.newaxis]
    sorted_gram = gram[group[:, :, np.newaxis], order[:, :, np.newaxis], order[:, np.newaxis, :]]
    factor = _upper_factor_of_inverse(sorted_gram)
    weights = start[group, order].copy()
    integers = np.empty_like(weights)
    for begin in range(0, rows, BLOCK):
        end = min(begin + BLOCK, rows)
        errors = np.empty((groups, end - begin, weights.shape[2]))
        for row in range(begin, end):
            integers[:, row] = np.clip(np.rint(weights[:, row] / scale), lowest, highest)
            error = (weights[:, row] - integers[:, row] * scale) / factor[:, row, row, np.newaxis]
            errors[:, row - begin] = error
            rest = factor[:, row, row + 1 : end, np.newaxis] * error[:, np.newaxis, :]
            weights[:, row + 1 : end] -= rest
        weights[:, end:] -= np.swapaxes(factor[:, begin:end, end:], 1, 2) @ errors
    result = np.empty_like(integers)
    result[group, order] = integers
    return result


def _upper_factor_of_inverse(gram: np.ndarray) -> np.ndarray:
    """Returns the upper triangular U with Uᵀ U = G⁻¹, from the Cholesky factor of G in reverse order."""
    reversed_factor = np.linalg.cholesky(gram[:, ::-1, ::-1])
    lower = np.linalg.inv(reversed_factor)
    return np.ascontiguousarray(lower[:, ::-1, ::-1])


def regularized(
    gram: np.ndarray, cross: np.ndarray, kernel: np.ndarray, share: float, energy: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns G + rho I and C + rho w, with rho a share of the mean diagonal of each group.

    Args:
        gram: (groups, rows, rows).
        cross: (groups, rows, columns).
        kernel: the float kernel w, (groups, rows, columns), to which the solution is drawn.
        share: of the mean diagonal; an all-zero matrix takes rho = 1.
        energy: mean square of each group's inputs, where `gram` holds their deviations from the mean: rho is at least
            10^-5 of it, so that the rounding of the sums leaves the matrix positive definite.
    """
    mean = np.einsum("gkk->gk", gram).mean(axis=1)
    rho = share * np.maximum(mean, 0.0)
    if energy is not None:
        rho = np.maximum(rho, SMALLEST_SHARE_OF_ENERGY * energy)
    rho = np.where(rho > 0.0, rho, 1.0)[:, np.newaxis, np.newaxis]
    return gram + rho * np.eye(gram.shape[1]), cross + rho * kernel


def least_squares(gram: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """Returns the continuous kernel G⁻¹ C with the least error."""
    return np.linalg.solve(gram, cross)
