"""Quantized layers; importing this package makes saved models that hold them loadable."""

from qpipe.layers.activations import CappedReLU
from qpipe.layers.batch_normalization import QuantizedBatchNormalization
from qpipe.layers.boundary import Dequantize, Quantize, Requantize
from qpipe.layers.clamp import QClamp
from qpipe.layers.convolution import (
    QConv1D,
    QConv1DTranspose,
    QConv2D,
    QConv2DTranspose,
    QDense,
    QDepthwiseConv1D,
    QDepthwiseConv2D,
)
from qpipe.layers.elementwise import ElementwiseFunction
from qpipe.layers.folded import (
    QConv1DBatchnorm,
    QConv1DTransposeBatchnorm,
    QConv2DBatchnorm,
    QConv2DTransposeBatchnorm,
    QDenseBatchnorm,
    QDepthwiseConv1DBatchnorm,
    QDepthwiseConv2DBatchnorm,
)
from qpipe.layers.lookup import QActivation
from qpipe.layers.merge import QAdd, QMultiply, QSubtract
from qpipe.layers.pooling import (
    QAveragePooling1D,
    QAveragePooling2D,
    QGlobalAveragePooling1D,
    QGlobalAveragePooling2D,
)
from qpipe.layers.prelu import QPReLU
from qpipe.layers.softmax import QSoftmax

__all__ = [
    "CappedReLU",
    "Dequantize",
    "ElementwiseFunction",
    "QActivation",
    "QAdd",
    "QAveragePooling1D",
    "QAveragePooling2D",
    "QClamp",
    "QConv1D",
    "QConv1DBatchnorm",
    "QConv1DTranspose",
    "QConv1DTransposeBatchnorm",
    "QConv2D",
    "QConv2DBatchnorm",
    "QConv2DTranspose",
    "QConv2DTransposeBatchnorm",
    "QDense",
    "QDenseBatchnorm",
    "QDepthwiseConv1D",
    "QDepthwiseConv1DBatchnorm",
    "QDepthwiseConv2D",
    "QDepthwiseConv2DBatchnorm",
    "QGlobalAveragePooling1D",
    "QGlobalAveragePooling2D",
    "QMultiply",
    "QPReLU",
    "QSoftmax",
    "QSubtract",
    "Quantize",
    "QuantizedBatchNormalization",
    "Requantize",
]
