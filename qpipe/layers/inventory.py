"""Finding the quantized layers and the output quantizers of a model."""

from __future__ import annotations

import keras

from qpipe.errors import QuantizationError
from qpipe.layers.batch_statistics import BatchStatistics
from qpipe.layers.boundary import Quantize
from qpipe.layers.linear import QuantizedLinear
from qpipe.quantizers import OutputQuantizer


def quantized_linear_layers(model: keras.Model) -> list[QuantizedLinear]:
    """Returns the layers of `model` that have a kernel quantizer."""
    return [layer for layer in model.layers if isinstance(layer, QuantizedLinear) and layer.kernel_quantizer]


def output_quantizers(model: keras.Model) -> dict[str, OutputQuantizer]:
    """Returns the output quantizers of `model` by the name of the layer that applies them."""
    found = {}
    for layer in model.layers:
        quantizer = layer.quantizer if isinstance(layer, Quantize) else getattr(layer, "output_quantizer", None)
        if isinstance(quantizer, OutputQuantizer):
            found[layer.name] = quantizer
    return found


def require_connected(model: keras.Model) -> None:
    """Checks that every layer reads the very quantizer of the tensor that it receives.

    Raises:
        QuantizationError: a layer holds a quantizer of its input that no layer applies, as in a clone.
    """
    applied = {id(quantizer) for quantizer in output_quantizers(model).values()}
    for layer in model.layers:
        single = getattr(layer, "input_quantizer", None)
        for quantizer in getattr(layer, "input_quantizers", [single]):
            if isinstance(quantizer, OutputQuantizer) and id(quantizer) not in applied:
                raise QuantizationError(
                    f"layer {layer.name!r}: the quantizer of its input is applied by no layer of the model; "
                    "keras.models.clone_model separates shared quantizers: use copy.deepcopy, or save and load"
                )


def freezing_parts(model: keras.Model) -> list[BatchStatistics | OutputQuantizer]:
    """Returns what freezes after `ema_freeze_delay` training steps: statistics and tracked ranges."""
    statistics = [layer for layer in model.layers if isinstance(layer, BatchStatistics)]
    parts: list[BatchStatistics | OutputQuantizer] = [*statistics, *output_quantizers(model).values()]
    return [part for part in parts if part.ema_freeze_delay is not None]
