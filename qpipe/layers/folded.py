"""Linear layers with the batch normalization after them folded in."""

from __future__ import annotations

import keras
from keras import ops

from qpipe.layers.activations import activation_name
from qpipe.layers.batch_statistics import BatchStatistics
from qpipe.layers.convolution import (
    QConv1D,
    QConv1DTranspose,
    QConv2D,
    QConv2DTranspose,
    QDense,
    QDepthwiseConv1D,
    QDepthwiseConv2D,
)
from qpipe.layers.qkeras_arguments import as_python, folded_layer_arguments
from qpipe.quantizers.arguments import one_of


class BatchnormFolding(BatchStatistics):
    """Mix-in that folds a batch normalization into the kernel and bias of a quantized linear layer.

    With s = gamma / sqrt(variance + epsilon) the folded kernel is s * W and the folded bias
    s * (b - mean) + beta. While batch statistics are in use, `ema_stats_folding` makes the kernel of the moving
    statistics and corrects the product by sqrt(moving variance + epsilon) / sqrt(batch variance + epsilon);
    `batch_stats_folding` makes it of the batch's (Krishnamoorthi, arXiv 1806.08342, section 3.2.2).
    Gradients flow through the batch statistics, not through the moving ones.

    Arguments and defaults are those of QKeras' layers of these names. Without `input_quantizer` the layer works on
    real values, in training and at inference: its kernel is quantized, its bias is not, because a bias lies on the
    scale of the accumulator, which is not known then.

    Args:
        folding_mode: `ema_stats_folding` or `batch_stats_folding`.
        *args: of the Keras layer.
        **kwargs: of the Keras layer (the kernel's initializer is `he_normal` by default), of `QuantizedLinear` and of
            `BatchStatistics`. `kernel_quantizer` (also `depthwise_quantizer` for depthwise kernels) and
            `bias_quantizer` may be texts or configs of QKeras, such as `quantized_bits(4, 0, 1, alpha='auto')`.
            `kernel_range`, `depthwise_range` and `bias_range` are left out with a warning; `fused`, `renorm_clipping`
            and `renorm_momentum` change nothing.

    Call arguments:
        x: tensor, channels last.
        training: whether batch statistics may be used; a boolean, or a boolean tensor.
        mask: boolean tensor of the output's shape without the channels: positions that count for the batch's
            statistics.

    Raises:
        ValueError: for `renorm`, `synchronized`, `virtual_batch_size` and `adjustment`; for quantizers and activations
            of QKeras without a counterpart; for an axis other than the last one and for channels first.
    """

    def __init__(self, *args, folding_mode: str = "ema_stats_folding", **kwargs):
        super().__init__(**folded_layer_arguments(type(self), args, kwargs))
        self.folding_mode = one_of("folding_mode", folding_mode, ("ema_stats_folding", "batch_stats_folding"))
        if self._keeps_positions:
            self.supports_masking = True

    def build(self, input_shape):
        """Creates the linear layer's weights and the batch normalization's."""
        self.require_last_axis(input_shape)
        self.axis = -1
        if getattr(self, "data_format", "channels_last") != "channels_last":
            raise ValueError(
                f"{self.name}: data_format={self.data_format!r} is not allowed; folded layers take 'channels_last'"
            )
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

    def get_folded_weights(self):
        """Returns what `folded_weights` returns, under QKeras' name."""
        return self.folded_weights()

    def get_quantizers(self) -> list:
        """Returns the quantizers of kernel and bias; None where there is none."""
        return [self.kernel_quantizer, self.bias_quantizer]

    def get_quantization_config(self) -> dict[str, str]:
        """Returns quantizers, activation and the number of filters or units as text, for people to read."""
        kernel = "depthwise_quantizer" if hasattr(self, "depthwise_initializer") else "kernel_quantizer"
        size = next((name for name in ("filters", "units", "depth_multiplier") if hasattr(self, name)), None)
        activation = getattr(self.activation, "get_config", None) and as_python(self.activation)
        config = {
            kernel: as_python(self.kernel_quantizer),
            "bias_quantizer": as_python(self.bias_quantizer),
            "activation": activation or activation_name(self.activation),
        }
        return config if size is None else config | {size: str(getattr(self, size))}

    def call(self, x, training=None, mask=None):
        if ops.is_tensor(training):
            flag = ops.cast(training, "bool")
            return ops.cond(flag, lambda: self.call(x, True, mask), lambda: self.call(x, False, mask))
        y = self.choose(
            training,
            lambda: self._with_batch_statistics(x, training, mask),
            lambda: self.accumulate(x, self.folded_weights(), training),
        )
        return self.finish(y, training)

    def get_config(self):
        return super().get_config() | {"folding_mode": self.folding_mode}

    @property
    def _keeps_positions(self) -> bool:
        """Whether output positions are those of the input, so that a mask of the input is one of the output."""
        strides = getattr(self, "strides", (1,))
        return getattr(self, "padding", "same") != "valid" and all(stride == 1 for stride in strides)

    def _with_batch_statistics(self, x, training, mask=None):
        y = self.real_op(x, self.kernel)
        if mask is not None:
            self._require_fitting(mask, y)
        mean, variance = self.batch_moments(y if self.bias is None else y + ops.cast(self.bias, y.dtype), mask)
        scale, shift = self.factors(mean, variance)
        bias = self._folded_bias(scale, shift)
        if self.folding_mode == "batch_stats_folding":
            return self.accumulate(x, (self._scaled_kernel(scale), bias), training)
        moving_mean, moving_variance = self.moving_moments()
        moving_scale, _ = self.factors(moving_mean, moving_variance)
        correction = ops.sqrt(moving_variance + self.epsilon) * ops.rsqrt(variance + self.epsilon)
        return self.accumulate(x, (self._scaled_kernel(moving_scale), bias), training, correction)

    def _require_fitting(self, mask, y) -> None:
        known = [(have, want) for have, want in zip(mask.shape, y.shape[:-1], strict=False) if None not in (have, want)]
        if len(mask.shape) != len(y.shape) - 1 or any(have != want for have, want in known):
            raise ValueError(
                f"{self.name}: a mask of the shape {tuple(mask.shape)} does not fit the output's {tuple(y.shape)}; "
                "allowed: the output's shape without the channels"
            )

    def _scaled_kernel(self, scale):
        first = min(self.channel_axes)
        shape = [self.kernel.shape[axis] if axis in self.channel_axes else 1 for axis in range(first, 0)]
        return self.kernel * ops.reshape(scale, shape)

    def _folded_bias(self, scale, shift):
        return shift if self.bias is None else scale * self.bias + shift


@keras.saving.register_keras_serializable("qpipe")
class QConv1DBatchnorm(BatchnormFolding, QConv1D):
    """`Conv1D` with the `BatchNormalization` after it folded in; see `BatchnormFolding`."""


@keras.saving.register_keras_serializable("qpipe")
class QConv2DBatchnorm(BatchnormFolding, QConv2D):
    """`Conv2D` with the `BatchNormalization` after it folded in; see `BatchnormFolding`."""


@keras.saving.register_keras_serializable("qpipe")
class QDepthwiseConv1DBatchnorm(BatchnormFolding, QDepthwiseConv1D):
    """`DepthwiseConv1D` with the `BatchNormalization` after it folded in; see `BatchnormFolding`."""


@keras.saving.register_keras_serializable("qpipe")
class QDepthwiseConv2DBatchnorm(BatchnormFolding, QDepthwiseConv2D):
    """`DepthwiseConv2D` with the `BatchNormalization` after it folded in; see `BatchnormFolding`."""


@keras.saving.register_keras_serializable("qpipe")
class QConv1DTransposeBatchnorm(BatchnormFolding, QConv1DTranspose):
    """`Conv1DTranspose` with the `BatchNormalization` after it folded in; see `BatchnormFolding`."""


@keras.saving.register_keras_serializable("qpipe")
class QConv2DTransposeBatchnorm(BatchnormFolding, QConv2DTranspose):
    """`Conv2DTranspose` with the `BatchNormalization` after it folded in; see `BatchnormFolding`."""


@keras.saving.register_keras_serializable("qpipe")
class QDenseBatchnorm(BatchnormFolding, QDense):
    """`Dense` with the `BatchNormalization` after it folded in; see `BatchnormFolding`."""


FOLDED_CLASS: dict[type[keras.layers.Layer], type[BatchnormFolding]] = {
    keras.layers.Conv1D: QConv1DBatchnorm,
    keras.layers.Conv2D: QConv2DBatchnorm,
    keras.layers.DepthwiseConv1D: QDepthwiseConv1DBatchnorm,
    keras.layers.DepthwiseConv2D: QDepthwiseConv2DBatchnorm,
    keras.layers.Conv1DTranspose: QConv1DTransposeBatchnorm,
    keras.layers.Conv2DTranspose: QConv2DTransposeBatchnorm,
    keras.layers.Dense: QDenseBatchnorm,
}
"""For each Keras layer into which a batch normalization folds the class that both become."""
