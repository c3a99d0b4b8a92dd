"""Training loops of the float and the quantized model."""

from qpipe.training.fit import fit
from qpipe.training.freeze import follow_data, freeze

__all__ = ["fit", "follow_data", "freeze"]
