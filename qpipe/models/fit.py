"""Whether a model fits the data: one input of the data's shape, outputs of the labels' shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qpipe.config.schema import Task
from qpipe.errors import ModelError
from qpipe.signature import Signature

if TYPE_CHECKING:
    import keras

Shape = tuple[int | None, ...]

_FLOATS = ("float16", "float32", "float64", "bfloat16")


def check_fit(model: keras.Model, signature: Signature) -> None:
    """Checks a model against the data, before anything is trained.

    Args:
        model: any Keras model.
        signature: shapes of a sample and of its output, as the data has them.

    Raises:
        ModelError: the model is not a layer graph, has several inputs or one that is not of floats, or other shapes
            than the data.
    """
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        raise ModelError(
            f"The model '{getattr(model, 'name', model)}' ({type(model).__name__}) has no layer graph: "
            "a Functional or a built Sequential model is needed."
        )
    if len(inputs) > 1:
        names = ", ".join(f"'{tensor.name}' {tuple(tensor.shape)}" for tensor in inputs)
        raise ModelError(f"The model '{model.name}' has {len(inputs)} inputs ({names}); models with one are handled.")
    if inputs[0].dtype not in _FLOATS:
        raise ModelError(
            f"The model '{model.name}' takes inputs of the type {inputs[0].dtype}, the data gives float32: "
            "build it with keras.Input(shape), whose type is float32."
        )
    _check_input(model, tuple(inputs[0].shape)[1:], signature.input_shape)
    for index, tensor in enumerate(outputs):
        name = f"output {index} ('{tensor.name}')" if len(outputs) > 1 else "an output"
        _check_output(f"The model '{model.name}' has {name}", tuple(tensor.shape)[1:], signature)


def _check_input(model: keras.Model, expected: Shape, data: tuple[int, ...]) -> None:
    if _agree(expected, data):
        return
    advice = ""
    if len(expected) == len(data) == 3:
        changes = []
        if not _agree(expected[:2], data[:2]):
            size = [b if a is None else a for a, b in zip(expected[:2], data[:2], strict=True)]
            changes.append(f"data.image_size=[{size[0]},{size[1]}]")
        if expected[2] not in (None, data[2]):
            changes.append(f"data.channels={expected[2]}")
        advice = f": set {' and '.join(changes)}"
    meaning = "(height, width, channels) = " if len(expected) == 3 else "shape "
    given = f"{data} (data.image_size, data.channels)" if len(data) == 3 else f"samples of shape {data}"
    raise ModelError(f"The model '{model.name}' takes inputs of {meaning}{expected}, the data gives {given}{advice}.")


def _check_output(what: str, received: Shape, signature: Signature) -> None:
    expected = signature.output_shape
    if _agree(received, expected):
        return
    unit = {Task.regression: "value(s)"}.get(signature.task, "classes")
    same_but_last = len(received) == len(expected) and _agree(received[:-1], expected[:-1])
    if same_but_last:
        raise ModelError(f"{what} for {received[-1]} {unit}, but the data has {expected[-1]} {unit}.")
    meaning = {Task.regression: "the values to predict"}.get(signature.task, "one score per class")
    place = " for each pixel" if len(expected) == 3 else ""
    raise ModelError(
        f"{what} of shape {received}; {meaning}{place} is needed: a shape of {expected} for the data's "
        f"{expected[-1]} {unit}."
    )


def _agree(expected: Shape, given: Shape) -> bool:
    """Whether two shapes are equal, where None stands for any size."""
    return len(expected) == len(given) and all(
        a is None or b is None or a == b for a, b in zip(expected, given, strict=True)
    )
