"""What constructors of folded layers take over from QKeras: names, defaults, quantizers as text."""

from __future__ import annotations

import inspect
import logging
from typing import Any

from qpipe.quantizers.qkeras_strings import (
    ARGUMENTS,
    bias_quantizer_from_qkeras,
    is_qkeras_text,
    refuse_activation,
    weight_quantizer_from_qkeras,
)

logger = logging.getLogger("qpipe")

DEPRECATED = ("kernel_range", "depthwise_range", "bias_range")
WITHOUT_EFFECT = ("fused", "renorm_clipping", "renorm_momentum")
"""Arguments that change no result without `renorm`."""

REFUSED = {
    "renorm": "the correction of batch renormalization can't be folded into a kernel",
    "synchronized": "statistics that replicas share are not supported",
    "virtual_batch_size": "statistics of parts of a batch are not supported",
    "adjustment": "a function of the batch's shape can't be folded into a kernel",
}


def folded_layer_arguments(layer_class: type, positional: tuple, keywords: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a folded layer by name, as the layers below it take them.

    Args:
        layer_class: of the folded layer.
        positional: as received, in the order of the Keras layer.
        keywords: as received.

    Raises:
        ValueError: for an argument that would change the result and has no counterpart.
        TypeError: for an argument that is given twice or unknown.
    """
    arguments = _by_name(layer_class, positional, keywords)
    where = f"{layer_class.__name__} {arguments['name']!r}" if arguments.get("name") else layer_class.__name__
    prefix = "depthwise" if "depthwise_initializer" in _names(layer_class) else "kernel"
    arguments.setdefault(f"{prefix}_initializer", "he_normal")
    if prefix == "depthwise" and "depthwise_quantizer" in arguments:
        if arguments.get("kernel_quantizer") is not None:
            raise TypeError(f"{where}: depthwise_quantizer and kernel_quantizer are two names of one argument")
        arguments["kernel_quantizer"] = arguments.pop("depthwise_quantizer")
    _drop(arguments, where)
    _read_quantizers(arguments, where, layer_class)
    activation = arguments.get("activation")
    if isinstance(activation, str) and is_qkeras_text(activation):
        raise refuse_activation(activation, f"{where}: activation")
    return arguments


def as_python(value: Any) -> str:
    """Returns a quantizer or activation as the Python that makes it, without arguments at their defaults."""
    if value is None or not hasattr(value, "get_config"):
        return str(getattr(value, "__name__", value))
    kind: Any = type(value)
    parameters = inspect.signature(kind.__init__).parameters
    config = {key: entry for key, entry in value.get_config().items() if key in parameters}
    shown = [
        f"{key}={entry!r}"
        for key, entry in config.items()
        if entry != parameters[key].default and not (key == "channel_axes" and tuple(entry) == (-1,))
    ]
    return f"{kind.__name__}({', '.join(shown)})"


def _by_name(layer_class: type, positional: tuple, keywords: dict[str, Any]) -> dict[str, Any]:
    names = _names(layer_class)
    if len(positional) > len(names):
        raise TypeError(f"{layer_class.__name__} takes {len(names)} positional arguments, received {len(positional)}")
    named = dict(zip(names, positional, strict=False))
    if twice := sorted(named.keys() & keywords.keys()):
        raise TypeError(f"{layer_class.__name__}: {twice[0]!r} is given twice, once by its position")
    return named | keywords


def _names(layer_class: type) -> list[str]:
    """Names of the positional arguments of the Keras layer below `layer_class`."""
    keras_class: Any = next(base for base in layer_class.__mro__ if base.__module__.startswith("keras."))
    parameters = inspect.signature(keras_class.__init__).parameters.values()
    return [entry.name for entry in parameters if entry.kind is entry.POSITIONAL_OR_KEYWORD][1:]


def _drop(arguments: dict[str, Any], where: str) -> None:
    for name in DEPRECATED:
        value = arguments.pop(name, None)
        if value is not None:
            logger.warning("%s leaves out %s=%r: it is deprecated and has no effect", where, name, value)
    for name in WITHOUT_EFFECT:
        arguments.pop(name, None)
    for name, reason in REFUSED.items():
        value = arguments.pop(name, None)
        if value:
            raise ValueError(f"{where}: {name}={value!r} is not allowed: {reason}")


def _read_quantizers(arguments: dict[str, Any], where: str, layer_class: Any) -> None:
    kernel = _text_of(arguments.get("kernel_quantizer"))
    if isinstance(kernel, str):
        arguments["kernel_quantizer"] = weight_quantizer_from_qkeras(
            kernel, f"{where}: kernel_quantizer", layer_class.channel_axes
        )
    bias = _text_of(arguments.get("bias_quantizer"))
    if isinstance(bias, str):
        arguments["bias_quantizer"] = bias_quantizer_from_qkeras(
            bias, f"{where}: bias_quantizer", arguments.get("buffer_bitwidth", 32)
        )


def _text_of(quantizer: Any) -> Any:
    """The text of a quantizer that QKeras serialized; anything else as it is."""
    if isinstance(quantizer, dict) and quantizer.get("class_name") in ARGUMENTS:
        arguments = ", ".join(f"{key}={value!r}" for key, value in quantizer.get("config", {}).items())
        return f"{quantizer['class_name']}({arguments})"
    return quantizer
