"""Training loops of the float and the quantized model."""

from qpipe.training.freeze import follow_data, freeze
from qpipe.training.loop import fit

__all__ = ["fit", "follow_data", "freeze"]
