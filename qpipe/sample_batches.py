"""Samples for a model, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from qpipe.errors import QuantizationError


def arrays_of(model: keras.Model, samples: Any) -> list[np.ndarray]:
    """Returns one float32 array (samples, ...) for each input of a model.

    Args:
        model: Functional or Sequential model.
        samples: an array, or for several inputs the structure of arrays that the model takes.

    Raises:
        QuantizationError: another number of arrays or samples than the model needs, another shape, or no sample.
    """
    leaves = [samples] if len(model.inputs) == 1 and not isinstance(samples, dict) else keras.tree.flatten(samples)
    arrays = [np.asarray(leaf, np.float32) for leaf in leaves]
    if len(arrays) != len(model.inputs):
        raise QuantizationError(f"model {model.name!r} has {len(model.inputs)} inputs; received {len(arrays)} arrays")
    for array, tensor in zip(arrays, model.inputs, strict=True):
        expected = tuple(tensor.shape[1:])
        fits = array.ndim == len(expected) + 1 and all(
            size in (None, given) for size, given in zip(expected, array.shape[1:], strict=True)
        )
        if not fits:
            raise QuantizationError(
                f"model {model.name!r} takes samples of shape {expected} at {tensor.name!r}; "
                f"received an array of shape {array.shape}"
            )
    if len({len(array) for array in arrays}) > 1 or not len(arrays[0]):
        raise QuantizationError(
            f"model {model.name!r} needs at least one sample, as many for each input; "
            f"received {[len(array) for array in arrays]}"
        )
    return arrays


def batches_of(model: keras.Model, samples: Any, batch_size: int) -> Iterator[Any]:
    """Yields batches of `samples` in the structure that the model takes.

    Args:
        model: Functional or Sequential model.
        samples: as in `arrays_of`.
        batch_size: samples per batch; the last one may be smaller.
    """
    arrays = arrays_of(model, samples)
    for start in range(0, len(arrays[0]), batch_size):
        yield packed(model, [keras.ops.convert_to_tensor(array[start : start + batch_size]) for array in arrays])


def packed(model: keras.Model, values: list[Any]) -> Any:
    """Returns one value for each input in the structure that the model takes."""
    structure = getattr(model, "_inputs_struct", None)
    return values[0] if structure is None else keras.tree.pack_sequence_as(structure, values)
