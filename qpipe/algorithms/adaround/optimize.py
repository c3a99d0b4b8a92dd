"""The loop of AdaRound: many iterations per call of a compiled function, an optimizer of its own for each layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from qpipe.algorithms.adaround.core import SoftRounding, hardened, undecided

ITERATIONS_PER_CALL = 100
HISTOGRAM_BINS = 20

Gradient = Callable[[Any, Any, tuple], tuple[Any, Any]]
"""From (V, iteration, data) to the reconstruction loss and its gradient by h."""


@dataclass
class Course:
    """How an optimization went, at the end of every call.

    Attributes:
        iterations: iterations that are done.
        loss: the reconstruction loss there, with sgd on the last iteration's batch.
        decided: share of the weights whose h is within 10^-3 of 0 or 1.
        histograms: counts of h in 20 bins from 0 to 1.
    """

    iterations: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    decided: list[float] = field(default_factory=list)
    histograms: list[list[int]] = field(default_factory=list)


@dataclass
class Rounded:
    """The integers of a layer, and how they were found.

    Attributes:
        integers: in the shape in which the problem was posed.
        undecided: weights whose h was not within 10^-3 of 0 or 1 before hardening.
        course: None where nothing was iterated.
        stopped_early: whether every weight was decided before the last iteration.
    """

    integers: np.ndarray
    undecided: int = 0
    course: Course | None = None
    stopped_early: bool = False


def default_optimizer(learning_rate: float) -> keras.optimizers.Optimizer:
    """Returns the paper's optimizer."""
    return keras.optimizers.Adam(learning_rate)


def optimize(
    soft: SoftRounding,
    lower: np.ndarray,
    h: np.ndarray,
    gradient: Gradient,
    *,
    optimizer: keras.optimizers.Optimizer,
    data: Callable[[int], tuple],
    jit_compile: bool,
    on_call: Callable[[int, float, float], None] = lambda iteration, loss, decided: None,
) -> Rounded:
    """Learns which weights are rounded up.

    Args:
        soft: the constants.
        lower: lower integer of every weight.
        h: where h starts, shape of `lower`.
        gradient: of the reconstruction loss.
        optimizer: a copy of it, without any state, is used.
        data: returns for the iteration with which a call begins what `gradient` needs.
        jit_compile: whether the loop is compiled by XLA: only for loops over small matrices.
        on_call: called after every call with the iterations that are done, the loss, and the share of decided weights.

    Returns:
        The hardened integers.
    """
    v = keras.Variable(soft.start(h), name="v")
    run = _compiled(soft, gradient, v, _fresh(optimizer, v), jit_compile)
    course = Course()
    stopped = False
    for first, count in _calls(soft.iterations):
        loss = run(tf.constant(first), tf.constant(count), data(first))
        now = soft.h(v.value).numpy()
        share = 1.0 - undecided(now) / max(now.size, 1)
        course.iterations.append(first + count)
        course.loss.append(float(loss))
        course.decided.append(share)
        course.histograms.append(np.histogram(now, HISTOGRAM_BINS, (0.0, 1.0))[0].tolist())
        on_call(first + count, float(loss), share)
        if share == 1.0:
            stopped = first + count < soft.iterations
            break
    now = soft.h(v.value).numpy()
    return Rounded(hardened(lower, now), undecided(now), course, stopped)


def _calls(iterations: int) -> Iterator[tuple[int, int]]:
    for first in range(0, iterations, ITERATIONS_PER_CALL):
        yield first, min(ITERATIONS_PER_CALL, iterations - first)


def _fresh(optimizer: keras.optimizers.Optimizer, v: keras.Variable) -> keras.optimizers.Optimizer:
    """Returns a new optimizer of the same configuration, with slots and a step count of its own."""
    own = type(optimizer).from_config(optimizer.get_config())
    own.build([v])
    return own


def _compiled(soft: SoftRounding, gradient: Gradient, v: keras.Variable, optimizer, jit_compile: bool):
    @tf.function(jit_compile=jit_compile, reduce_retracing=True)
    def run(first, count, data):
        def body(index):
            h, by_v = soft.h_and_chain_rule(v.value)
            _, slope = gradient(h, index, data)
            slope += soft.penalty_slope(h, soft.beta(index), soft.weight_of_penalty(index))
            optimizer.apply([by_v(slope)], [v])
            return index + 1

        last = tf.while_loop(lambda index: index < first + count, body, (first,))[0] - 1
        return gradient(soft.h(v.value), last, data)[0]  # the loop computes no loss: nothing there uses it

    return run
