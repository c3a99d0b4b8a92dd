"""The integer engine: quantized networks as programs of NumPy integer operators. No Keras in here."""

from qpipe.integer.program import Program, Step

__all__ = ["Program", "Step"]
