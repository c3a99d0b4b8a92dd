"""Quantized convolutions and dense layers."""

from __future__ import annotations

import keras
from keras import ops

from qpipe.layers.linear import QuantizedLinear
from qpipe.layers.small_maps import depthwise_convolution


@keras.saving.register_keras_serializable("qpipe")
class QConv1D(QuantizedLinear, keras.layers.Conv1D):
    """Quantized `keras.layers.Conv1D`; see `QuantizedLinear` for the arguments that it adds."""

    def linear_op(self, x, kernel):
        padding = self.padding
        if padding == "causal":
            x = ops.pad(x, self._compute_causal_padding())
            padding = "valid"
        return ops.conv(x, kernel, list(self.strides), padding, self.data_format, self.dilation_rate)


@keras.saving.register_keras_serializable("qpipe")
class QConv2D(QuantizedLinear, keras.layers.Conv2D):
    """Quantized `keras.layers.Conv2D`; see `QuantizedLinear` for the arguments that it adds."""

    def linear_op(self, x, kernel):
        return self.convolution_op(x, kernel)


class _Depthwise(QuantizedLinear):
    channel_axes = (-2, -1)

    def linear_op(self, x, kernel):
        return ops.depthwise_conv(
            x,
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )


@keras.saving.register_keras_serializable("qpipe")
class QDepthwiseConv1D(_Depthwise, keras.layers.DepthwiseConv1D):
    """Quantized `keras.layers.DepthwiseConv1D`; see `QuantizedLinear` for the arguments that it adds."""


@keras.saving.register_keras_serializable("qpipe")
class QDepthwiseConv2D(_Depthwise, keras.layers.DepthwiseConv2D):
    """Quantized `keras.layers.DepthwiseConv2D`; see `QuantizedLinear` for the arguments that it adds."""

    def linear_op(self, x, kernel):
        if self.data_format == "channels_last" and tuple(self.dilation_rate) == (1, 1):
            return depthwise_convolution(x, kernel, strides=self.strides, padding=self.padding)
        return super().linear_op(x, kernel)


class _Transposed(QuantizedLinear):
    channel_axes = (-2,)

    def linear_op(self, x, kernel):
        return ops.conv_transpose(
            x,
            kernel,
            strides=list(self.strides),
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )


@keras.saving.register_keras_serializable("qpipe")
class QConv1DTranspose(_Transposed, keras.layers.Conv1DTranspose):
    """Quantized `keras.layers.Conv1DTranspose`; see `QuantizedLinear` for the arguments that it adds."""


@keras.saving.register_keras_serializable("qpipe")
class QConv2DTranspose(_Transposed, keras.layers.Conv2DTranspose):
    """Quantized `keras.layers.Conv2DTranspose`; see `QuantizedLinear` for the arguments that it adds."""


@keras.saving.register_keras_serializable("qpipe")
class QDense(QuantizedLinear, keras.layers.Dense):
    """Quantized `keras.layers.Dense`; see `QuantizedLinear` for the arguments that it adds."""

    def linear_op(self, x, kernel):
        return ops.matmul(x, kernel)
