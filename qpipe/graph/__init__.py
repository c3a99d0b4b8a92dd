"""The only code that touches Keras' node structure: trace, match, fold, quantize, unfold."""

from qpipe.graph.folding import fold_batchnorm, unfold_batchnorm
from qpipe.graph.quantization import quantize

__all__ = ["fold_batchnorm", "quantize", "unfold_batchnorm"]
