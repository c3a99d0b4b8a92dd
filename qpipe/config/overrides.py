"""Rewrites command-line overrides into what Hydra expects."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

ADDED_GROUPS = ("experiment", "debug")
"""Groups that are not in the defaults list, in the order in which they apply: the last one wins."""
OPEN_DICTIONARIES = ("model.arguments.", "data.arguments.", "tracking.tags.")
"""Keys below these are the user's own choice, so that none can be misspelt."""

_QUOTING = re.compile(r"['\"()\[\]{}]")
_OVERRIDE = re.compile(r"^\+{0,2}(?P<key>[^=+~][^=]*)=")


def rewrite_overrides(overrides: Iterable[str]) -> list[str]:
    """Lets `experiment=x`, `debug=x` and new keys of open dictionaries be written like any other override.

    `experiment` and `debug` get the `+` that Hydra asks for and go to the end, `debug` last, so that it
    wins. Hydra applies groups before values, so the order among other overrides keeps its meaning. Paths that start
    with `~`, for which Hydra's grammar has no place, are quoted; that of `runs_dir` becomes the folder it stands for,
    as Hydra makes folders in it.

    Args:
        overrides: as typed, such as `["debug=fast", "experiment=mobilenet_8bit", "seed=1"]`.

    Returns:
        `["seed=1", "+experiment=mobilenet_8bit", "+debug=fast"]` for the example.
    """
    plain: list[str] = []
    added: dict[str, list[str]] = {group: [] for group in ADDED_GROUPS}
    for override in map(_home_quoted, overrides):
        found = _OVERRIDE.match(override)
        key = found.group("key") if found else ""
        bare = override.lstrip("+")
        if key in added:
            added[key].append(f"+{bare}")
        elif key.startswith(OPEN_DICTIONARIES):
            plain.append(f"++{bare}")
        else:
            plain.append(override)
    return [*plain, *(override for group in ADDED_GROUPS for override in added[group])]


def _home_quoted(override: str) -> str:
    """Quotes each `~/path` in `key=~/path` or `key=~/one,~/two`, unless the user quoted something."""
    key, equals, value = override.partition("=")
    if "~" not in value or _QUOTING.search(value):
        return override
    choices = [choice.strip() for choice in value.split(",")]
    if key.lstrip("+") == "runs_dir":
        choices = [os.path.expanduser(choice) for choice in choices]
    quoted = [f"'{choice}'" if choice.startswith("~") else choice for choice in choices]
    return f"{key}{equals}{','.join(quoted)}"
