"""Quantized models whose folded layers are plain again, with the folded kernel and bias as their weights."""

from __future__ import annotations

from copy import deepcopy

import keras

from qpipe.graph.rebuild import Rebuild
from qpipe.graph.trace import trace
from qpipe.layers.batch_statistics import STATISTICS_ARGUMENTS, BatchStatistics
from qpipe.layers.folded import BatchnormFolding
from qpipe.layers.linear import QuantizedLinear

FOLDING_ARGUMENTS = (
    "folding_mode",
    "axis",
    "momentum",
    "epsilon",
    "center",
    "scale",
    "ema_freeze_delay",
    "moments_in_one_pass",
    *STATISTICS_ARGUMENTS,
)


def with_plain_layers(model: keras.Model) -> keras.Model:
    """Returns a copy of a quantized model in which every folded layer is its plain counterpart.

    A `QConv2DBatchnorm` becomes a `QConv2D` of the same name with the folded kernel and bias, and so on; quantizers,
    with their ranges and scales, are carried over. At inference the copy computes the same integers; masks and
    `training`, which decide about batch statistics alone, are left out. `model` stays untouched.

    Args:
        model: a model that `qpipe.quantize` returned.
    """
    own = deepcopy(model)
    graph = trace(own)
    rebuild = Rebuild(graph)
    plain: dict[int, QuantizedLinear] = {}
    for node in graph.nodes:
        layer = node.operation
        if isinstance(layer, BatchnormFolding):
            if id(layer) not in plain:
                plain[id(layer)] = _plain(layer, node.inputs[0].shape)
            rebuild.set(node.outputs[0], plain[id(layer)](rebuild.tensor(node.inputs[0])))
            continue
        if isinstance(layer, keras.layers.Layer):
            rebuild.use(layer, layer)
        rebuild.copy(node)
    return rebuild.model()


def _plain(layer, input_shape) -> QuantizedLinear:
    config = {key: value for key, value in layer.get_config().items() if key not in FOLDING_ARGUMENTS}
    quantizers = {
        name: getattr(layer, name)
        for name in ("kernel_quantizer", "bias_quantizer", "output_quantizer", "input_quantizer")
    }
    plain = plain_class(type(layer)).from_config(config | quantizers | {"use_bias": True})
    plain.build(input_shape)
    kernel, bias = layer.folded_weights()
    plain.kernel.assign(kernel)
    plain.bias.assign(bias)
    plain.trainable = layer.trainable
    return plain


def plain_class(folded: type) -> type[QuantizedLinear]:
    """Returns the quantized layer class that a folded class extends: `QConv2D` of `QConv2DBatchnorm`."""
    return next(
        kind for kind in folded.__mro__ if issubclass(kind, QuantizedLinear) and not issubclass(kind, BatchStatistics)
    )
