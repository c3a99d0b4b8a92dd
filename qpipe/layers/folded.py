"""Linear layers with the batch normalization after them folded in."""

from __future__ import annotations

import keras
from keras import ops

from qpipe.layers.batch_statistics import BatchStatistics
from qpipe.layers.convolution import QConv2D, QDense, QDepthwiseConv2D
from qpipe.quantizers.arguments import one_of


class BatchnormFolding(BatchStatistics):
    """Mix-in that folds a batch normalization into the kernel and bias of a quantized linear layer.

    With s = gamma / sqrt(variance + epsilon) the folded kernel is s * W and the folded bias
    s * (b - mean) + beta. While batch statistics are in use, `ema_stats_folding` makes the kernel of the moving
    statistics and corrects the product by sqrt(moving variance + epsilon) / sqrt(batch variance + epsilon);
    `batch_stats_folding` makes it of the batch's (Krishnamoorthi, arXiv 1806.08342, section 3.2.2).
    Gradients flow through the batch statistics, not through the moving ones.

    Args:
        folding_mode: `ema_stats_folding` or `batch_stats_folding`.
        *args: of the linear layer.
        **kwargs: of the linear layer, of `QuantizedLinear` and of `BatchStatistics`.
    """

    def __init__(self, *args, folding_mode: str = "ema_stats_folding", **kwargs):
        super().__init__(*args, **kwargs)
        self.folding_mode = one_of("folding_mode", folding_mode, ("ema_stats_folding", "batch_stats_folding"))

    def build(self, input_shape):
        """Creates the linear layer's weights and the batch normalization's."""
        super().build(input_shape)
        channels = 1
        for axis in self.channel_axes:
            channels *= self.kernel.shape[axis]
        self.build_statistics(channels)

    def folded_weights(self):
        """Returns the float pair (s * W, s * (b - mean) + beta), of the moving statistics."""
        mean, variance = self.moving_moments()
        scale, shift = self.factors(mean, variance)
        return self._scaled_kernel(scale), self._folded_bias(scale, shift)

    def call(self, x, training=None):
        y = self.choose(
            training,
            lambda: self._with_batch_statistics(x, training),
            lambda: self.accumulate(x, self.folded_weights(), training),
        )
        return self.finish(y, training)

    def get_config(self):
        return super().get_config() | {"folding_mode": self.folding_mode}

    def _with_batch_statistics(self, x, training):
        y = self.linear_op(x, self.kernel)
        mean, variance = self.batch_moments(y if self.bias is None else y + self.bias)
        scale, shift = self.factors(mean, variance)
        bias = self._folded_bias(scale, shift)
        if self.folding_mode == "batch_stats_folding":
            return self.accumulate(x, (self._scaled_kernel(scale), bias), training)
        moving_mean, moving_variance = self.moving_moments()
        moving_scale, _ = self.factors(moving_mean, moving_variance)
        correction = ops.sqrt(moving_variance + self.epsilon) * ops.rsqrt(variance + self.epsilon)
        return self.accumulate(x, (self._scaled_kernel(moving_scale), bias), training, correction)

    def _scaled_kernel(self, scale):
        shape = [self.kernel.shape[axis] for axis in self.channel_axes]
        return self.kernel * ops.reshape(scale, shape)

    def _folded_bias(self, scale, shift):
        return shift if self.bias is None else scale * self.bias + shift


@keras.saving.register_keras_serializable("qpipe")
class QConv2DBatchnorm(BatchnormFolding, QConv2D):
    """`Conv2D` with the `BatchNormalization` after it folded in; see `BatchnormFolding`."""


@keras.saving.register_keras_serializable("qpipe")
class QDepthwiseConv2DBatchnorm(BatchnormFolding, QDepthwiseConv2D):
    """`DepthwiseConv2D` with the `BatchNormalization` after it folded in; see `BatchnormFolding`."""


@keras.saving.register_keras_serializable("qpipe")
class QDenseBatchnorm(BatchnormFolding, QDense):
    """`Dense` with the `BatchNormalization` after it folded in; see `BatchnormFolding`."""
