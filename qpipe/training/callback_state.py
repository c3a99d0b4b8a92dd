"""The state of Keras callbacks as plain data, so that a resumed training goes on where they were."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

_BELONGS_TO_THE_RUN = ("params", "_model", "validation_data")


class _NotPlainError(Exception):
    pass


def state_of(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Returns the attributes of a callback that are plain.

    Plain are numbers, text, None, NumPy arrays, functions of `keras.ops`, and lists, tuples and mappings of
    these; other attributes (open files, the model) are left out.
    """
    state = {}
    for name, value in vars(callback).items():
        if name in _BELONGS_TO_THE_RUN:
            continue
        try:
            state[name] = _packed(value)
        except _NotPlainError:
            continue
    return state


def restore(callback: keras.callbacks.Callback, state: dict[str, Any]) -> None:
    """Sets the attributes of a callback to what `state_of` returned."""
    for name, value in state.items():
        setattr(callback, name, _unpacked(value))


def _packed(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return {"scalar": np.asarray(value)}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return value.copy()
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_packed(item) for item in value]} if _is_builtin(value) else _refuse()
    if type(value) is dict:
        return {"dict": [[_packed(key), _packed(item)] for key, item in value.items()]}
    name = getattr(value, "__name__", "")
    if callable(value) and getattr(keras.ops, name, None) is value:
        return {"operation": name}
    return _refuse()


def _is_builtin(value: list | tuple) -> bool:
    return type(value) in (list, tuple)


def _refuse() -> Any:
    raise _NotPlainError


def _unpacked(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "scalar":
        return inner[()]
    if kind == "operation":
        return getattr(keras.ops, inner)
    if kind == "dict":
        return {_unpacked(key): _unpacked(item) for key, item in inner}
    items = [_unpacked(item) for item in inner]
    return tuple(items) if kind == "tuple" else items
