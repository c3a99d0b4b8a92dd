"""What training may move in a quantized model, and what stays as it is afterwards."""

from __future__ import annotations

import keras

from qpipe.layers.inventory import output_quantizers, quantized_linear_layers


def follow_data(model: keras.Model) -> None:
    """Lets weight scales follow the weights, as quantization-aware training needs it after a calibration."""
    for layer in quantized_linear_layers(model):
        layer.kernel_quantizer.release()


def freeze(model: keras.Model) -> None:
    """Stores weight scales and activation ranges with the model; they stay as they are from now on."""
    for layer in quantized_linear_layers(model):
        layer.fix_scales()
    for quantizer in output_quantizers(model).values():
        quantizer.fix()
