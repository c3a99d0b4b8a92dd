"""Which layer becomes which operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from qpipe import layers
from qpipe.layers.passing import IDENTITIES
from qpipe.lowering import boundary, linear, lookup, merge, pooling, prelu, shape, softmax

LOWERINGS: dict[type, Callable[[Any], Any]] = {
    layers.Quantize: boundary.lower_quantize,
    layers.Dequantize: boundary.lower_dequantize,
    layers.Requantize: boundary.lower_requantize,
    layers.QDense: linear.lower_dense,
    layers.QDenseBatchnorm: linear.lower_dense,
    layers.QConv1D: linear.lower_convolution,
    layers.QConv1DBatchnorm: linear.lower_convolution,
    layers.QConv2D: linear.lower_convolution,
    layers.QConv2DBatchnorm: linear.lower_convolution,
    layers.QDepthwiseConv1D: linear.lower_depthwise_convolution,
    layers.QDepthwiseConv1DBatchnorm: linear.lower_depthwise_convolution,
    layers.QDepthwiseConv2D: linear.lower_depthwise_convolution,
    layers.QDepthwiseConv2DBatchnorm: linear.lower_depthwise_convolution,
    layers.QConv1DTranspose: linear.lower_transposed_convolution,
    layers.QConv1DTransposeBatchnorm: linear.lower_transposed_convolution,
    layers.QConv2DTranspose: linear.lower_transposed_convolution,
    layers.QConv2DTransposeBatchnorm: linear.lower_transposed_convolution,
    layers.QuantizedBatchNormalization: linear.lower_batch_normalization,
    layers.QActivation: lookup.lower_lookup,
    layers.QClamp: lookup.lower_clamp,
    layers.QPReLU: prelu.lower_prelu,
    layers.QSoftmax: softmax.lower_softmax,
    layers.QAdd: merge.lower_sum,
    layers.QSubtract: merge.lower_sum,
    layers.QMultiply: merge.lower_product,
    layers.QAveragePooling1D: pooling.lower_average_pooling,
    layers.QAveragePooling2D: pooling.lower_average_pooling,
    layers.QGlobalAveragePooling1D: pooling.lower_global_average_pooling,
    layers.QGlobalAveragePooling2D: pooling.lower_global_average_pooling,
}
"""Quantized layers."""

KEEPING: dict[type, Callable[[Any], Any]] = {
    **dict.fromkeys(IDENTITIES, shape.lower_identity),
    keras.layers.Concatenate: merge.lower_concatenation,
    keras.layers.MaxPooling1D: pooling.lower_max_pooling,
    keras.layers.MaxPooling2D: pooling.lower_max_pooling,
    keras.layers.GlobalMaxPooling1D: pooling.lower_global_max_pooling,
    keras.layers.GlobalMaxPooling2D: pooling.lower_global_max_pooling,
    keras.layers.ZeroPadding1D: shape.lower_padding,
    keras.layers.ZeroPadding2D: shape.lower_padding,
    keras.layers.Cropping1D: shape.lower_cropping,
    keras.layers.Cropping2D: shape.lower_cropping,
    keras.layers.UpSampling1D: shape.lower_upsampling,
    keras.layers.UpSampling2D: shape.lower_upsampling,
    keras.layers.Flatten: shape.lower_flatten,
    keras.layers.Reshape: shape.lower_reshape,
    keras.layers.Permute: shape.lower_permute,
    keras.layers.Activation: shape.lower_clamp,
    keras.layers.ReLU: shape.lower_clamp,
}
"""Keras' own layers, where their input is quantized: they keep its format."""
