import keras
import numpy as np
import pytest
import tensorflow as tf

from qpipe.quantizers import OutputQuantizer, WeightQuantizer
from qpipe.quantizers.stochastic_rounding import stochastic_fake_quantize


@pytest.fixture
def seed():
    return keras.random.SeedGenerator(5)


def test_the_mean_is_the_value(seed):
    x = np.repeat(np.array([-2.7, -0.1, 0.25, 1.5], "float32"), 40_000)
    y = np.array(stochastic_fake_quantize(x, 1.0, -8.0, 7.0, seed)).reshape(4, -1)
    assert set(np.unique(y)) <= {-3, -2, -1, 0, 1, 2}
    np.testing.assert_allclose(y.mean(axis=1), [-2.7, -0.1, 0.25, 1.5], atol=0.01)


def test_values_on_the_grid_stay(seed):
    x = np.tile(np.arange(-127, 128, dtype="float32"), 400) * np.float32(0.37)
    scale = np.float32(0.37)
    on_grid = x[np.float32(x / scale) == np.rint(x / scale)]
    assert len(on_grid) > 0.8 * len(x)
    np.testing.assert_array_equal(stochastic_fake_quantize(on_grid, scale, -127.0, 127.0, seed), on_grid)


def test_gradient_is_judged_by_the_drawn_integer(seed):
    x = tf.constant(np.repeat(np.array([-9.0, 0.3, 7.5, 9.0], "float32"), 1000))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = stochastic_fake_quantize(x, 1.0, -8.0, 7.0, seed)
    gradient = tape.gradient(y, x).numpy().reshape(4, -1)
    assert not gradient[0].any()
    assert gradient[1].all()
    assert 0.4 < gradient[2].mean() < 0.6
    assert not gradient[3].any()


@pytest.mark.parametrize("in_graph", [False, True])
def test_it_draws_anew_with_every_step_and_again_from_its_seed(in_graph, rng):
    x = tf.constant(rng.normal(size=(50, 3)).astype("float32"))

    def drawn(seed):
        quantizer = OutputQuantizer(bitwidth=4, rounding="stochastic", seed=seed, ema_freeze_delay=0)
        quantizer.set_range(-3.0, 3.0)
        step = tf.function(lambda: quantizer(x, training=True)) if in_graph else lambda: quantizer(x, training=True)
        return [step().numpy() for _ in range(3)]

    assert any("seed" in variable.name for variable in OutputQuantizer(rounding="stochastic").variables)
    first, again, other = drawn(1), drawn(1), drawn(2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


def test_without_a_seed_keras_global_one_decides(rng):
    x = rng.normal(size=(50, 3)).astype("float32")

    def drawn():
        keras.utils.set_random_seed(9)
        quantizer = WeightQuantizer(bitwidth=3, rounding="stochastic")
        quantizer.build(x.shape)
        return np.array(quantizer(x, training=True))

    np.testing.assert_array_equal(drawn(), drawn())


def test_inference_rounds_to_nearest(rng):
    x = rng.normal(size=(50, 3)).astype("float32")
    output = OutputQuantizer(bitwidth=4, rounding="stochastic")
    weight = WeightQuantizer(bitwidth=4, rounding="stochastic")
    plain = WeightQuantizer(bitwidth=4)
    nearest = OutputQuantizer(bitwidth=4)
    for quantizer in (output, nearest):
        quantizer.set_range(-3.0, 3.0)
    for quantizer in (weight, plain):
        quantizer.build(x.shape)
    np.testing.assert_array_equal(output(x), nearest(x))
    np.testing.assert_array_equal(weight(x), plain(x))
    assert not np.array_equal(weight(x, training=True), plain(x))
    scale = plain.scale_of(x)
    np.testing.assert_array_equal(weight.integer(x, scale), plain.integer(x, scale))
