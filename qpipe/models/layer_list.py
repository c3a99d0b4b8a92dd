"""A network as a list of layers: its structure, checked without Keras."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from qpipe import keras_source, targets
from qpipe.config.schema import LayersModel
from qpipe.errors import ConfigError, nearest

INPUT = "input"
"""Name of the model's input."""
CLASSES = "classes"
"""Text that stands for the number of the data's classes in an argument."""
LIST_LAYERS = (
    *("Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract"),
    *("AdditiveAttention", "Attention"),
)
"""Layers that take a list of at least two tensors."""
ATTENTION_LAYERS = ("GroupQueryAttention", "MultiHeadAttention")
"""Layers that take a query, a value and perhaps a key, each an argument of its own."""

_KERAS_LAYERS = "keras.layers"
_OWN_KEYS = ("layer", "name", "inputs")
_NO_LAYERS = ("InputSpec", "Layer", "Wrapper")
_INPUT_LAYERS = ("Input", "InputLayer")


@dataclass(frozen=True, kw_only=True)
class LayerEntry:
    """One layer of the list.

    Attributes:
        where: config path, such as `model.layers[3]`.
        kind: class of `keras.layers`, or a dotted path.
        name: given, or made from the class.
        inputs: names of the layers that it reads; `input` is the model's input.
        arguments: of the class, as configured.
    """

    where: str
    kind: str
    name: str
    inputs: tuple[str, ...]
    arguments: dict[str, Any]

    @property
    def target(self) -> str:
        """Dotted path of the class."""
        return self.kind if "." in self.kind else f"{_KERAS_LAYERS}.{self.kind}"

    @property
    def keras_class(self) -> str | None:
        """Name of the class in `keras.layers`, or None for one of the user's own."""
        module, _, name = self.target.rpartition(".")
        return name if module == _KERAS_LAYERS else None

    def __str__(self) -> str:
        return f"{self.where} ({self.name!r}, {self.kind})"


@dataclass(frozen=True)
class LayerList:
    """The layers in the order in which they are built, and the names of those that are outputs."""

    entries: list[LayerEntry]
    outputs: list[str]


def read_layer_list(config: LayersModel) -> LayerList:
    """Checks a layer list as far as possible without Keras.

    Raises:
        ConfigError: an entry is no mapping, or has a wrong class, argument, name or input; two layers have one name;
            layers form a cycle; a layer reaches no output; an output does not exist.
    """
    if not config.layers:
        raise ConfigError("model.layers is empty: give at least one layer, such as {layer: Dense, units: classes}")
    for index, entry in enumerate(config.layers):
        _check_entry(entry, f"model.layers[{index}]")
    names = _names(config.layers)
    entries: dict[str, LayerEntry] = {}
    for index, entry in enumerate(config.layers):
        before = names[index - 1] if index else INPUT
        entries[names[index]] = LayerEntry(
            where=f"model.layers[{index}]",
            kind=entry["layer"],
            name=names[index],
            inputs=_inputs(entry.get("inputs"), before, names, f"model.layers[{index}]"),
            arguments={key: value for key, value in entry.items() if key not in _OWN_KEYS},
        )
    for layer in entries.values():
        _check_input_count(layer)
    ordered = _in_order(entries)
    outputs = _outputs(config.outputs, names)
    _check_all_reach(entries, outputs)
    return LayerList(ordered, outputs)


def _check_entry(entry: Any, where: str) -> None:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where}: {entry!r} is not allowed; give a mapping such as {{layer: Dense, units: 10}}")
    if "layer" not in entry:
        hint = nearest("layer", [str(key) for key in entry])
        found = ", ".join(repr(key) for key in entry) or "nothing"
        what = (
            f"did you mean {hint.split(' ')[-1][:-1]} to be 'layer'?" if hint.startswith("did") else f"it has {found}"
        )
        raise ConfigError(f"{where} lacks the key 'layer', the class of the layer; {what}")
    kind, name = entry["layer"], entry.get("name")
    if not isinstance(kind, str):
        raise ConfigError(f"{where}.layer: {kind!r} is not allowed; give a class of keras.layers, or a dotted path")
    if name is not None and (not isinstance(name, str) or not name.strip() or "/" in name):
        raise ConfigError(f"{where}.name: {name!r} is not allowed; give a text without '/'")
    if name == INPUT:
        raise ConfigError(f"{where}.name: {INPUT!r} is the name of the model's input; give the layer another one")
    arguments = {str(key): value for key, value in entry.items() if key not in _OWN_KEYS}
    _check_class(kind, arguments, where)
    targets.check_targets(arguments, where)


def _check_class(kind: str, arguments: Mapping[str, Any], where: str) -> None:
    module, _, name = kind.rpartition(".")
    if module not in ("", _KERAS_LAYERS):
        targets.check_target(kind, f"{where}.layer", arguments)
        return
    if name in _INPUT_LAYERS:
        raise ConfigError(
            f"{where}.layer: {name} is not allowed; the input {INPUT!r} is there, its shape is the data's"
        )
    known = [known for known in keras_source.classes(_KERAS_LAYERS) if known not in (*_NO_LAYERS, *_INPUT_LAYERS)]
    if name not in known:
        raise ConfigError(f"{where}.layer: keras.layers has no layer {name!r}; {nearest(name, known)}")
    allowed = keras_source.arguments(_KERAS_LAYERS, name)
    if "layer" in allowed:
        raise ConfigError(
            f"{where}.layer: {name} wraps another layer, for which a layer list has no form; "
            "build it in a class of your own, or the model in a function (model=callable)"
        )
    for argument in arguments:
        if allowed and argument not in allowed:
            offered = {*allowed, *_OWN_KEYS}
            raise ConfigError(f"{where}: {name} has no argument {argument!r}; {nearest(argument, offered)}")


def _names(layers: list[Any]) -> list[str]:
    """Returns the name of each layer; one without gets its class's, numbered in the list's order."""
    given: dict[str, int] = {}
    for index, entry in enumerate(layers):
        if (name := entry.get("name")) is None:
            continue
        if name in given:
            raise ConfigError(
                f"model.layers[{index}].name: {name!r} is the name of model.layers[{given[name]}] already"
            )
        given[name] = index
    taken = {*given, INPUT}
    names = []
    for entry in layers:
        name = entry.get("name")
        if name is None:
            name = _unused(_snake_case(entry["layer"].rpartition(".")[2]), taken)
            taken.add(name)
        names.append(name)
    return names


def _unused(name: str, taken: set[str]) -> str:
    number, numbered = 0, name
    while numbered in taken:
        number += 1
        numbered = f"{name}_{number}"
    return numbered


def _snake_case(name: str) -> str:
    """`BatchNormalization` becomes `batch_normalization`, `Conv2D` `conv2d`, as Keras names layers."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _inputs(value: Any, before: str, names: list[str], where: str) -> tuple[str, ...]:
    if value is None:
        return (before,)
    inputs = [value] if isinstance(value, str) else value
    if not isinstance(inputs, list) or not inputs:
        raise ConfigError(f"{where}.inputs: {value!r} is not allowed; give the name of a layer, or a list of names")
    for name in inputs:
        if name not in (INPUT, *names):
            raise ConfigError(f"{where}.inputs: there is no layer {name!r}; {nearest(str(name), [INPUT, *names])}")
    return tuple(inputs)


def _check_input_count(layer: LayerEntry) -> None:
    count = len(layer.inputs)
    if layer.keras_class in LIST_LAYERS and count < 2:
        raise ConfigError(
            f"{layer.where}.inputs: {layer.kind} takes two or more inputs, received one ({layer.inputs[0]!r}); "
            "give the names of layers, such as inputs: [a, b]"
        )
    if layer.keras_class in ATTENTION_LAYERS and count not in (2, 3):
        raise ConfigError(f"{layer.where}.inputs: {layer.kind} takes [query, value] or [query, value, key]")
    takes_several = layer.keras_class in (*LIST_LAYERS, *ATTENTION_LAYERS, "Lambda", None)
    if count > 1 and not takes_several:
        raise ConfigError(
            f"{layer.where}.inputs: {layer.kind} takes one input, received {count} ({', '.join(layer.inputs)}); "
            f"layers that take several: {', '.join(LIST_LAYERS)}"
        )


def _in_order(entries: dict[str, LayerEntry]) -> list[LayerEntry]:
    sorter = TopologicalSorter(
        {name: [before for before in layer.inputs if before != INPUT] for name, layer in entries.items()}
    )
    try:
        return [entries[name] for name in sorter.static_order()]
    except CycleError as error:
        cycle = error.args[1]
        first = entries[cycle[-1]]
        raise ConfigError(f"{first.where}.inputs: the layers {' -> '.join(cycle)} form a cycle") from None


def _outputs(outputs: list[str] | None, names: list[str]) -> list[str]:
    if outputs is None:
        return [names[-1]]
    if not outputs:
        raise ConfigError("model.outputs is empty: give names of layers, or null for the last layer")
    for index, name in enumerate(outputs):
        if name not in names:
            raise ConfigError(f"model.outputs[{index}]: there is no layer {name!r}; {nearest(str(name), names)}")
        if name in outputs[:index]:
            raise ConfigError(f"model.outputs[{index}]: {name!r} is an output already")
    return list(outputs)


def _check_all_reach(entries: Mapping[str, LayerEntry], outputs: Iterable[str]) -> None:
    reached: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        if name in reached or name == INPUT:
            continue
        reached.add(name)
        waiting += entries[name].inputs
    lost = next((layer for name, layer in entries.items() if name not in reached), None)
    if lost is not None:
        raise ConfigError(
            f"{lost} reaches no output ({', '.join(outputs)}): name it in the inputs of another layer "
            "or in model.outputs, or remove it"
        )
