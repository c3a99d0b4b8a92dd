"""A short name for a configuration or any other plain data: equal data, equal name, on every machine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

DIGITS = 16


def fingerprint(*parts: Any) -> str:
    """Returns the first 16 hexadecimal digits of the SHA-256 of the parts' canonical JSON.

    Args:
        *parts: dataclasses, enums, mappings, lists, tuples, texts, numbers, booleans, None,
            bytes and paths, nested at will. The order of a mapping's keys does not matter; a dataclass
            counts with its class name.

    Raises:
        TypeError: something else is in there.
    """
    text = json.dumps(_canonical(parts), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:DIGITS]


def _canonical(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _canonical(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"dataclass": type(value).__name__, "fields": fields}
    if isinstance(value, Enum):
        return _canonical(value.value)
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {"mapping": {key: _canonical(item) for key, item in value.items()}}
        return {"pairs": sorted(([_canonical(key), _canonical(item)] for key, item in value.items()), key=json.dumps)}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytes": hashlib.sha256(value).hexdigest()}
    if isinstance(value, PurePath):
        return {"path": value.as_posix()}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a fingerprint takes plain data only, received {type(value).__name__}")
