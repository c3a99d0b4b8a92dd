"""Checks of constructor arguments."""

from __future__ import annotations

from qpipe.errors import nearest


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """Returns `value` if it is allowed; a ValueError says what was received and what is near, otherwise."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is not known; {nearest(str(value), allowed)}")
    return value


def whole_number(name: str, value: int, low: int, high: int | None = None) -> int:
    """Returns `value` if it is a whole number from `low` to `high` (None: no upper end); a ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        allowed = f"of at least {low}" if high is None else f"from {low} to {high}" if high > low else f"{low}"
        raise ValueError(f"{name}={value!r} is not allowed; give {'a whole number ' if high != low else ''}{allowed}")
    return value
