"""The two AdaRound loops against each other, NumPy and brute force."""

import gc
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from qpipe.algorithms.adaround.core import SoftRounding, nearest, rounding_down
from qpipe.algorithms.adaround.gram import round_on_matrices
from qpipe.algorithms.adaround.optimize import default_optimizer
from qpipe.algorithms.adaround.sgd import ALIGNMENT, _on_large_pages, _random_order, round_on_batches, squared_error

SCALE = np.full((1, 4), 0.4)


def layer(samples=256, rows=8, seed=0):
    rng = np.random.default_rng(seed)
    inputs = (rng.normal(size=(samples, rows)) @ rng.normal(size=(rows, rows))).astype("float32")
    kernel = rng.uniform(-1.1, 1.1, (rows, 4)).astype("float32")
    return inputs, kernel, inputs @ kernel


def matrices(inputs, target):
    inputs, target = inputs.astype("float64"), target.astype("float64")
    count = len(inputs)
    return (inputs.T @ inputs / count)[None], (inputs.T @ target / count)[None], float(np.sum(target**2) / count)


def on_matrices(inputs, kernel, target, soft, scale=SCALE, **settings):
    lower, h = rounding_down(kernel[None], scale, -3, 3)
    settings = {"optimizer": default_optimizer(1e-2), "jit_compile": False} | settings
    return round_on_matrices(soft, *matrices(inputs, target), lower, h, scale, **settings)


def on_batches(inputs, kernel, target, soft, batch_size=None, **settings):
    lower, h = rounding_down(kernel[None], SCALE, -3, 3)
    settings = {"optimizer": default_optimizer(1e-2)} | settings
    return round_on_batches(
        soft,
        tf.matmul,
        lambda first: (inputs, target),
        lower[0],
        h[0],
        SCALE,
        batch_size=batch_size,
        seed=0,
        **settings,
    )


def test_both_solvers_take_the_same_course_on_all_samples():
    """Without the activation, and with every sample in every batch, they minimize the same loss."""
    inputs, kernel, target = layer()
    soft = SoftRounding(iterations=600)
    gram, sgd = on_matrices(inputs, kernel, target, soft), on_batches(inputs, kernel, target, soft)
    np.testing.assert_array_equal(gram.integers[0], sgd.integers)
    np.testing.assert_allclose(gram.course.loss, sgd.course.loss, rtol=1e-2, atol=1e-4)
    assert gram.course.iterations == sgd.course.iterations


def test_jit_compiled_loop_gives_the_same():
    inputs, kernel, target = layer()
    soft = SoftRounding(iterations=400)
    plain, compiled = (on_matrices(inputs, kernel, target, soft, jit_compile=jit) for jit in (False, True))
    np.testing.assert_array_equal(plain.integers, compiled.integers)


@pytest.mark.parametrize("seed", range(5))
def test_at_least_half_of_what_nearest_loses_to_the_best_of_all_roundings_comes_back(seed):
    """The best of all 256 roundings of a channel is up to 0.57 of nearest's error: half of nearest is out of reach."""
    inputs, kernel, target = layer(seed=seed)
    result = on_matrices(inputs, kernel, target, SoftRounding(iterations=2000, regularization=1.0))
    gram, _, _ = matrices(inputs, target)

    def error(integers, column):
        difference = integers * 0.4 - kernel[:, column]
        return difference @ gram[0] @ difference

    total = best_total = nearest_total = 0.0
    simple = nearest(kernel[None], SCALE, -3, 3)[0]
    for column in range(4):
        lower = np.floor(kernel[:, column].astype("float64") / 0.4)
        best_total += min(error(lower + bits, column) for bits in itertools.product((0, 1), repeat=8))
        total += error(result.integers[0, :, column], column)
        nearest_total += error(simple[:, column], column)
    assert best_total - 1e-6 <= total <= best_total + 0.5 * (nearest_total - best_total)


def test_loss_is_a_mean_over_positions_and_a_sum_over_channels():
    """As the penalty is a sum over weights: otherwise lambda means something else for every width."""
    rng = np.random.default_rng(0)
    target, output = rng.normal(size=(3, 5, 5, 7)), rng.normal(size=(3, 5, 5, 7))
    expected = np.sum((target - output) ** 2) / (3 * 5 * 5)
    assert float(squared_error(tf.constant(target), tf.constant(output))) == pytest.approx(expected)


def test_a_wider_layer_takes_the_same_course():
    """The same channels twice: every weight goes the way it went in the narrow layer."""
    inputs, kernel, target = layer()
    soft = SoftRounding(iterations=500)
    narrow = on_matrices(inputs, kernel, target, soft)
    wide = on_matrices(inputs, np.tile(kernel, 2), np.tile(target, 2), soft, scale=np.tile(SCALE, 2))
    np.testing.assert_array_equal(wide.integers[0], np.tile(narrow.integers[0], 2))
    assert wide.course.loss[-1] == pytest.approx(2 * narrow.course.loss[-1], rel=1e-2)


def test_it_stops_when_every_weight_is_decided():
    inputs, kernel, target = layer()
    soft = SoftRounding(iterations=20_000, regularization=1.0, beta_start=3.0, warm_start=0.0)
    result = on_matrices(inputs, kernel, target, soft, optimizer=default_optimizer(5e-2))
    assert result.stopped_early
    assert result.course.iterations[-1] < 20_000
    assert (result.undecided, result.course.decided[-1]) == (0, 1.0)


def test_undecided_weights_are_counted_and_hardened():
    inputs, kernel, target = layer()
    result = on_matrices(inputs, kernel, target, SoftRounding(iterations=5))
    assert result.undecided > 20
    np.testing.assert_array_equal(result.integers, np.rint(result.integers))


def test_batches_are_drawn_anew_and_the_seed_decides():
    inputs, kernel, target = layer()
    soft = SoftRounding(iterations=300)
    losses = [on_batches(inputs, kernel, target, soft, batch_size=8).course.loss for _ in range(2)]
    assert losses[0] == losses[1]
    all_samples = on_batches(inputs, kernel, target, soft).course.loss
    assert losses[0] != all_samples


@pytest.mark.parametrize("optimizer", [keras.optimizers.Adam(0.02), keras.optimizers.SGD(0.5, momentum=0.9)])
def test_each_layer_has_an_optimizer_of_its_own(optimizer):
    """One optimizer for all layers would carry slots and its step count from one to the next."""
    inputs, kernel, target = layer()
    soft = SoftRounding(iterations=200)
    losses = [on_matrices(inputs, kernel, target, soft, optimizer=optimizer).course.loss for _ in range(2)]
    assert losses[0] == losses[1]
    assert not optimizer.built


def test_a_loss_of_ones_own():
    inputs, kernel, target = layer()
    huber = keras.losses.Huber()
    result = on_batches(inputs, kernel, target, SoftRounding(iterations=100, warm_start=0.99), loss=huber)
    kept = on_batches(inputs, kernel, target, SoftRounding(iterations=100, warm_start=0.99))
    assert result.course.loss[-1] < kept.course.loss[-1]


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (7, 7), (3, 8), (5, 1)])
def test_windows_draw_every_sample_as_often_as_any_other(count, batch_size):
    order = _random_order(count, batch_size, seed=1)
    windows = np.lib.stride_tricks.sliding_window_view(order, batch_size)
    assert len(windows) == count
    assert set(np.bincount(windows.ravel(), minlength=count)) == {batch_size}
    assert not np.array_equal(order, _random_order(count, batch_size, seed=2))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("spilled", [False, True])
def test_ordered_samples_are_where_a_tensor_may_begin_and_stay_there(dtype, spilled, tmp_path):
    samples = np.arange(5 * 3 * 7, dtype=dtype).reshape(5, 3, 7)
    if spilled:
        np.save(tmp_path / "samples.npy", samples)
        samples = np.load(tmp_path / "samples.npy", mmap_mode="r")
    order = np.array([4, 0, 3, 3, 1, 2])
    expected = samples[order]
    tensor = _on_large_pages(samples, order)
    del samples
    gc.collect()
    assert np.asarray(memoryview(tensor)).ctypes.data % ALIGNMENT == 0
    assert tensor.dtype == dtype
    np.testing.assert_array_equal(tensor[1:4], expected[1:4])


def test_the_written_gradient_of_the_squared_error_is_the_derived_one():
    rng = np.random.default_rng(0)
    target, output = (tf.constant(rng.normal(size=(4, 3, 5)), tf.float32) for _ in range(2))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(output)
        ours = squared_error(target, output)
        derived = tf.reduce_mean(tf.reduce_sum(tf.square(target - output), axis=-1))
    np.testing.assert_allclose(ours, derived, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(ours, output), tape.gradient(derived, output), rtol=1e-5)
