"""Algorithms on quantized models: for each the pure maths (`core`) apart from the wiring to a model (`apply`)."""

from qpipe.algorithms.adaround.apply import adaround
from qpipe.algorithms.calibration.apply import calibrate

__all__ = ["adaround", "calibrate"]
