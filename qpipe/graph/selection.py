"""Selecting layers by exact name, glob, or `re:` pattern."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from qpipe.errors import ConfigError, nearest


def is_exact(selector: str) -> bool:
    """Whether `selector` is the name of one layer rather than a pattern."""
    return not selector.startswith("re:") and not any(character in selector for character in "*?[")


def matches(selector: str, name: str) -> bool:
    """Whether `selector` covers the layer `name`; patterns must match the whole name."""
    if selector.startswith("re:"):
        return re.fullmatch(selector[3:], name) is not None
    return name == selector if is_exact(selector) else fnmatch.fnmatchcase(name, selector)


def require_match(selector: str, names: Iterable[str], where: str, what: str = "layer") -> None:
    """Raises a ConfigError with the nearest names if `selector` covers none of `names`.

    Args:
        selector: exact name or pattern.
        names: the candidates.
        where: config path of the selector.
        what: what the candidates are.
    """
    names = list(names)
    if not any(matches(selector, name) for name in names):
        bare = selector.removeprefix("re:").strip("*")
        raise ConfigError(f"{where}: {selector!r} matches no {what}; {nearest(bare, names)}")
