"""The errors that a user's mistake raises: one sentence each, shown without a stack trace."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST_NAMES = 25
"""Of so many names all are listed where none is near."""


class QpipeError(Exception):
    """A mistake that the user can mend; its message is one clear sentence."""


class ConfigError(QpipeError):
    """A wrong key, option or value in the configuration."""


class DataError(QpipeError):
    """A data source that is missing, unreadable or does not fit."""


class ModelError(QpipeError):
    """A model that is missing, unreadable or does not fit."""


class QuantizationError(QpipeError):
    """A layer or tensor that can't be quantized as asked."""

    _keras_call_info_injected = True
    """Keras leaves the message of an error with this mark as it is, where a layer's call raises it."""


class ExportError(QpipeError):
    """A model that a file format can't express, or a file that does not compute what it should."""


class StorageError(QpipeError):
    """A file that can't be written: a full disk, a missing permission."""


class TrackingError(QpipeError):
    """A tracking server that does not answer or refuses."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Names the nearest matches of `word`, as the end of a sentence, or all that is allowed.

    Args:
        word: what was received.
        allowed: what would have been right.

    Returns:
        `did you mean 'x'?` where something is near, else `allowed: 'a', 'b', ...`.
    """
    names = sorted(set(allowed))
    matches = difflib.get_close_matches(word, names, n=3, cutoff=0.55)
    if matches:
        return "did you mean " + " or ".join(repr(match) for match in matches) + "?"
    shown = ", ".join(repr(name) for name in names[:MOST_NAMES]) or "nothing"
    return f"allowed: {shown}" + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
