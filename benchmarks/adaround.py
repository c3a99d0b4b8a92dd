"""Time of one AdaRound iteration, against one forward and backward pass of the bare layer.

    python benchmarks/adaround.py
    python benchmarks/adaround.py --iterations 5000

Conv2D 64 to 64, 3x3 on 16x16, batch 32, 1,024 samples, all in one process and in turns; prints ratios of medians.
Setting up (the matrices; the cached outputs) is not part of an iteration and is printed beside it, in bare passes.
The held-out errors are of 128 samples that no solver saw.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from qpipe.tensorflow_import import import_tensorflow

import_tensorflow()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from qpipe.algorithms.adaround.core import SoftRounding, nearest, rounding_down  # noqa: E402
from qpipe.algorithms.adaround.descent import coordinate_descent, pair_descent  # noqa: E402
from qpipe.algorithms.adaround.gptq import error_feedback, regularized  # noqa: E402
from qpipe.algorithms.adaround.gram import round_on_matrices  # noqa: E402
from qpipe.algorithms.adaround.optimize import ITERATIONS_PER_CALL, default_optimizer  # noqa: E402
from qpipe.algorithms.adaround.sgd import round_on_batches  # noqa: E402
from qpipe.algorithms.layerwise.matrix_form import matrix_form  # noqa: E402
from qpipe.algorithms.layerwise.moments import moments  # noqa: E402
from qpipe.layers import QConv2D  # noqa: E402

SAMPLES, BATCH, CHUNK = 1024, 32, 64
HIGHEST = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=1000, help="of each solver")
    iterations = parser.parse_args().iterations
    layer, samples, unseen = build()
    form, bare = matrix_form(layer), bare_pass(layer, samples)
    started = time.perf_counter()
    gathered = moments(form, pairs(layer, samples))
    setting_up_matrices = time.perf_counter() - started
    started = time.perf_counter()
    targets = np.concatenate([target for _, target in pairs(layer, samples)])
    setting_up_outputs = time.perf_counter() - started

    kernel = form.to_matrix(layer.kernel).astype("float64")
    gram, cross = regularized(gathered.gram, gathered.cross, kernel, 1e-3)
    scale = np.abs(kernel).max(axis=1) / HIGHEST
    lower, h = rounding_down(kernel, scale, -HIGHEST, HIGHEST)
    soft = SoftRounding(iterations=iterations)

    def on_matrices(jit_compile: bool, on_call: Callable):
        return round_on_matrices(
            soft,
            gram,
            cross,
            float(np.sum(gathered.energy)),
            lower,
            h,
            scale,
            optimizer=default_optimizer(1e-2),
            jit_compile=jit_compile,
            on_call=on_call,
        ).integers

    def on_batches(on_call: Callable):
        integers = round_on_batches(
            soft,
            layer.linear_op,
            lambda first: (samples, targets),
            form.to_kernel(lower),
            form.to_kernel(h),
            form.to_kernel(np.repeat(scale[:, None], form.rows, axis=1))[:1, :1, :1],
            batch_size=BATCH,
            seed=0,
            optimizer=default_optimizer(1e-2),
            on_call=on_call,
        ).integers
        return form.to_matrix(integers)

    held_out = moments(form, pairs(layer, unseen))
    zeros = np.zeros((1, 64))

    def error(integers) -> float:
        return held_out.error(integers * scale[:, None], zeros)

    print(f"bare forward + backward             {bare() * 1e3:8.2f} ms")
    print(f"held-out error, nearest             {error(nearest(kernel, scale, -HIGHEST, HIGHEST)):8.4f}")
    solvers = {
        "sgd": on_batches,
        "gram": lambda on_call: on_matrices(False, on_call),
        "gram, jit-compiled": lambda on_call: on_matrices(True, on_call),
    }
    set_up = {"sgd": setting_up_outputs}
    for name, solver in solvers.items():
        ratio, base, integers = measured(solver, bare)
        print(
            f"{name:35s} {ratio:8.3f} of a bare pass per iteration; setting up: "
            f"{set_up.get(name, setting_up_matrices) / base:5.0f} bare passes; held-out error {error(integers):.4f}"
        )
    started = time.perf_counter()
    integers = error_feedback(gram, kernel, scale, -HIGHEST, HIGHEST)
    for descent in (coordinate_descent, pair_descent):
        integers = descent(gram, cross, integers, scale, -HIGHEST, HIGHEST)
    seconds = time.perf_counter() - started
    name = "gptq"
    print(f"{name:35s} {seconds / bare():8.0f} bare passes in all; held-out error {error(integers):.4f}")


def build():
    """Returns the layer, the samples, and others that nothing is optimized on."""
    rng = np.random.default_rng(0)
    layer = QConv2D(64, 3, padding="same", use_bias=False)
    layer.build((None, 16, 16, 64))
    layer.kernel.assign(rng.normal(0, 0.05, layer.kernel.shape))
    mixing = rng.normal(size=(64, 64)).astype("float32") / 8
    images = np.maximum(rng.normal(size=(SAMPLES + 128, 16, 16, 64)).astype("float32") @ mixing, 0)
    return layer, images[:SAMPLES], images[SAMPLES:]


def pairs(layer, samples):
    for start in range(0, len(samples), CHUNK):
        part = samples[start : start + CHUNK]
        yield part, layer.linear_op(tf.constant(part), layer.kernel).numpy()


def bare_pass(layer, samples) -> Callable[[], float]:
    """Returns a function that gives the median time in seconds of one compiled forward and backward pass."""
    batch = tf.constant(samples[:BATCH])
    target = layer.linear_op(batch, layer.kernel)
    kernel = tf.Variable(layer.kernel.numpy())

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.reduce_sum(tf.square(layer.linear_op(batch, kernel) - target), axis=-1))
        return tape.gradient(loss, kernel)

    def median() -> float:
        times = []
        for _ in range(20):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    median()
    return median


def measured(solver, bare) -> tuple[float, float, np.ndarray]:
    """Returns time per iteration in bare passes, the time of a bare pass in seconds, and the integers."""
    calls, bases = [], []
    moment = time.perf_counter()

    def on_call(iteration, loss, decided):
        nonlocal moment
        calls.append((time.perf_counter() - moment) / ITERATIONS_PER_CALL)
        bases.append(bare())
        moment = time.perf_counter()

    integers = solver(on_call)
    return statistics.median(calls[1:]) / statistics.median(bases), statistics.median(bases), integers


if __name__ == "__main__":
    main()
