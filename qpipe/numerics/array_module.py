"""One arithmetic for NumPy arrays and for Keras tensors: which module computes a function's arguments."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

NUMPY_VALUES = (np.ndarray, np.generic, int, float, list, tuple)


def array_module(*values: Any) -> ModuleType:
    """Returns `numpy` if all values are NumPy arrays or Python numbers, else `keras.ops`.

    Keras is imported only when a tensor comes along, so that NumPy code stays free of it.
    """
    if all(isinstance(value, NUMPY_VALUES) for value in values):
        return np
    from keras import ops

    return ops


def cast(value: Any, dtype: str) -> Any:
    """Returns an array or tensor with elements of type `dtype`."""
    module = array_module(value)
    return np.asarray(value, dtype) if module is np else module.cast(value, dtype)


def reinterpret(value: Any, dtype: str) -> Any:
    """Returns an array or tensor whose bits are read as elements of type `dtype`, of the same size."""
    module = array_module(value)
    return np.asarray(value).view(dtype) if module is np else module.view(value, dtype)
