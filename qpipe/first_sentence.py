"""The first sentence of an error that another library raised, to be quoted in one of ours."""

from __future__ import annotations

import re


def first_sentence(error: BaseException) -> str:
    """The first sentence of an error's message, on one line and without the final full stop."""
    text = " ".join(str(error).split())
    sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z])", text, maxsplit=1)[0]
    return sentence.rstrip(".") or type(error).__name__
