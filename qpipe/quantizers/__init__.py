"""Quantizers of weights, of biases on an accumulator's scale, and of activations."""

from qpipe.quantizers.aligned import AlignedWeightQuantizer
from qpipe.quantizers.output import OutputQuantizer
from qpipe.quantizers.weight import WeightQuantizer

__all__ = ["AlignedWeightQuantizer", "OutputQuantizer", "WeightQuantizer"]
