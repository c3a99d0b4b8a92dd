"""Rewrites command-line overrides into what Hydra expects."""

from __future__ import annotations

import re
from collections.abc import Iterable

ADDED_GROUPS = ("experiment", "debug")
"""Groups that are not in the defaults list, in the order in which they apply: the last one wins."""
OPEN_DICTIONARIES = ("model.arguments.", "data.arguments.", "tracking.tags.")
"""Keys below these are the user's own choice, so that none can be misspelt."""

_OVERRIDE = re.compile(r"^\+{0,2}(?P<key>[^=+~][^=]*)=")


def rewrite_overrides(overrides: Iterable[str]) -> list[str]:
    """Lets `experiment=x`, `debug=x` and new keys of open dictionaries be written like any other override.

    `experiment` and `debug` get the `+` that Hydra asks for and go to the end, `debug` last, so that it
    wins. Hydra applies groups before values, so the order among other overrides keeps its meaning.

    Args:
        overrides: as typed, such as `["debug=fast", "experiment=mobilenet_8bit", "seed=1"]`.

    Returns:
        `["seed=1", "+experiment=mobilenet_8bit", "+debug=fast"]` for the example.
    """
    plain: list[str] = []
    added: dict[str, list[str]] = {group: [] for group in ADDED_GROUPS}
    for override in overrides:
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
