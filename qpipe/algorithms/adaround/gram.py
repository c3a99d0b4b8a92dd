"""AdaRound on the matrices of a layer: an iteration costs the same whatever the number of samples."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from qpipe.algorithms.adaround.core import SoftRounding
from qpipe.algorithms.adaround.optimize import Rounded, optimize


def round_on_matrices(
    soft: SoftRounding,
    gram: np.ndarray,
    cross: np.ndarray,
    energy: float,
    lower: np.ndarray,
    h: np.ndarray,
    scale: np.ndarray,
    **settings,
) -> Rounded:
    """Minimizes wᵀ G w - 2 wᵀ C + const over the soft weights w = s (lower + h).

    Without the activation this is the loss of equation 25 itself, not an approximation.

    Args:
        soft: the constants.
        gram: G, (groups, rows, rows).
        cross: C, (groups, rows, columns).
        energy: the constant.
        lower: lower integers, (groups, rows, columns).
        h: where h starts.
        scale: (groups, columns).
        **settings: of `optimize`.
    """
    scales = scale[:, np.newaxis, :].astype("float32")
    data = tuple(tf.constant(array, tf.float32) for array in (gram, cross, lower, scales, energy))

    def gradient(h, index, data):
        gram, cross, lower, scales, energy = data
        weights = scales * (lower + h)
        product = tf.matmul(gram, weights)
        loss = tf.reduce_sum(weights * (product - 2.0 * cross)) + energy
        return loss, 2.0 * scales * (product - cross)

    return optimize(soft, lower, h, gradient, data=lambda first: data, **settings)
