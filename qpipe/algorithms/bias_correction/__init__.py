"""Bias correction: the mean error that quantized weights leave in a layer's output goes into its bias."""
