"""Building a Keras model from a layer list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qpipe import targets
from qpipe.config.schema import LayersModel
from qpipe.errors import ModelError, QpipeError
from qpipe.first_sentence import first_sentence
from qpipe.models.layer_list import ATTENTION_LAYERS, CLASSES, INPUT, LayerEntry, read_layer_list
from qpipe.signature import Signature

if TYPE_CHECKING:
    import keras


def build_layers(config: LayersModel, signature: Signature) -> keras.Model:
    """Builds the network that a layer list describes.

    Args:
        config: the list.
        signature: gives the input's shape and the number that `classes` stands for.

    Returns:
        A Functional model with the layers' names, one input and as many outputs as configured.

    Raises:
        ConfigError: the list is wrong in itself.
        ModelError: Keras refuses a value, or shapes do not fit each other.
    """
    layers = read_layer_list(config)
    import keras

    tensors: dict[str, Any] = {INPUT: keras.Input(signature.input_shape, name=INPUT)}
    for entry in layers.entries:
        layer = _layer(entry, signature.classes)
        tensors[entry.name] = _called(layer, entry, [tensors[name] for name in entry.inputs])
    outputs = [tensors[name] for name in layers.outputs]
    return keras.Model(tensors[INPUT], outputs[0] if len(outputs) == 1 else outputs, name="layers")


def _layer(entry: LayerEntry, classes: int) -> keras.layers.Layer:
    import keras

    layer_class = targets.locate(entry.target, f"{entry.where}.layer")
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.layers.Layer)):
        raise ModelError(f"{entry.where}.layer: {entry.kind} is not a class of Keras layers.")
    arguments = targets.instantiated(_with_classes(entry.arguments, classes), entry.where)
    try:
        return layer_class(name=entry.name, **arguments)
    except QpipeError:
        raise
    except Exception as error:
        raise ModelError(f"{entry}: {first_sentence(error)}.") from error


def _called(layer: keras.layers.Layer, entry: LayerEntry, inputs: list[Any]) -> Any:
    import keras

    try:
        if entry.keras_class in ATTENTION_LAYERS:
            output = layer(*inputs)
        else:
            output = layer(inputs[0] if len(inputs) == 1 else inputs)
    except QpipeError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{name!r} {tuple(tensor.shape)}" for name, tensor in zip(entry.inputs, inputs, strict=True))
        raise ModelError(f"{entry} does not take {shapes}: {first_sentence(error)}.") from error
    if not isinstance(output, keras.KerasTensor):
        raise ModelError(f"{entry} gives a {type(output).__name__}; layers of a list give one tensor each.")
    return output


def _with_classes(value: Any, classes: int) -> Any:
    """Returns `value` with the number of classes in the place of each text `classes`."""
    if value == CLASSES:
        return classes
    if isinstance(value, Mapping):
        return {name: _with_classes(inner, classes) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_classes(inner, classes) for inner in value]
    return value
