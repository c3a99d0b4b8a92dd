import keras
import numpy as np
import pytest
import tensorflow as tf

from qpipe.quantizers.backend import clip

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
