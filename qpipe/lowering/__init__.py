"""From a quantized Keras model to the integer engine's program, one small file for each family of layers."""

from qpipe.lowering.lower import lower
from qpipe.lowering.predict import integer_predict

__all__ = ["integer_predict", "lower"]
