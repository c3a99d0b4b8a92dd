"""The first sentence of an error that another library raised, to be quoted in one of ours."""

from __future__ import annotations

import re

_NOISE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|\{\{.*?\}\}|\[Op:[^\]]*\](?: name:\s*\S*)?")
"""Colours of a terminal, and names of TensorFlow's nodes and operations."""
_TRACE = "Traceback (most recent call last)"


def first_sentence(error: BaseException) -> str:
    """The first sentence of an error's message, on one line, without final full stop, node names and stack traces."""
    text = " ".join(_NOISE.sub(" ", str(error)).partition(_TRACE)[0].split())
    sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z])", text, maxsplit=1)[0]
    return sentence.rstrip(".: ") or type(error).__name__
