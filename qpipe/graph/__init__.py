"""The only code that touches Keras' node structure: trace, match, fold, quantize, unfold."""

from qpipe.graph.bias_quantizers import populate_bias_quantizer_from_accumulator
from qpipe.graph.folding import fold_batchnorm, unfold_batchnorm
from qpipe.graph.quantization import quantize

__all__ = ["fold_batchnorm", "populate_bias_quantizer_from_accumulator", "quantize", "unfold_batchnorm"]
