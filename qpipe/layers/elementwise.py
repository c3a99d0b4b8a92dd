"""Functions of single values: those of Keras' activations, layers and operations that a table can hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from qpipe.errors import nearest
from qpipe.layers.activations import NEVER_NEGATIVE, CappedReLU, is_operation


def rescale(x, scale: float, offset: float):
    """Returns x * scale + offset, as `keras.layers.Rescaling` computes it."""
    return x * scale + offset


def gelu(x, approximate: bool = False):
    """Computes gelu with constants of the precision of `x`; Keras' own has them in float32."""
    if approximate:
        return 0.5 * x * (1.0 + ops.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1.0 + ops.erf(x / math.sqrt(2.0)))


def leaky_relu(x, negative_slope: float = 0.2):
    """Computes a leaky ReLU with a slope of the precision of `x`; Keras' own has it in float32."""
    return ops.where(x > 0, x, x * negative_slope)


def relu(x, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0):
    """Computes what Keras calls relu, with a slope of the precision of `x`."""
    if negative_slope and max_value is None and not threshold:
        return leaky_relu(x, negative_slope)
    return keras.activations.relu(x, negative_slope, max_value, threshold)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "absolute": ops.absolute,
    "add": ops.add,
    "celu": keras.activations.celu,
    "clip": ops.clip,
    "divide": ops.divide,
    "elu": keras.activations.elu,
    "exponential": keras.activations.exponential,
    "gelu": keras.activations.gelu,
    "hard_shrink": keras.activations.hard_shrink,
    "hard_sigmoid": keras.activations.hard_sigmoid,
    "hard_silu": keras.activations.hard_silu,
    "hard_tanh": keras.activations.hard_tanh,
    "leaky_relu": keras.activations.leaky_relu,
    "log_sigmoid": keras.activations.log_sigmoid,
    "maximum": ops.maximum,
    "minimum": ops.minimum,
    "mish": keras.activations.mish,
    "multiply": ops.multiply,
    "negative": ops.negative,
    "power": ops.power,
    "relu": keras.activations.relu,
    "relu6": keras.activations.relu6,
    "rescale": rescale,
    "selu": keras.activations.selu,
    "sigmoid": keras.activations.sigmoid,
    "silu": keras.activations.silu,
    "soft_shrink": keras.activations.soft_shrink,
    "softplus": keras.activations.softplus,
    "softsign": keras.activations.softsign,
    "sparse_plus": keras.activations.sparse_plus,
    "sparse_sigmoid": keras.activations.sparse_sigmoid,
    "square": ops.square,
    "squareplus": keras.activations.squareplus,
    "subtract": ops.subtract,
    "tanh": keras.activations.tanh,
    "tanh_shrink": keras.activations.tanh_shrink,
}
"""By name; all are defined for every real number and work on one value at a time."""

IN_ANY_PRECISION: dict[str, Callable[..., Any]] = {"gelu": gelu, "leaky_relu": leaky_relu, "relu": relu}
"""What computes the functions of which Keras rounds constants to float32."""

OPERATIONS = {
    "Absolute": "absolute",
    "Add": "add",
    "Celu": "celu",
    "Clip": "clip",
    "Divide": "divide",
    "Elu": "elu",
    "Exp": "exponential",
    "Gelu": "gelu",
    "HardShrink": "hard_shrink",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "HardTanh": "hard_tanh",
    "LeakyRelu": "leaky_relu",
    "LogSigmoid": "log_sigmoid",
    "Maximum": "maximum",
    "Minimum": "minimum",
    "Mish": "mish",
    "Multiply": "multiply",
    "Negative": "negative",
    "Power": "power",
    "ReLU": "relu",
    "Relu": "relu",
    "Relu6": "relu6",
    "Selu": "selu",
    "Sigmoid": "sigmoid",
    "Silu": "silu",
    "SoftShrink": "soft_shrink",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "SparsePlus": "sparse_plus",
    "SparseSigmoid": "sparse_sigmoid",
    "Square": "square",
    "Squareplus": "squareplus",
    "Subtract": "subtract",
    "Tanh": "tanh",
    "TanhShrink": "tanh_shrink",
    "TrueDivide": "divide",
}
"""Names in `FUNCTIONS` of the operations that functions of `keras.ops` make of a tensor, by their class."""


@keras.saving.register_keras_serializable("qpipe")
class ElementwiseFunction:
    """A function of single values, by its name, with the numbers that belong to it.

    Args:
        name: one of `FUNCTIONS`.
        before: numbers in front of the tensor, such as the 3 in 3 - x.
        after: numbers behind it.
        settings: keyword arguments of the function.

    Call arguments:
        x: floating-point tensor of any type, which the result has too.

    Raises:
        ValueError: if the name is not known.
    """

    def __init__(
        self,
        name: str,
        before: Sequence[float] = (),
        after: Sequence[float] = (),
        settings: dict[str, Any] | None = None,
    ):
        if name not in FUNCTIONS:
            raise ValueError(f"the elementwise function {name!r} is not known; {nearest(name, FUNCTIONS)}")
        self.name = name
        self.before = tuple(before)
        self.after = tuple(after)
        self.settings = dict(settings or {})

    def __call__(self, x):
        function = IN_ANY_PRECISION.get(self.name, FUNCTIONS[self.name])
        return function(*self.before, x, *self.after, **self.settings)

    def never_negative(self, signed: bool) -> bool:
        """Whether no value of the function is negative.

        Args:
            signed: whether its arguments can be negative.
        """
        if self.name == "relu":
            return not self.settings.get("negative_slope")
        if FUNCTIONS[self.name] in NEVER_NEGATIVE or self.name in ("absolute", "square"):
            return True
        numbers = (*self.before, *self.after, *(self.settings.values() if self.name == "rescale" else ()))
        keeps_sign = self.name in ("add", "multiply", "divide", "power", "rescale")
        return not signed and keeps_sign and all(number >= 0 for number in numbers)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "name": self.name,
            "before": list(self.before),
            "after": list(self.after),
            "settings": self.settings,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ElementwiseFunction:
        """Returns the function of a config."""
        return cls(**config)


def elementwise_function(activation) -> ElementwiseFunction | None:
    """Returns the elementwise function that a Keras activation or layer computes, or None for any other.

    Args:
        activation: an activation by name or function, an activation layer, a `Rescaling` by two numbers, or an
            `ElementwiseFunction` (or its config).
    """
    if isinstance(activation, dict):
        activation = keras.saving.deserialize_keras_object(activation)
    if isinstance(activation, ElementwiseFunction):
        return activation
    if isinstance(activation, CappedReLU):
        return ElementwiseFunction("relu", settings={"max_value": activation.cap})
    if isinstance(activation, keras.layers.Layer):
        return _function_of_layer(activation)
    function = keras.activations.get(activation)
    name = next((name for name, known in FUNCTIONS.items() if known is function), None)
    return None if name is None else ElementwiseFunction(name)


def function_of_operation(operation, arguments: Sequence[Any], tensor: object) -> ElementwiseFunction | None:
    """Returns the elementwise function that an operation of `keras.ops` computes of one tensor, or None.

    Args:
        operation: the operation, not a layer.
        arguments: of its call: numbers, and `tensor` once.
        tensor: what stands for the tensor among the arguments.
    """
    name = OPERATIONS.get(type(operation).__name__)
    if name is None or not is_operation(operation, type(operation).__name__):
        return None
    position = next(index for index, argument in enumerate(arguments) if argument is tensor)
    numbers = [argument for argument in arguments if argument is not tensor]
    settings = {key: value for key, value in operation.get_config().items() if key != "name"}
    if not all(_is_number(value) for value in (*numbers, *settings.values()) if value is not None):
        return None
    before, after = (tuple(float(value) for value in part) for part in (numbers[:position], numbers[position:]))
    if (before and name in ("divide", "power")) or (name == "power" and not _is_whole(after)):
        return None
    return ElementwiseFunction(name, before, after, settings)


def _function_of_layer(layer: keras.layers.Layer) -> ElementwiseFunction | None:
    kind = type(layer)
    if kind is keras.layers.Activation:
        return elementwise_function(layer.activation)
    if kind is keras.layers.LeakyReLU:
        return ElementwiseFunction("leaky_relu", settings={"negative_slope": float(layer.negative_slope)})
    if kind is keras.layers.ELU:
        return ElementwiseFunction("elu", settings={"alpha": float(layer.alpha)})
    if kind is keras.layers.ReLU:
        settings = {key: getattr(layer, key) for key in ("negative_slope", "max_value", "threshold")}
        return ElementwiseFunction("relu", settings={key: _number(value) for key, value in settings.items()})
    if kind is keras.layers.Rescaling and _is_number(layer.scale) and _is_number(layer.offset):
        return ElementwiseFunction("rescale", settings={"scale": float(layer.scale), "offset": float(layer.offset)})
    return None


def _number(value) -> float | None:
    return None if value is None else float(value)


def _is_number(value) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and math.isfinite(value)


def _is_whole(exponents: tuple[float, ...]) -> bool:
    return all(exponent >= 0 and exponent == int(exponent) for exponent in exponents)
