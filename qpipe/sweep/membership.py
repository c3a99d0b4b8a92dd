"""A job's place in its sweep: what its run is called and tagged with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

PARENT_VARIABLE = "QPIPE_SWEEP"
"""Environment variable that tells a job the run of its sweep; never MLFLOW_RUN_ID, which would be written to."""
PARENT = "mlflow.parentRunId"
JOB, NUMBER, IDENTITY = "qpipe.sweep.job", "qpipe.sweep.number", "qpipe.sweep.identity"
SWEPT = "swept"
"""Prefix of the tags, and of some parameters, that hold a job's swept values."""
_LONGEST_VALUE = 40
_DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class Membership:
    """What a job of a sweep adds to its run.

    Attributes:
        name: of the run.
        tags: of the run.
        parameters: of the run, beside those of its configuration.
    """

    name: str
    tags: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)


def membership(
    name: str,
    parent_id: str,
    *,
    job: str,
    number: int,
    swept: dict[str, str],
    groups: Collection[str],
    identity: str,
) -> Membership:
    """Returns the place of a job.

    Args:
        name: of the job, as configured.
        parent_id: the sweep's run.
        job: the job's name within its sweep.
        number: of the job, from 0.
        swept: its swept values under their short names.
        groups: short names of those that are no parameters of every run, such as `experiment`: they are made so. The
            others are not repeated, as MLflow's compare page takes the first parameters that differ.
        identity: its hash.
    """
    values = {f"{SWEPT}/{key}": value for key, value in swept.items()}
    tags = {PARENT: parent_id, JOB: job, NUMBER: str(number), IDENTITY: identity}
    parameters = {f"{SWEPT}/{key}": swept[key] for key in groups if key in swept}
    return Membership(name=f"{label(swept)} · {name}", tags=tags | values, parameters=parameters)


def label(swept: dict[str, str]) -> str:
    """Returns swept values as one text, such as `bitwidth=4 mode=ema_stats_folding`; long numbers are rounded."""
    return " ".join(f"{key}={_short(value)}" for key, value in swept.items())


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Returns the last part of each dotted key, with as many parts before it as it takes to tell them apart."""
    parts = {key: key.lstrip("+").replace("/", ".").split(".") for key in keys}
    taken = dict.fromkeys(keys, 1)
    while True:
        names = {key: ".".join(parts[key][-taken[key] :]) for key in keys}
        counts = Counter(names.values())
        clashing = [key for key in keys if counts[names[key]] > 1 and taken[key] < len(parts[key])]
        if not clashing:
            return names
        for key in clashing:
            taken[key] += 1


def _short(value: str) -> str:
    try:
        number = float(value)
    except ValueError:
        return value if len(value) <= _LONGEST_VALUE else f"…{value[1 - _LONGEST_VALUE :]}"
    rounded = f"{number:.{_DIGITS}g}"
    return rounded if len(rounded) < len(value) else value
