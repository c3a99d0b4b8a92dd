"""Names and arguments of Keras' public classes and functions, read from its files without importing it.

Importing Keras takes seconds; a misspelt layer or optimizer should not.
"""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path


@cache
def public_names(module: str) -> tuple[str, ...]:
    """Returns what a public module offers, in alphabetical order.

    Args:
        module: such as `keras.layers`.
    """
    return tuple(sorted(_imports(module)))


@cache
def classes(module: str) -> tuple[str, ...]:
    """Returns the names in a public module that are written as classes are."""
    return tuple(name for name in public_names(module) if name[0].isupper())


@cache
def modules(package: str) -> tuple[str, ...]:
    """Returns the public modules inside a public package such as `keras.datasets`, in alphabetical order."""
    folder = _file(package).parent
    return tuple(sorted(path.parent.name for path in folder.glob("*/__init__.py")))


@cache
def arguments(module: str, name: str) -> tuple[str, ...]:
    """Returns the arguments of a class's `__init__`, with those of its base classes where it takes `**kwargs`.

    Args:
        module: public module, such as `keras.layers`.
        name: one of its classes, or a function.
    """
    source, original = _imports(module)[name]
    return tuple(dict.fromkeys(_arguments_of(source, original)))


@cache
def _imports(module: str) -> dict[str, tuple[str, str]]:
    """Returns for each name that a module imports the module that it comes from and its name there."""
    return {
        alias.asname or alias.name: (statement.module or "", alias.name)
        for statement in _tree(module).body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }


def _arguments_of(module: str, name: str) -> list[str]:
    for statement in _tree(module).body:
        if isinstance(statement, ast.FunctionDef) and statement.name == name:
            return _parameters(statement)
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return _arguments_of_class(module, statement)
    if name in _imports(module):
        return _arguments_of(*_imports(module)[name])
    return []


def _arguments_of_class(module: str, definition: ast.ClassDef) -> list[str]:
    init = next(
        (part for part in definition.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None
    )
    found = [] if init is None else _parameters(init)[1:]
    if init is not None and init.args.kwarg is None:
        return found
    for base in definition.bases:
        if isinstance(base, ast.Name):
            found += _arguments_of(*_imports(module).get(base.id, (module, base.id)))
        elif isinstance(base, ast.Attribute) and base.attr in _imports("keras.layers"):
            found += _arguments_of(*_imports("keras.layers")[base.attr])
    return found + _extra_arguments(definition)


def _extra_arguments(definition: ast.ClassDef) -> list[str]:
    """Arguments that Keras' base layer takes out of its `**kwargs`."""
    return ["input_shape", "batch_input_shape", "input_dim"] if definition.name == "Layer" else []


def _parameters(function: ast.FunctionDef) -> list[str]:
    return [argument.arg for argument in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text(encoding="utf-8"))


def _file(module: str) -> Path:
    package, *inner = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed")
    path = Path(spec.origin).parent.joinpath(*inner)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
