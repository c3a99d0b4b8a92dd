"""Choosing the scales of layers with `range: output_mse`, layer after layer."""

from __future__ import annotations

import numpy as np
from keras import ops

from qpipe.algorithms.layerwise.matrix_form import MatrixForm
from qpipe.algorithms.layerwise.walk import LayerData


def install_scale(data: LayerData, form: MatrixForm, scale: np.ndarray) -> None:
    """Stores a scale with its quantizer, raised where the layer's bias would not fit otherwise.

    Args:
        data: the layer.
        form: as a matrix product.
        scale: (groups, columns).
    """
    layer = data.layer
    quantizer = layer.kernel_quantizer
    smallest = layer.smallest_weight_scale()
    if smallest is not None:
        least = form.per_channel(ops.convert_to_numpy(smallest)).astype("float64")
        if not quantizer.per_channel:
            least = np.full_like(least, least.max())
        if quantizer.scale_kind == "power_of_two":
            least = 2.0 ** np.ceil(np.log2(np.maximum(least, np.finfo("float32").tiny)))
        scale = np.maximum(scale, least)
    per_weight = form.to_kernel(np.repeat(scale[:, np.newaxis, :], form.rows, axis=1))
    index = tuple(slice(0, 1) if size == 1 else slice(None) for size in quantizer.scale.shape)
    quantizer.scale.assign(per_weight[index].astype("float32"))
    quantizer.fixed = True
