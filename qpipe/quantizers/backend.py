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
