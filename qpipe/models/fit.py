"""Whether a model fits the data: one input of the data's shape, one output with the data's classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qpipe.errors import ModelError

if TYPE_CHECKING:
    import keras


def check_fit(model: keras.Model, *, input_shape: tuple[int, int, int], classes: int) -> None:
    """Checks a model against the data, before anything is trained.

    Args:
        model: any Keras model.
        input_shape: (height, width, channels) of the data.
        classes: number of classes of the data.

    Raises:
        ModelError: the model is not a layer graph, has several inputs or outputs, or other shapes than the data.
    """
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        raise ModelError(
            f"The model '{getattr(model, 'name', model)}' ({type(model).__name__}) has no layer graph: "
            "a Functional or a built Sequential model is needed."
        )
    for kind, tensors in (("inputs", inputs), ("outputs", outputs)):
        if len(tensors) > 1:
            names = ", ".join(f"'{tensor.name}' {tuple(tensor.shape)}" for tensor in tensors)
            raise ModelError(
                f"The model '{model.name}' has {len(tensors)} {kind} ({names}); models with one are handled."
            )
    _check_input(model, tuple(inputs[0].shape), input_shape)
    _check_output(model, tuple(outputs[0].shape), classes)


def _check_input(model: keras.Model, received: tuple[int | None, ...], data: tuple[int, int, int]) -> None:
    expected = received[1:]
    fits = len(expected) == 3 and all(a is None or a == b for a, b in zip(expected, data, strict=True))
    if fits:
        return
    advice = ""
    if len(expected) == 3:
        changes = []
        if any(a is not None and a != b for a, b in zip(expected[:2], data[:2], strict=True)):
            size = [b if a is None else a for a, b in zip(expected[:2], data[:2], strict=True)]
            changes.append(f"data.image_size=[{size[0]},{size[1]}]")
        if expected[2] not in (None, data[2]):
            changes.append(f"data.channels={expected[2]}")
        advice = f": set {' and '.join(changes)}"
    raise ModelError(
        f"The model '{model.name}' takes inputs of (height, width, channels) = {expected}, "
        f"the data gives {data} (data.image_size, data.channels){advice}."
    )


def _check_output(model: keras.Model, received: tuple[int | None, ...], classes: int) -> None:
    if len(received) != 2:
        raise ModelError(
            f"The model '{model.name}' has outputs of shape {received}; one score per class is needed: "
            f"(samples, {classes})."
        )
    if received[1] != classes:
        raise ModelError(
            f"The model '{model.name}' has outputs of shape {received}, but the data has {classes} classes."
        )
