"""Checks of single values: each raises one sentence with the path, what was received and what is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from qpipe.errors import ConfigError


def refuse(path: str, received: Any, allowed: str) -> NoReturn:
    """Raises `ConfigError` as `path: received is not allowed; allowed`."""
    shown = "null" if received is None else repr(received)
    raise ConfigError(f"{path}: {shown} is not allowed; {allowed}")


def whole(path: str, value: Any, low: int, high: int | None = None, *, optional: bool = False) -> None:
    """Refuses what is not a whole number from `low` to `high` (None: no upper bound)."""
    if optional and value is None:
        return
    range_text = f"from {low} to {high}" if high is not None else f"of at least {low}"
    allowed = f"give a whole number {range_text}" + (", or null" if optional else "")
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        refuse(path, value, allowed)


def fraction(path: str, value: Any, low: float, below: float) -> None:
    """Refuses what is not a number of at least `low` and less than `below`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < below:
        refuse(path, value, f"give a number of at least {low:g} and below {below:g}")


def positive(path: str, value: Any) -> None:
    """Refuses what is not a finite number above zero."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        refuse(path, value, "give a number above 0")


def choice(path: str, value: Any, allowed: Sequence[Any]) -> None:
    """Refuses what is not one of the allowed values."""
    if value not in allowed:
        refuse(path, value, "give " + " or ".join(str(item) for item in allowed))


def patterns(path: str, selectors: Sequence[str]) -> None:
    """Refuses a list that holds an empty selector or a `re:` pattern that is no regular expression."""
    for index, selector in enumerate(selectors):
        pattern(f"{path}[{index}]", selector)


def pattern(path: str, selector: Any) -> None:
    """Refuses an empty layer selector, and a `re:` pattern that is no regular expression."""
    if not isinstance(selector, str) or not selector.strip() or selector.strip() == "re:":
        refuse(path, selector, "give a layer name, a glob such as block_*, or re: and a regular expression")
    if selector.startswith("re:"):
        try:
            re.compile(selector[3:])
        except re.error as error:
            refuse(path, selector, f"it is no regular expression: {error}")
