"""`_target_`: classes and functions that a configuration names by their dotted path."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qpipe import keras_source
from qpipe.errors import ConfigError, QpipeError, nearest
from qpipe.first_sentence import first_sentence

TARGET = "_target_"


def check_target(path: Any, where: str, arguments: Mapping[str, Any] | None = None) -> None:
    """Checks what can be checked of a dotted path without importing it.

    Of Keras' own names everything is checked; of others, that their module exists.

    Args:
        path: such as `keras.optimizers.SGD` or `my_package.models.tiny_net`.
        where: config path, for messages.
        arguments: the arguments that the target will be called with.

    Raises:
        ConfigError: it is no dotted path, the module does not exist, or Keras has no such name or argument.
    """
    module, name = _split(path, where)
    _search_working_folder()
    if module.split(".")[0] == "keras":
        _check_keras(module, name, where, arguments or {})
        return
    outer = ""
    for part in module.split("."):
        inner = f"{outer}.{part}" if outer else part
        if _spec(inner, where) is None:
            if outer:  # a class with the function in it, perhaps; found out when it is imported
                return
            raise ConfigError(
                f"{where}: there is no module {part!r} in the working folder ({os.getcwd()}) or among the installed "
                f"packages, received {path!r}"
            )
        outer = inner


def locate(path: Any, where: str) -> Callable[..., Any]:
    """Imports the class or function at a dotted path; modules of the working folder are found.

    Raises:
        ConfigError: there is no such module or name, importing it fails, or it can't be called.
    """
    module_name, name = _split(path, where)
    check_target(path, where)
    owner = _import(module_name, where)
    if not hasattr(owner, name):
        offered = [offer for offer in dir(owner) if callable(getattr(owner, offer)) and not offer.startswith("_")]
        raise ConfigError(f"{where}: {module_name!r} has no {name!r}; {nearest(name, offered)}")
    target = getattr(owner, name)
    if not callable(target):
        raise ConfigError(f"{where}: {path!r} is a {type(target).__name__}; a class or a function is needed")
    return target


def call(
    path: Any, arguments: Mapping[str, Any], where: str, arguments_where: str | None = None, /, **offered: Any
) -> Any:
    """Calls a target.

    Args:
        path: dotted path.
        arguments: its arguments; mappings with `_target_` inside them are called first.
        where: config path of the target, for messages.
        arguments_where: config path of the arguments; None where they are beside the target.
        **offered: further arguments, passed where the target takes them and `arguments` does not have them.

    Raises:
        ConfigError: there is no such target, it has no such argument, or it raises an error or calls `sys.exit`.
    """
    target = locate(path, where)
    taken = _parameters(target)
    if taken is not None:
        for name in arguments:
            if name not in taken:
                raise ConfigError(f"{where}: {path} has no argument {name!r}; {nearest(name, taken)}")
    values = {name: instantiated(value, f"{arguments_where or where}.{name}") for name, value in arguments.items()}
    extra = {name: value for name, value in offered.items() if name not in values and (taken is None or name in taken)}
    try:
        return target(**extra, **values)
    except QpipeError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{where}: {path} {_outcome(error)}") from error


def instantiated(value: Any, where: str, **offered: Any) -> Any:
    """Returns `value` with every mapping that holds `_target_` replaced by what its target returns."""
    if isinstance(value, Mapping) and TARGET in value:
        arguments = {str(name): inner for name, inner in value.items() if name != TARGET}
        return call(value[TARGET], arguments, where, **offered)
    if isinstance(value, Mapping):
        return {name: instantiated(inner, f"{where}.{name}") for name, inner in value.items()}
    if isinstance(value, list):
        return [instantiated(inner, f"{where}[{index}]") for index, inner in enumerate(value)]
    return value


def check_targets(value: Any, where: str) -> None:
    """Applies `check_target` to every `_target_` in a value of the configuration."""
    if isinstance(value, Mapping):
        if TARGET in value:
            check_target(value[TARGET], where, {key: inner for key, inner in value.items() if key != TARGET})
        for name, inner in value.items():
            check_targets(inner, f"{where}.{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            check_targets(inner, f"{where}[{index}]")


def source_file(path: str) -> Path | None:
    """Returns the file of the module in which a dotted path ends, without importing the target; None for built-ins."""
    _search_working_folder()
    file = None
    parts = path.split(".")[:-1]
    for end in range(1, len(parts) + 1):
        try:
            spec = importlib.util.find_spec(".".join(parts[:end]))
        except ModuleNotFoundError:  # a class with the target in it
            break
        if spec is None:
            break
        file = spec.origin
    return Path(file) if file is not None and os.path.isfile(file) else None


def source_files(path: str) -> list[Path]:
    """Returns the file of a dotted path's module and, where that is another one, the file that defines the target.

    The target is imported, unless it is Keras' own, whose version tells what it is.
    """
    files = [source_file(path)]
    if path.split(".")[0] != "keras":
        with contextlib.suppress(ConfigError):
            files.append(defining_file(locate(path, path)))
    return [file for file in dict.fromkeys(files) if file is not None]


def defining_file(target: Any) -> Path | None:
    """Returns the file in which a class, a function or an object's class is written; None for built-ins."""
    while isinstance(target, functools.partial):
        target = target.func
    target = inspect.unwrap(target)
    if not inspect.isclass(target) and not inspect.isroutine(target):
        target = type(target)
    try:
        return Path(inspect.getfile(target))
    except TypeError:
        return None


def _split(path: Any, where: str) -> tuple[str, str]:
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")) or "." not in path:
        raise ConfigError(f"{where}: {path!r} is not allowed; give a dotted path such as my_package.module.name")
    module, _, name = path.rpartition(".")
    return module, name


def _check_keras(module: str, name: str, where: str, arguments: Mapping[str, Any]) -> None:
    try:
        names = keras_source.public_names(module)
    except FileNotFoundError:
        raise ConfigError(f"{where}: Keras has no module {module!r}; {nearest(module, _keras_modules())}") from None
    if name not in names:
        raise ConfigError(f"{where}: {module} has no {name!r}; {nearest(name, names)}")
    allowed = keras_source.arguments(module, name)
    for argument in arguments:
        if allowed and argument not in allowed:
            raise ConfigError(f"{where}: {module}.{name} has no argument {argument!r}; {nearest(argument, allowed)}")


def _keras_modules() -> list[str]:
    return [f"keras.{name}" for name in keras_source.modules("keras")] + ["keras.optimizers.schedules"]


def _spec(module: str, where: str) -> Any:
    try:
        return importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{where}: importing {module!r} {_outcome(error)}") from error


def _import(module: str, where: str) -> Any:
    """Imports a module, or a class inside one."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        outer, _, name = module.rpartition(".")
        if error.name == module and outer:
            owner = _import(outer, where)
            if hasattr(owner, name):
                return getattr(owner, name)
            offered = [offer for offer in vars(owner) if not offer.startswith("_")]
            raise ConfigError(f"{where}: {outer!r} has no {name!r}; {nearest(name, offered)}") from None
        raise ConfigError(f"{where}: importing {module!r} needs the module {error.name!r}, which is missing") from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{where}: importing {module!r} {_outcome(error)}") from error


def _outcome(error: BaseException) -> str:
    """What the user's code did instead of what it should."""
    if isinstance(error, SystemExit):
        return f"called sys.exit({'' if error.code is None else repr(error.code)})"
    return f"raised {type(error).__name__}: {first_sentence(error)}"


def _parameters(target: Callable[..., Any]) -> set[str] | None:
    """Names of a target's arguments; None where it takes any, or where they are not known."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_POSITIONAL}


def _search_working_folder() -> None:
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
