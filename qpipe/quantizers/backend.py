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
