"""Checks of constructor arguments."""

from __future__ import annotations

from qpipe.errors import nearest


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """Returns `value` if it is allowed; a ValueError says what was received and what is near, otherwise."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is not known; {nearest(str(value), allowed)}")
    return value
