"""AdaRound: soft rounding, its regularization, and hardening (Nagel et al., arXiv 2004.10568)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

DECIDED = 1e-3
"""A weight counts as decided when its h is this close to 0 or 1."""


SMALLEST_SQUARE = 1e-30
"""Of the distance to h = 1/2: keeps the power of 0 a number."""


@dataclass(frozen=True, kw_only=True)
class SoftRounding:
    """The constants of soft rounding.

    Attributes:
        zeta: upper end of the stretched sigmoid.
        gamma: its lower end.
        regularization: the factor lambda of the penalty.
        beta_start: exponent of the penalty when it sets in.
        beta_end: exponent at the end.
        warm_start: share of the iterations without penalty.
        iterations: of the whole optimization.
    """

    zeta: float = 1.1
    gamma: float = -0.1
    regularization: float = 0.01
    beta_start: float = 20.0
    beta_end: float = 2.0
    warm_start: float = 0.2
    iterations: int = 10_000

    def h(self, v):
        """Returns the rectified sigmoid clip(sigmoid(V) (zeta - gamma) + gamma, 0, 1) (equation 23)."""
        return self.h_and_chain_rule(v)[0]

    def h_and_chain_rule(self, v) -> tuple[Any, Callable[[Any], Any]]:
        """Returns h, and what makes a gradient by V of one by h: times dh / dV, which is 0 where h is cut off."""
        width = self.zeta - self.gamma
        sigmoid = tf.sigmoid(v)
        stretched = sigmoid * width + self.gamma
        h = tf.raw_ops.ClipByValue(t=stretched, clip_value_min=0.0, clip_value_max=1.0)

        def by_v(by_h):
            inside = tf.where(tf.equal(h, stretched), by_h, 0.0)
            return tf.raw_ops.SigmoidGrad(y=sigmoid, dy=inside * width)

        return h, by_v

    def start(self, h: np.ndarray) -> np.ndarray:
        """Returns the V at which h(V) has the given values, 0 and 1 included."""
        share = (np.asarray(h, np.float64) - self.gamma) / (self.zeta - self.gamma)
        return np.log(share / (1.0 - share)).astype("float32")

    def beta(self, iteration):
        """Returns the exponent, annealed by a cosine from the end of the warm start to the last iteration."""
        warm = self.warm_start * self.iterations
        progress = (tf.cast(iteration, tf.float32) - warm) / max(self.iterations - warm, 1.0)
        progress = tf.clip_by_value(progress, 0.0, 1.0)
        return self.beta_end + 0.5 * (self.beta_start - self.beta_end) * (1.0 + tf.cos(progress * np.pi))

    def weight_of_penalty(self, iteration):
        """Returns lambda, and 0 during the warm start."""
        warm = tf.cast(iteration, tf.float32) < self.warm_start * self.iterations
        return tf.where(warm, 0.0, self.regularization)

    def penalty(self, h, beta):
        """Returns the sum over weights of 1 - |2 h - 1|^beta (equation 24)."""
        return tf.reduce_sum(1.0 - tf.pow(tf.abs(2.0 * h - 1.0), beta))

    def penalty_slope(self, h, beta, weight=1.0):
        """Returns the derivative of the penalty by h, -2 beta d |d|^(beta - 2) with d = 2 h - 1, times its weight.

        The power as an exponential takes a third of the time.
        """
        distance = 2.0 * h - 1.0
        logarithm = tf.math.log(tf.maximum(tf.square(distance), SMALLEST_SQUARE))
        return (-2.0 * weight * beta) * distance * tf.exp((0.5 * beta - 1.0) * logarithm)


def rounding_down(kernel: np.ndarray, scale: np.ndarray, lowest: int, highest: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lower integer of every weight and the h at which the soft weight is the weight.

    A weight beyond the range has the last two integers to choose from and starts at the last one, so that it is
    decided from the beginning instead of being without a gradient for ever.

    Args:
        kernel: (groups, rows, columns) continuous weights.
        scale: (groups, columns).
        lowest: smallest integer.
        highest: largest integer.
    """
    ratio = np.asarray(kernel, np.float64) / np.asarray(scale, np.float64)[:, np.newaxis, :]
    lower = np.clip(np.floor(ratio), lowest, highest - 1)
    return lower, np.clip(ratio - lower, 0.0, 1.0)


def nearest(kernel: np.ndarray, scale: np.ndarray, lowest: int, highest: int) -> np.ndarray:
    """Returns the nearest integers, ties to even, as the quantizer rounds in float32."""
    ratio = np.asarray(kernel, np.float32) / np.asarray(scale, np.float32)[:, np.newaxis, :]
    return np.clip(np.rint(ratio), lowest, highest).astype("float64")


def hardened(lower: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Returns the integers: every h becomes 0 or 1."""
    return lower + (np.asarray(h) >= 0.5)


def undecided(h: np.ndarray) -> int:
    """Returns how many weights are not within 10^-3 of 0 or 1."""
    h = np.asarray(h)
    return int(np.sum(np.minimum(h, 1.0 - h) > DECIDED))
