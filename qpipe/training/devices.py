"""The devices of this machine that a data-parallel training uses."""

from __future__ import annotations

import keras

from qpipe.errors import ConfigError


def devices() -> list[str]:
    """Returns all GPUs, or all CPUs where there is none (more than one where TensorFlow was told to make them).

    Raises:
        ConfigError: Keras does not compute with TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise ConfigError(
            f"training.distribution: mirrored needs the TensorFlow backend, not {keras.backend.backend()}"
        )
    import tensorflow as tf

    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in found]
