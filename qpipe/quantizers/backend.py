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


def replicas() -> int:
    """Returns on how many replicas the step that is being traced runs at once."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.distribute.get_strategy().num_replicas_in_sync
    return 1


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


def mean_square(x, axes: list[int]):
    """Returns the mean of x^2 over some axes; with TensorFlow without a tensor of squares.

    Args:
        x: floating-point tensor.
        axes: over which the mean is taken.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        norm = tf.math.reduce_euclidean_norm(x, axes)
        return tf.square(norm) * (tf.cast(tf.size(norm), x.dtype) / tf.cast(tf.size(x), x.dtype))
    return keras.ops.mean(keras.ops.square(x), axis=axes)


LARGEST_MULTIPLE_BITS = 18


def nearest_multiple(x, scale):
    """Returns scale * rint(x * (1 / scale)), ties to even, cut off at 2^17 multiples on either side.

    With TensorFlow in one pass: its kernel derives its factors from the range [-2^17 * scale, (2^17 - 1) * scale],
    which gives 1 / scale and, exactly, `scale`.

    Args:
        x: floating-point tensor.
        scale: positive float32 scalar tensor.
    """
    largest = 2.0 ** (LARGEST_MULTIPLE_BITS - 1)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        scale = tf.cast(scale, x.dtype)
        return tf.raw_ops.QuantizeAndDequantizeV2(
            input=x,
            input_min=scale * -largest,
            input_max=tf.zeros((), x.dtype),
            signed_input=True,
            num_bits=LARGEST_MULTIPLE_BITS,
            range_given=True,
            round_mode="HALF_TO_EVEN",
        )
    return keras.ops.clip(keras.ops.round(x * (1.0 / scale)), -largest, largest - 1.0) * scale


def nearest_from_zero(x, scale, high, bitwidth: int):
    """Returns scale * rint(x / scale), ties to even, cut off at 0 and `high`; with TensorFlow in one pass.

    Args:
        x: floating-point tensor.
        scale: float32 scalar tensor, high / (2^bitwidth - 1) correctly rounded, as TensorFlow's kernel derives it.
        high: non-negative float32 scalar tensor; if it is 0, so is the result.
        bitwidth: of the integers from 0.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.raw_ops.QuantizeAndDequantizeV2(
            input=x,
            input_min=tf.zeros((), x.dtype),
            input_max=tf.cast(high, x.dtype),
            signed_input=False,
            num_bits=bitwidth,
            range_given=True,
            round_mode="HALF_TO_EVEN",
        )
    multiples = keras.ops.round(keras.ops.clip(x, 0.0, high) / scale) * scale
    return keras.ops.where(high > 0.0, multiples, 0.0)


def within(gradient, x, lowest, highest):
    """Returns `gradient` where `x` lies between two scalars, ends included, and 0 elsewhere.

    With TensorFlow in one pass, which the comparisons, the cast and the product would take four for.

    Args:
        gradient: floating-point tensor.
        x: tensor of the shape and type of `gradient`.
        lowest: scalar tensor.
        highest: scalar tensor.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.raw_ops.QuantizeAndDequantizeV4Grad(
            gradients=gradient, input=x, input_min=tf.cast(lowest, x.dtype), input_max=tf.cast(highest, x.dtype)
        ).input_backprop
    inside = keras.ops.logical_and(x >= lowest, x <= highest)
    return gradient * keras.ops.cast(inside, gradient.dtype)
