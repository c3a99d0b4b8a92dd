"""Quantized layers; importing this package makes saved models that hold them loadable."""

from qpipe.layers.batch_normalization import QuantizedBatchNormalization
from qpipe.layers.boundary import Dequantize, Quantize
from qpipe.layers.convolution import QConv2D, QDense, QDepthwiseConv2D
from qpipe.layers.folded import QConv2DBatchnorm, QDenseBatchnorm, QDepthwiseConv2DBatchnorm
from qpipe.layers.merge import QAdd
from qpipe.layers.pooling import QAveragePooling2D, QGlobalAveragePooling2D

__all__ = [
    "Dequantize",
    "QAdd",
    "QAveragePooling2D",
    "QConv2D",
    "QConv2DBatchnorm",
    "QDense",
    "QDenseBatchnorm",
    "QDepthwiseConv2D",
    "QDepthwiseConv2DBatchnorm",
    "QGlobalAveragePooling2D",
    "Quantize",
    "QuantizedBatchNormalization",
]
