"""From a resolved configuration to flat parameters, and from any name to a key that MLflow accepts."""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

from qpipe.tracking.location import without_password

LONGEST_KEY = 250
LONGEST_PARAMETER = 6000
LONGEST_TAG = 8000

_CUT = " ... (cut)"


def flat_parameters(config: Any) -> dict[str, str]:
    """Flattens a configuration dataclass into dotted keys, such as `quantizer.weight.bitwidth`.

    A list of scalars is one value, a list of rules one value per rule (`quantizer.layers.0`), as compact
    JSON without the fields that the rule leaves open. Where the configuration's type leaves the kind
    open (of a model, of a data source), `<key>.kind` names the dataclass.

    Args:
        config: a dataclass instance, resolved (no `???`, no `${...}`).

    Returns:
        Keys and values that MLflow accepts; passwords inside URIs are masked.
    """
    return {mlflow_key(key): cut(without_password(value), LONGEST_PARAMETER) for key, value in _flatten(config, "")}


def mlflow_key(name: str) -> str:
    """`name` with everything that MLflow refuses in a key replaced by `_`."""
    key = re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)
    key = "/".join(segment.replace("..", "_") if segment.strip(".") else "_" for segment in key.split("/"))
    return key[:LONGEST_KEY]


def cut(text: str, longest: int) -> str:
    """`text`, shortened to `longest` characters with a word that says so."""
    return text if len(text) <= longest else text[: longest - len(_CUT)] + _CUT


def _flatten(value: Any, prefix: str) -> Iterator[tuple[str, str]]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        declared = typing.get_type_hints(type(value))
        for field in dataclasses.fields(value):
            key = f"{prefix}{field.name}"
            child = getattr(value, field.name)
            if dataclasses.is_dataclass(declared[field.name]) and type(child) is not declared[field.name]:
                yield f"{key}.kind", type(child).__name__
            yield from _flatten(child, f"{key}.")
    elif isinstance(value, Mapping) and value:
        for name, child in value.items():
            yield from _flatten(child, f"{prefix}{name}.")
    elif isinstance(value, list | tuple) and any(_is_structure(item) for item in value):
        for index, item in enumerate(value):
            yield f"{prefix}{index}", _compact_json(item)
    else:
        yield prefix.removesuffix("."), _scalar(value)


def _is_structure(value: Any) -> bool:
    return dataclasses.is_dataclass(value) or isinstance(value, Mapping)


def _scalar(value: Any) -> str:
    plain = _plain(value)
    return plain if isinstance(plain, str) else _compact_json(plain)


def _compact_json(value: Any) -> str:
    return json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {name: _plain(child) for name, child in fields if child is not None}
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, Mapping):
        return {str(name): _plain(child) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    if isinstance(value, PurePath):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
