import keras
import numpy as np
import pytest
import tensorflow as tf

from qpipe.numerics import scale_for_maximum
from qpipe.quantizers.backend import clip, mean_square, nearest_from_zero, nearest_multiple, within

VALUES = np.array([-np.inf, -300.5, -128.0, -127.5, -0.0, 0.25, 126.9, 127.0, 127.1, np.inf, np.nan], "float32")


def gradient(function, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x, -128.0, 127.0)
    return tape.gradient(y, x).numpy()


@pytest.mark.parametrize("ends", [(-128, 127), (-128.0, 127.0), (0.0, 0.0)])
@pytest.mark.parametrize("as_tensors", [False, True])
@pytest.mark.parametrize("in_graph", [False, True])
def test_clip_in_one_pass_is_the_portable_clip(ends, as_tensors, in_graph):
    lowest, highest = (tf.constant(end, "float32") for end in ends) if as_tensors else ends
    function = tf.function(clip) if in_graph else clip
    expected = keras.ops.clip(VALUES, *(np.float32(end) for end in ends))
    np.testing.assert_array_equal(function(tf.constant(VALUES), lowest, highest), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_clip_keeps_the_type_of_its_tensor(dtype):
    x = keras.ops.convert_to_tensor([-3.0, 0.5, 3.0], dtype)
    clipped = clip(x, tf.constant(-1.0), 2)
    assert keras.backend.standardize_dtype(clipped.dtype) == dtype
    assert keras.ops.convert_to_numpy(keras.ops.cast(clipped, "float32")).tolist() == [-1.0, 0.5, 2.0]


def test_clip_has_the_gradient_of_the_portable_clip():
    x = np.array([-300.0, -127.5, 0.0, 126.0, 200.0], "float32")
    np.testing.assert_array_equal(gradient(clip, x), gradient(keras.ops.clip, x))


def test_the_portable_clip_is_taken_without_tensorflow(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "another")
    np.testing.assert_array_equal(clip(keras.ops.convert_to_tensor(VALUES), -1.0, 2.0), np.clip(VALUES, -1.0, 2.0))


@pytest.fixture(params=["tensorflow", "another"])
def backend(request, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: request.param)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("scale", [2.0**-7, 0.037, 1.7e-5])
def test_nearest_multiples_are_products_with_the_very_scale(scale, rng):
    """Ties included, where the scale is a power of two; up to 2^17 multiples of either sign."""
    scale = np.float32(scale)
    halves = np.arange(-40, 41, dtype="float32") / 2
    steps = np.concatenate([halves, rng.uniform(-70_000, 70_000, 500), [3e5, -3e5]]).astype("float32")
    x = steps * scale
    expected = np.clip(np.rint(x * (np.float32(1.0) / scale)), -(2.0**17), 2.0**17 - 1).astype("float32") * scale
    found = nearest_multiple(keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(scale))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("backend")
def test_a_gradient_passes_within_two_ends_the_ends_included():
    x = np.array([-3.0, -2.0, -1.9, 0.0, 4.9, 5.0, 5.1], "float32")
    upstream = np.arange(1, 8, dtype="float32")
    found = within(*(keras.ops.convert_to_tensor(value) for value in (upstream, x, np.float32(-2), np.float32(5))))
    assert np.array(found).tolist() == [0, 2, 3, 4, 5, 6, 0]


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("bitwidth", [2, 8, 16])
@pytest.mark.parametrize("high", [6.0, 0.37, 255.0 / 64, 0.0])
def test_nearest_from_zero_are_products_with_the_scale(high, bitwidth, rng):
    """Ties included, where the scale is a power of two; a range without width gives zeros."""
    highest = 2**bitwidth - 1
    scale = scale_for_maximum(np.array(high, "float32"), highest)
    steps = np.concatenate([[-2.0, -0.5, 0.0, 0.5, 1.5, 2.5], rng.uniform(-9, highest + 9, 500)]).astype("float32")
    x = steps * scale
    found = nearest_from_zero(*(tf.constant(value, tf.float32) for value in (x, scale, high)), bitwidth)
    integers = np.array(found, "float64") / scale
    if high == 0.0:
        assert not np.any(found)
        return
    np.testing.assert_array_equal(np.rint(integers).astype("float32") * scale, found)
    distance = np.abs(integers - np.clip(steps, 0, highest))
    assert distance.max() <= 0.5 + highest * 2.0**-22
    if high == 255.0 / 64 and bitwidth == 8:
        np.testing.assert_array_equal(integers, np.clip(np.rint(steps), 0, highest))


@pytest.mark.usefixtures("backend")
def test_mean_of_squares_over_some_axes(rng):
    x = rng.normal(size=(3, 4, 5)).astype("float32")
    np.testing.assert_allclose(mean_square(tf.constant(x), [0, 1]), np.square(x).mean((0, 1)), rtol=1e-6)
