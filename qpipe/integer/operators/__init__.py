"""The operators, one file for each family."""

from qpipe.integer.operators.boundary import Dequantize, Quantize, Requantize
from qpipe.integer.operators.linear import Convolution, Dense, Scale, TransposedConvolution
from qpipe.integer.operators.lookup import Lookup
from qpipe.integer.operators.merge import Concatenation, Product, Sum
from qpipe.integer.operators.pooling import AveragePooling, GlobalMean
from qpipe.integer.operators.prelu import PReLU
from qpipe.integer.operators.requantization import RealOutput, Requantization
from qpipe.integer.operators.shape import (
    Clamp,
    Crop,
    GlobalMaxPooling,
    Identity,
    MaxPooling,
    Pad,
    Repeat,
    Reshape,
    Transpose,
)
from qpipe.integer.operators.softmax import Softmax

__all__ = [
    "AveragePooling",
    "Clamp",
    "Concatenation",
    "Convolution",
    "Crop",
    "Dense",
    "Dequantize",
    "GlobalMaxPooling",
    "GlobalMean",
    "Identity",
    "Lookup",
    "MaxPooling",
    "PReLU",
    "Pad",
    "Product",
    "Quantize",
    "RealOutput",
    "Repeat",
    "Requantization",
    "Requantize",
    "Reshape",
    "Scale",
    "Softmax",
    "Sum",
    "Transpose",
    "TransposedConvolution",
]
