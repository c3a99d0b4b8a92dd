"""Batch and moving statistics of layers that contain a batch normalization, and their freeze."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from qpipe.quantizers.backend import mean_square
from qpipe.quantizers.freezing import until_frozen

_Layer: Any = keras.layers.Layer if TYPE_CHECKING else object

LARGEST_SQUARED_MEAN = 16.0
"""Of a channel, in units of its variance: up to here E[y^2] - E[y]^2 loses 4 of the 24 bits of a float32 variance."""

STATISTICS_ARGUMENTS = (
    "beta_initializer",
    "gamma_initializer",
    "moving_mean_initializer",
    "moving_variance_initializer",
    "beta_regularizer",
    "gamma_regularizer",
    "beta_constraint",
    "gamma_constraint",
)
_GETTERS = {
    "initializer": keras.initializers.get,
    "regularizer": keras.regularizers.get,
    "constraint": keras.constraints.get,
}
_SERIALIZERS = {
    "initializer": keras.initializers.serialize,
    "regularizer": keras.regularizers.serialize,
    "constraint": keras.constraints.serialize,
}


class BatchStatistics(_Layer):
    """Mix-in that owns gamma, beta, the moving statistics and the count of training steps.

    Batch statistics are in use while the layer is called for training, is trainable, and has counted fewer
    than `ema_freeze_delay` training steps; from then on the moving statistics are constant. The traced graph
    looks at the count, unless a training loop knows it and sets `known_frozen` before it traces.

    Args:
        axis: the channel axis, as a number or in a list or tuple; only the last one is supported.
        momentum: of the moving statistics.
        epsilon: added to the variance.
        center: whether there is a beta.
        scale: whether there is a gamma.
        ema_freeze_delay: training steps that use batch statistics; None or a negative number never freezes.
        moments_in_one_pass: whether a batch's variance is E[y^2] - E[y]^2, which is faster; see `choose_moments`.
        *args: of the next class.
        **kwargs: initializers, regularizers and constraints as in `keras.layers.BatchNormalization`;
            the rest goes to the next class.
    """

    def __init__(
        self,
        *args,
        axis: int | list[int] | tuple[int, ...] = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        ema_freeze_delay: int | None = None,
        moments_in_one_pass: bool = False,
        **kwargs,
    ):
        defaults = {"gamma_initializer": "ones", "moving_variance_initializer": "ones"}
        own = {
            name: kwargs.pop(name, defaults.get(name, "zeros" if name.endswith("initializer") else None))
            for name in STATISTICS_ARGUMENTS
        }
        super().__init__(*args, **kwargs)
        self.axis = axis if isinstance(axis, int) else axis[0] if len(axis) == 1 else tuple(axis)
        self.momentum = momentum
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self.ema_freeze_delay = None if ema_freeze_delay is not None and ema_freeze_delay < 0 else ema_freeze_delay
        self.moments_in_one_pass = moments_in_one_pass
        self.known_frozen: bool | None = None
        for name, value in own.items():
            setattr(self, name, _GETTERS[name.rsplit("_", 1)[1]](value))

    def require_last_axis(self, shape) -> None:
        """Raises a ValueError if the channel axis is not the last one of `shape`."""
        if self.axis not in (-1, len(shape) - 1):
            raise ValueError(f"{self.name}: axis={self.axis} of the shape {tuple(shape)} is not the last axis")

    def build_statistics(self, channels: int) -> None:
        """Creates gamma and beta (where there are any), the moving statistics and the step count."""
        self.gamma = self._parameter("gamma", channels) if self.scale else None
        self.beta = self._parameter("beta", channels) if self.center else None
        self.moving_mean = self._moving("moving_mean", channels)
        self.moving_variance = self._moving("moving_variance", channels)
        self.steps = self.add_weight(
            name="steps",
            shape=(),
            initializer="zeros",
            dtype="int64",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )

    def choose(self, training, with_batch, with_moving):
        """Calls the branch that applies; the choice is made before anything is written."""
        if not (training and self.trainable):
            return with_moving()
        return until_frozen(self, with_batch, with_moving)

    def batch_moments(self, y, mask=None):
        """Returns mean and biased variance over every axis but the last, and moves the moving statistics.

        Args:
            y: tensor, channels last.
            mask: boolean tensor of its shape without the channels: which positions count. None counts all.
        """
        # a copy: inside a conditional a custom gradient may not close over a tensor from outside
        y = ops.copy(ops.cast(y, "float32"))
        if mask is not None:
            mean, variance = _masked_moments(y, mask)
        else:
            mean, variance = (_moments_in_one_pass if self.moments_in_one_pass else _channel_moments)(y)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + ops.stop_gradient(batch) * (1.0 - self.momentum))
        self.steps.assign(self.steps + 1)
        return mean, variance

    def choose_moments(self) -> None:
        """Computes variances in one pass from now on if no moving mean is large beside its deviation.

        The choice is kept with the layer's configuration: a training that is resumed computes as it began.
        """
        mean, variance = (ops.convert_to_numpy(moving) for moving in (self.moving_mean, self.moving_variance))
        small = np.square(mean) <= LARGEST_SQUARED_MEAN * (variance + self.epsilon)
        self.moments_in_one_pass = bool(small.all())

    def moving_moments(self):
        """Returns the moving mean and variance."""
        return ops.convert_to_tensor(self.moving_mean), ops.convert_to_tensor(self.moving_variance)

    def factors(self, mean, variance):
        """Returns `(scale, shift)` with which normalizing y is scale * y + shift."""
        scale = ops.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            scale = scale * self.gamma
        shift = -mean * scale
        return scale, shift if self.beta is None else shift + self.beta

    def get_config(self):
        config = super().get_config() | {
            "axis": self.axis,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "ema_freeze_delay": self.ema_freeze_delay,
            "moments_in_one_pass": self.moments_in_one_pass,
        }
        for name in STATISTICS_ARGUMENTS:
            config[name] = _SERIALIZERS[name.rsplit("_", 1)[1]](getattr(self, name))
        return config

    def _parameter(self, name, channels):
        return self.add_weight(
            name=name,
            shape=(channels,),
            initializer=getattr(self, f"{name}_initializer"),
            regularizer=getattr(self, f"{name}_regularizer"),
            constraint=getattr(self, f"{name}_constraint"),
            trainable=True,
            autocast=False,
        )

    def _moving(self, name, channels):
        return self.add_weight(
            name=name,
            shape=(channels,),
            initializer=getattr(self, f"{name}_initializer"),
            trainable=False,
            autocast=False,
            aggregation="mean",
        )


@ops.custom_gradient
def _channel_moments(x):
    """Returns mean and biased variance over every axis but the last.

    The gradient is written out, because the derived one takes seven passes over the tensor instead of two: with n
    values per channel, d mean / dx = 1 / n and d variance / dx = 2 (x - mean) / n.
    """
    mean, variance = ops.moments(x, axes=_all_but_the_last(x))
    return (mean, variance), _gradient_of_moments(x, mean)


@ops.custom_gradient
def _moments_in_one_pass(x):
    """Returns what `_channel_moments` returns; the variance as E[x^2] - E[x]^2, without a tensor of deviations."""
    mean = ops.mean(x, axis=_all_but_the_last(x))
    variance = ops.maximum(mean_square(x, _all_but_the_last(x)) - ops.square(mean), 0.0)
    return (mean, variance), _gradient_of_moments(x, mean)


def _all_but_the_last(x) -> list[int]:
    return list(range(len(x.shape) - 1))


def _gradient_of_moments(x, mean):
    def gradient(for_mean, for_variance):
        per_value = ops.cast(ops.size(mean), x.dtype) / ops.cast(ops.size(x), x.dtype)
        slope = 2.0 * per_value * for_variance
        return x * slope + (per_value * for_mean - slope * mean)

    return gradient


def _masked_moments(x, mask):
    """Returns mean and biased variance over the positions that the mask keeps, as Keras' BatchNormalization does."""
    axes = list(range(len(x.shape) - 1))
    kept = ops.broadcast_to(ops.expand_dims(ops.cast(mask, "bool"), -1), ops.shape(x))
    count = ops.sum(ops.cast(kept, x.dtype), axis=axes) + keras.backend.epsilon()
    mean = ops.sum(ops.where(kept, x, 0.0), axis=axes) / count
    return mean, ops.sum(ops.where(kept, ops.square(x - mean), 0.0), axis=axes) / count
