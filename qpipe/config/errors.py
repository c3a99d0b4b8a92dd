"""Turns what Hydra, OmegaConf and the YAML parser raise into one clear sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from qpipe.config import schema
from qpipe.config.catalog import group_options
from qpipe.config.location import config_directories
from qpipe.config.suggestions import unknown_key, unknown_option
from qpipe.errors import ConfigError, nearest

RULE_KINDS = (
    schema.LayerRule,
    schema.WeightQuantizerRule,
    schema.BiasQuantizerRule,
    schema.OutputQuantizerRule,
)
HYDRA_FAILURES = (HydraException, OmegaConfBaseException, yaml.YAMLError)
"""What Hydra, OmegaConf and the YAML parser raise for mistakes that they foresee."""
FAILURES = (*HYDRA_FAILURES, OSError, ValueError, TypeError, AttributeError, AssertionError)
"""The same, and what comes out of Hydra where it did not foresee the mistake."""


@contextmanager
def plain_errors(config_dir: Path | None = None, failures: tuple[type[Exception], ...] = FAILURES) -> Iterator[None]:
    """Raises `ConfigError` with one sentence in place of what Hydra, OmegaConf or the YAML parser raise.

    Args:
        config_dir: the user's own configuration folder, for suggestions.
        failures: what is replaced; a block that does more than compose gives `HYDRA_FAILURES`.
    """
    try:
        yield
    except ConfigError:
        raise
    except failures as error:
        raise ConfigError(explain(error, config_dir)) from error


def explain(error: BaseException, config_dir: Path | None = None) -> str:
    """Returns the sentence for an error that was raised while a configuration was composed or resolved."""
    if isinstance(error, MissingConfigException):
        return _missing_file(error, config_dir)
    if isinstance(error, OverrideParseException):
        return _unreadable_override(error, config_dir)
    if isinstance(error, yaml.YAMLError):
        return _broken_yaml(error)
    if isinstance(error, UnicodeDecodeError):
        return f"a configuration file is not UTF-8 text: {error.reason} at byte {error.start}"
    message = str(error)
    cause = error if isinstance(error, OmegaConfBaseException) else (error.__cause__ or error.__context__)
    file = re.match(r"In '([^']+)': \w+ raised while composing", message)
    where = f"in {file.group(1)}.yaml: " if file and file.group(1) != "config" else ""
    if isinstance(cause, OmegaConfBaseException):
        override = re.search(r"(?:Could not override '|Error merging override )([^'=\s]+)", message)
        return where + _wrong_node(cause, override.group(1).lstrip("+") if override else None)
    return _composition(message, config_dir)


def _missing_file(error: MissingConfigException, config_dir: Path | None) -> str:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    parent = re.match(r"In '([^']+)'", str(error))
    where = f"in {parent.group(1)}.yaml: " if parent and parent.group(1) != "config" else ""
    if group:
        return where + unknown_option(group, option, config_dir)
    return f"{where}there is no configuration file '{option}.yaml'"


def _unreadable_override(error: OverrideParseException, config_dir: Path | None) -> str:
    override = str(error.override)
    if "=" in override:
        detail = str(error.__cause__ or error).splitlines()[0]
        return f"{override}: can't be read as key=value ({detail}); quote values that hold special characters"
    for group, options in group_options(config_directories(config_dir)).items():
        if override in {option.name for option in options}:
            return f"{override}: an override is key=value; did you mean '{group}={override}'?"
    return f"{override}: an override is key=value, such as experiment=mobilenet_8bit or seed=1"


def _broken_yaml(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    if mark is None:
        return f"a configuration file is not valid YAML: {problem}"
    return f"{mark.name}, line {mark.line + 1}: not valid YAML: {problem}"


def _wrong_node(error: OmegaConfBaseException, override: str | None) -> str:
    path = str(error.full_key or override or "")
    if not path and "Cannot merge DictConfig with ListConfig" in str(error):
        return "the file must hold keys and values, not a list"
    if error.object_type in RULE_KINDS and not path.startswith("quantizer."):
        path = f"quantizer.layers[].{path}"
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        return unknown_key(path, error.object_type, override if override and override.startswith(f"{path}.") else None)
    if override and override.startswith(f"{path}.") and isinstance(error.value, dict):
        return f"{override}: there is no such key; {path} holds a single value"
    return f"{path}: {_wrong_value(error)}"


def _wrong_value(error: OmegaConfBaseException) -> str:
    message = str(error.msg or error).splitlines()[0]
    received = repr(error.value)
    options = re.search(r"expected one of \[(.*)\]", message)
    if options:
        allowed = options.group(1).split(", ")
        return f"{received} is not allowed; {nearest(str(error.value), allowed)}"
    subclass = re.search(r"is not a subclass of (\w+)", message)
    if subclass:
        keys = ", ".join(vars(schema).get(subclass.group(1), schema.JobConfig).__dataclass_fields__)
        return f"{received} is not a set of keys; allowed keys: {keys}"
    for pattern, text in {
        r"not Optional|Incompatible value 'None'": "null is not allowed",
        r"converted to Integer": f"{received} is not a whole number",
        r"converted to Float": f"{received} is not a number",
        r"not a valid bool": f"{received} is not true or false",
        r"not a ListConfig": f"{received} is not a list; write [{error.value}]",
        r"(?:Cannot|not) convert.* to string|to str": f"{received} is not text",
    }.items():
        if re.search(pattern, message):
            return text
    return message


def _composition(message: str, config_dir: Path | None) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    first = lines[0] if lines else "no reason given"
    sweep = re.match(r"(?:Ambiguous value for argument|Sweep parameters) '([^']+(?:'[^']*'[^']*)*)'", first)
    if sweep:
        return f"{sweep.group(1).lstrip('+')}: several values need --multirun; a list is written key=[a,b]"
    exists = re.search(r"An item is already at '([^']+)'", first)
    if exists:
        return f"{exists.group(1)}: the key exists already; write it without the +"
    twice = re.match(r"Multiple values for ([^.]+)\.", first)
    if twice:
        return f"{twice.group(1)}: the group is given more than once; name one option"
    override = re.match(r"In '([^']+)': Could not override '([^']+)'", first)
    if override and "@experiment." in override.group(2):
        return f"in {override.group(1)}.yaml: the file must begin with the line '# @package _global_'"
    if override:
        groups = group_options(config_directories(config_dir))
        file, group = override.groups()
        return f"in {file}.yaml: there is no group {group!r}; {nearest(group, groups)}"
    deletion = re.search(r"'([^']+)' does not exist", first)
    if deletion and "delete" in first:
        return unknown_key(deletion.group(1), schema.JobConfig)
    return f"the configuration can't be composed: {first}"
