"""The groups of the configuration and their options, as they lie in the configuration folders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HIDDEN_GROUPS = {"hydra"}


@dataclass(frozen=True)
class Option:
    """One YAML file of a group; `summary` is the first line of its opening comment."""

    name: str
    summary: str


def group_options(directories: Iterable[Path]) -> dict[str, list[Option]]:
    """Lists every group with its options, sorted by name.

    Args:
        directories: configuration folders; where two have an option of one name, the first folder's counts.
    """
    groups: dict[str, dict[str, Option]] = {}
    for directory in directories:
        for path in sorted(directory.glob("*/*.yaml")):
            if path.parent.name not in HIDDEN_GROUPS:
                options = groups.setdefault(path.parent.name, {})
                options.setdefault(path.stem, Option(path.stem, _summary(path)))
    return {group: [options[name] for name in sorted(options)] for group, options in sorted(groups.items())}


def _summary(path: Path) -> str:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.lstrip("# ").strip()
        if not line.startswith("#"):
            break
        if text and not text.startswith("@"):
            return text
    return ""
