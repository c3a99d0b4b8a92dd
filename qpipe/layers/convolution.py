"""Quantized convolutions and dense layers."""

from __future__ import annotations

import keras
from keras import ops

from qpipe.layers.linear import QuantizedLinear


@keras.saving.register_keras_serializable("qpipe")
class QConv2D(QuantizedLinear, keras.layers.Conv2D):
    """Quantized `keras.layers.Conv2D`; see `QuantizedLinear` for the arguments that it adds."""

    def linear_op(self, x, kernel):
        return self.convolution_op(x, kernel)


@keras.saving.register_keras_serializable("qpipe")
class QDepthwiseConv2D(QuantizedLinear, keras.layers.DepthwiseConv2D):
    """Quantized `keras.layers.DepthwiseConv2D`; see `QuantizedLinear` for the arguments that it adds."""

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
class QDense(QuantizedLinear, keras.layers.Dense):
    """Quantized `keras.layers.Dense`; see `QuantizedLinear` for the arguments that it adds."""

    def linear_op(self, x, kernel):
        return ops.matmul(x, kernel)
