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


def channel_moments(x):
    """Returns mean and biased variance over every axis but the last; with TensorFlow in one fused operation.

    Args:
        x: float32 tensor of any rank from 2 on, the channels last.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        channels = x.shape[-1]
        fused = tf.raw_ops.FusedBatchNormV3(
            x=tf.reshape(x, (1, 1, -1, channels)),
            scale=tf.ones(channels),
            offset=tf.zeros(channels),
            mean=tf.zeros(0),
            variance=tf.zeros(0),
            is_training=True,
        )
        values = tf.cast(tf.size(x) // channels, x.dtype)
        return fused.batch_mean, fused.batch_variance * ((values - 1.0) / values)
    return keras.ops.moments(x, axes=list(range(len(x.shape) - 1)))
