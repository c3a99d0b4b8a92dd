"""What Keras' portable operations can't say, each with a portable fallback."""

from __future__ import annotations

import keras


def read_now(variable):
    """Returns a variable's present value as a NumPy array, also while a TensorFlow graph is traced.

    None where the backend can't tell (symbolic tracing of other backends).
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.init_scope():
            return variable.value.numpy()
    try:
        return keras.ops.convert_to_numpy(variable)
    except Exception:
        return None


def as_tensor(value):
    """Returns the value of a variable, number or tensor as a tensor.

    With TensorFlow `keras.ops.convert_to_tensor` hands variables through, which custom gradients refuse.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.convert_to_tensor(keras.ops.convert_to_tensor(value))
    return keras.ops.convert_to_tensor(value)


def clip(x, lowest, highest):
    """Returns `x`, cut off at two scalars; with TensorFlow in one pass over it instead of two.

    Args:
        x: floating-point tensor.
        lowest: scalar number or tensor.
        highest: scalar number or tensor, not below `lowest`.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
        lowest, highest = (tf.cast(end, x.dtype) for end in (lowest, highest))
        return tf.raw_ops.ClipByValue(t=x, clip_value_min=lowest, clip_value_max=highest)
    return keras.ops.clip(x, lowest, highest)
