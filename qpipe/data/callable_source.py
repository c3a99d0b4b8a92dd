"""Data from a function of the user's own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qpipe import targets
from qpipe.config.schema import CallableData
from qpipe.data.array_checks import checked_part
from qpipe.data.part import Part, SourceParts
from qpipe.errors import DataError, nearest

_PARTS = ("train", "validation", "test")
_ALLOWED = (
    "allowed: (x, y), ((x_train, y_train), (x_test, y_test)), a tf.data.Dataset of samples (x, y), two of them (train, "
    "test), or a mapping of train, validation and test to (x, y) or a tf.data.Dataset"
)


def check_callable(config: CallableData) -> None:
    """Checks that the function's module exists, without importing it.

    Raises:
        ConfigError: it does not.
    """
    targets.check_target(config._target_, "data._target_", config.arguments)
    targets.check_targets(config.arguments, "data.arguments")


def load_callable(config: CallableData, scratch: Path | None) -> SourceParts[Part]:
    """Calls the function and checks what it returns.

    Args:
        config: the function and its arguments.
        scratch: folder for arrays that outgrow memory; None takes the system's temporary folder.

    Raises:
        ConfigError: there is no such function or argument, or it raises an error.
        DataError: it returns something else than arrays or `tf.data.Dataset`s that fit the task.
    """
    returned = targets.call(config._target_, config.arguments, "data._target_", "data.arguments")
    parts = {
        name: _part(value, name, config, scratch) for name, value in _named_parts(returned, config._target_).items()
    }
    return SourceParts(train=parts["train"], validation=parts.get("validation"), test=parts.get("test"))


def _named_parts(returned: Any, target: str) -> dict[str, Any]:
    if isinstance(returned, Mapping):
        for name in returned:
            if name not in _PARTS:
                raise DataError(
                    f"data._target_={target} returned a mapping with {name!r}; {nearest(str(name), _PARTS)}"
                )
        if "train" not in returned:
            raise DataError(f"data._target_={target} returned a mapping without 'train'; {_ALLOWED}")
        return {str(name): value for name, value in returned.items() if value is not None}
    if _is_pair(returned) and (all(map(_is_stream, returned)) or _is_pair_of_parts(returned)):
        return {"train": returned[0], "test": returned[1]}
    return {"train": returned}


def _part(value: Any, name: str, config: CallableData, scratch: Path | None) -> Part:
    source = f"from data._target_={config._target_}"
    if _is_stream(value):
        from qpipe.data.tensorflow_stream import collected

        value = collected(value, images=config.images, task=config.task, scratch=scratch, source=source)
    if not _is_pair(value):
        raise DataError(f"data._target_={config._target_} returned {_described(value)} for {name}; {_ALLOWED}")
    x, y = (_array(item, f"{letter} of the part {name} {source}") for item, letter in zip(value, "xy", strict=True))
    return checked_part(x, y, config, x_name=f"x of the part {name}", y_name=f"y of the part {name}", source=source)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2


def _is_pair_of_parts(returned: Any) -> bool:
    """Whether a pair is ((x_train, y_train), (x_test, y_test)) rather than (x, y) of two samples each."""
    if not (_is_pair(returned[0]) and _is_pair(returned[1])):
        return False
    try:
        return np.ndim(returned[0][0]) > 1
    except ValueError:  # ragged lists, refused where they should become an array
        return False


def _is_stream(value: Any) -> bool:
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(value, tensorflow.data.Dataset)


def _array(value: Any, where: str) -> np.ndarray:
    """Converts tensors and lists; arrays and memory maps are taken as they are."""
    if isinstance(value, np.ndarray):
        return value
    if value is None or isinstance(value, str | bytes | Mapping) or _is_stream(value):
        raise DataError(f"{where} is {_described(value)}; an array is needed.")
    try:
        return np.asarray(value)
    except (TypeError, ValueError):
        raise DataError(f"{where} is {_described(value)} that does not become an array; an array is needed.") from None


def _described(value: Any) -> str:
    if value is None:
        return "nothing (None)"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)} items"
    if hasattr(value, "shape"):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
