"""The swept space: which keys of a multirun take which values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, Sweep

from qpipe.errors import ConfigError

ONE_PLACE = ("runs_dir", "tracking", "sweep")
"""Keys that all jobs of a sweep share: they say where it is and what it looks for."""

NO_PARAMETERS: Mapping[str, Any] = {}


@dataclass(frozen=True, kw_only=True)
class SweptSpace:
    """What a multirun's overrides say.

    Attributes:
        fixed: overrides with one value, such as `seed=1`.
        swept: for each swept key its overrides, such as `["seed=1", "seed=2"]`; of an interval its two ends.
        shown: for each swept key the values as one text, such as `1, 2`, or `interval(0.1, 0.2)`.
        jobs: how many combinations there are; None where an interval is among them.
    """

    fixed: list[str]
    swept: dict[str, list[str]]
    shown: dict[str, str]
    jobs: int | None

    @property
    def first_job(self) -> list[str]:
        """Overrides of the first job."""
        return [*self.fixed, *(values[0] for values in self.swept.values())]

    def each_value_once(self) -> Iterator[list[str]]:
        """Yields overrides of jobs in which every value occurs, the other keys at their first: the sum, not the
        product.
        """
        yield self.first_job
        for key, values in self.swept.items():
            others = [choices[0] for name, choices in self.swept.items() if name != key]
            for value in values[1:]:
                yield [*self.fixed, *others, value]


def read_space(overrides: Sequence[str], parameters: Mapping[str, Any] = NO_PARAMETERS) -> SweptSpace:
    """Reads what is swept; Hydra has to be initialized, as it is inside of `composed`.

    Args:
        overrides: as Hydra takes them.
        parameters: `hydra.sweeper.params`; the overrides win over them.

    Raises:
        ConfigError: something is swept that the jobs of a sweep share.
    """
    texts = [f"{key}={value}" for key, value in parameters.items()]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    fixed: dict[str, str] = {}
    swept: dict[str, list[str]] = {}
    shown: dict[str, str] = {}
    for override in parser.parse_overrides([*texts, *overrides]):
        key = override.get_key_element()
        for known in (fixed, swept, shown):
            known.pop(key, None)
        if not override.is_sweep_override():
            fixed[key] = str(override.input_line)
            continue
        plain = key.lstrip("+")
        if plain.split(".")[0] in ONE_PLACE:
            raise ConfigError(f"{plain}: it has one value for all jobs of a sweep, received several")
        values = _values(override)
        swept[key] = [f"{key}={value}" for value in values]
        shown[key] = ", ".join(values) if override.is_discrete_sweep() else _interval(override)
    is_countable = all(not text.startswith("interval(") for text in shown.values())
    jobs = math.prod(len(dict.fromkeys(values)) for values in swept.values()) if is_countable else None
    return SweptSpace(fixed=list(fixed.values()), swept=swept, shown=shown, jobs=jobs)


def _values(override: Override) -> list[str]:
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [str(value.start), str(value.end)]
    found = list(override.sweep_string_iterator())
    if not found:
        raise ConfigError(f"{override.input_line}: it has no value")
    return found


def _interval(override: Override) -> str:
    value = override.value()
    assert isinstance(value, IntervalSweep)
    tags = f", {', '.join(sorted(value.tags))}" if isinstance(value, Sweep) and value.tags else ""
    return f"interval({value.start}, {value.end}{tags})"
