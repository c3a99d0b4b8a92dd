"""What a rule makes of a quantizer's settings."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

Settings = TypeVar("Settings", bound=Any)


def overlaid(settings: Settings, rule: Any | None) -> Settings:
    """Returns `settings` with the fields that `rule` sets, those that are not null; without a rule as they are."""
    if rule is None:
        return settings
    changes = {item.name: getattr(rule, item.name) for item in fields(rule)}
    return replace(settings, **{key: value for key, value in changes.items() if value is not None})
