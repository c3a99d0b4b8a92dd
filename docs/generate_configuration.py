"""Writes `docs/configuration.md` from the schema.

    python docs/generate_configuration.py

Names, types and defaults come from the dataclasses of `qpipe/config/schema.py`, meanings from the docstrings
under their fields, options from the files in `conf/`.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import typing
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any

from omegaconf import MISSING

from qpipe.config import schema
from qpipe.config.catalog import Option, group_options
from qpipe.config.location import conf_directory
from qpipe.config.registry import DATA_SOURCES, MODELS

PAGE = Path(__file__).parent / "configuration.md"
KINDS: dict[str, dict[str, Any]] = {"model": MODELS, "data": DATA_SOURCES}
NAMES = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}
Row = tuple[str, str, str, str]
"""Key, type, default and meaning."""
INTRODUCTION = """# Configuration

Made from the schema by `docs/generate_configuration.py`: change the schema in `qpipe/config/`, then run it again.

Every key below can be set on the command line (`training.qat.epochs=4`), in an experiment, or in a file of a group.
A key that is not here is refused, with the nearest one that is. The defaults are the schema's; the options of a
group, listed with it, set their own values, which this shows for a job:

```
python -m qpipe --cfg job --resolve experiment=mobilenet_8bit
```

Two groups stand beside the keys: `experiment=` changes any of them at once, `debug=fast` makes a job short.

"""


def page() -> str:
    """Returns the whole page."""
    options = group_options([conf_directory()])
    sections = [INTRODUCTION + _options("experiment", options) + "\n" + _options("debug", options)]
    sections.append("## The job\n\n" + _table(_rows(schema.JobConfig, "", groups=False)))
    for field in dataclasses.fields(schema.JobConfig):
        kind = typing.get_type_hints(schema.JobConfig)[field.name]
        if dataclasses.is_dataclass(kind):
            sections.append(_group(field.name, kind, options))
    return "\n".join(sections)


def documented(kind: Any) -> dict[str, str]:
    """Returns the docstring under each field of a dataclass, those that it inherits included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        definition = typing.cast(ast.ClassDef, ast.parse(inspect.getsource(base)).body[0])
        for statement, following in itertools.pairwise([*definition.body, ast.Pass()]):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                found[statement.target.id] = _text(following) or ""
    return found


def _group(name: str, kind: Any, options: dict[str, list[Option]]) -> str:
    parts = [f"## {name}", _meaning(kind), _options(name, options).rstrip()]
    kinds = KINDS.get(name)
    if kinds is None:
        parts.append(_table(_rows(kind, f"{name}.")).rstrip())
    else:
        parts += ["Keys of every kind:", _table(_rows(kind, f"{name}.")).rstrip()]
        for option, own in kinds.items():
            rows = list(_rows(own, f"{name}."))
            common = list(_rows(kind, f"{name}."))
            parts += [f"### {name}: {option}", _meaning(own)]
            parts += [_table(row for row in rows if row not in common).rstrip()] if rows != common else []
    return "\n\n".join(parts) + "\n"


def _options(group: str, options: dict[str, list[Option]]) -> str:
    lines = [f"- `{group}={option.name}`: {option.summary}" for option in options.get(group, [])]
    return "\n".join(lines) + "\n"


def _rows(kind: Any, prefix: str, start: Any = None, *, groups: bool = True) -> Iterator[Row]:
    """Yields a row for each field, and for the fields inside it; `start` holds the defaults."""
    values = kind() if start is None else start
    texts = documented(kind)
    hints: dict[str, Any] = typing.get_type_hints(kind)
    for name, hint in hints.items():
        key, default, inner = f"{prefix}{name}", getattr(values, name), _dataclass_in(hint)
        if inner is None:
            yield f"`{key}`", _type(hint), _default(default), texts[name]
        elif default is None:
            keys = ", ".join(f"`{field.name}`" for field in dataclasses.fields(inner))
            yield f"`{key}`", f"{keys}, or null", "`null`", texts[name] or _meaning(inner)
        elif _is_list(hint):
            yield f"`{key}`", "list", _default(default), texts[name] or _meaning(inner)
            yield from _rows(inner, f"{key}[i].")
        elif groups:
            yield f"`{key}`", "", "", texts[name] or _meaning(inner)
            yield from _rows(inner, f"{key}.", default)


def _dataclass_in(hint: Any) -> Any:
    """Returns the dataclass in a type, be it optional or in a list."""
    return next((part for part in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(part)), None)


def _is_list(hint: Any) -> bool:
    return typing.get_origin(hint) is list


def _type(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if hint is Any:
        return "as described"
    if _is_list(hint):
        return "list" if arguments == (Any,) else f"list of {_type(arguments[0])}s"
    if typing.get_origin(hint) is dict:
        return "mapping"
    if NoneType in arguments:
        return " or ".join([*(_type(part) for part in arguments if part is not NoneType), "null"])
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(f"`{member.value}`" for member in hint)
    return NAMES[hint.__name__]


def _default(value: Any) -> str:
    if value == MISSING:
        return "must be set"
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool):
        value = {None: "null", True: "true", False: "false"}[value]
    return f"`{value}`".replace("'", '"')


def _meaning(kind: Any) -> str:
    return " ".join((kind.__doc__ or "").split())


def _text(statement: ast.stmt) -> str | None:
    match statement:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return " ".join(text.split())
    return None


def _table(rows: Iterable[Row]) -> str:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
