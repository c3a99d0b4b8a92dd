"""Training loops of the float and the quantized model; this module imports no Keras, the ones inside it do."""

from qpipe.training.check import check_training

__all__ = ["check_training"]
