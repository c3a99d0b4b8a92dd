"""Keras layers with random arguments, for the graphs of `random_graphs`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from hypothesis import strategies as st

CLAMPS = ("linear", "relu", "relu6")
CURVES = ("sigmoid", "tanh", "swish", "gelu", "hard_sigmoid", "hard_silu", "leaky_relu", "elu")
LARGEST_SIZE = 10
"""Positions along an axis, or channels, beyond which nothing makes a tensor larger."""

Shape = tuple[int, ...]
Draw = Callable[[st.SearchStrategy], Any]


@dataclass(frozen=True)
class RandomLayer:
    """What a layer class takes.

    Attributes:
        fits: whether it takes a tensor of a shape (without the batch axis).
        arguments: draws its arguments for such a tensor.
    """

    fits: Callable[[Shape], bool]
    arguments: Callable[[Draw, Shape], dict[str, Any]] = lambda draw, shape: {}


def spatial(rank: int, smallest: int = 1, largest: int = 10**9) -> Callable[[Shape], bool]:
    """Whether a shape has `rank` spatial axes, each with so many positions."""
    return lambda shape: len(shape) == rank + 1 and all(smallest <= size <= largest for size in shape[:-1])


def _any(shape: Shape) -> bool:
    return True


def _size(draw: Draw, rank: int, largest: int) -> int | tuple[int, ...]:
    """A size for all axes, or one for each."""
    if rank == 1 or draw(st.booleans()):
        return draw(st.integers(1, largest))
    return tuple(draw(st.integers(1, largest)) for _ in range(rank))


def _convolution(rank: int, *, causal: bool = False, groups: bool = False):
    def arguments(draw: Draw, shape: Shape) -> dict[str, Any]:
        return {
            **_filters(draw, shape, groups),
            **_window(draw, shape, rank, causal),
            "use_bias": draw(st.booleans()),
            "activation": draw(st.sampled_from(CLAMPS + CURVES)),
        }

    return arguments


def _depthwise(rank: int):
    def arguments(draw: Draw, shape: Shape) -> dict[str, Any]:
        window = _window(draw, shape, rank, causal=False)
        if len(set(_pair(window.get("strides", 1)))) > 1:
            window["strides"] = _pair(window["strides"])[0]
        return {
            **window,
            "depth_multiplier": draw(st.integers(1, 2)),
            "use_bias": draw(st.booleans()),
            "activation": draw(st.sampled_from(CLAMPS)),
        }

    return arguments


def _separable(rank: int):
    depthwise = _depthwise(rank)
    return lambda draw, shape: {**_filters(draw, shape, groups=False), **depthwise(draw, shape)}


def _transposed(rank: int):
    def arguments(draw: Draw, shape: Shape) -> dict[str, Any]:
        return {
            "filters": draw(st.integers(1, 5)),
            "kernel_size": _size(draw, rank, 3),
            "strides": draw(st.integers(1, 3)),
            "padding": draw(st.sampled_from(["valid", "same"])),
            "activation": draw(st.sampled_from(CLAMPS)),
        }

    return arguments


def _filters(draw: Draw, shape: Shape, groups: bool) -> dict[str, int]:
    possible = [number for number in (1, 2, 3, 4) if shape[-1] % number == 0] if groups else [1]
    number = draw(st.sampled_from(possible))
    return {"filters": number * draw(st.integers(1, 3)), **({"groups": number} if number > 1 else {})}


def _window(draw: Draw, shape: Shape, rank: int, causal: bool) -> dict[str, Any]:
    """Kernel size, padding, and strides or dilation, so that something is left of the tensor."""
    padding = draw(st.sampled_from(["same", "valid", *(["causal"] if causal else [])]))
    smallest = min(shape[:-1])
    size = _size(draw, rank, min(3, smallest))
    chosen: dict[str, Any] = {"kernel_size": size, "padding": padding}
    if draw(st.booleans()):
        chosen["strides"] = _size(draw, rank, 2)
    elif (max(_pair(size)) - 1) * 2 < smallest:
        chosen["dilation_rate"] = draw(st.integers(1, 2))
    return chosen


def _pooling(rank: int):
    def arguments(draw: Draw, shape: Shape) -> dict[str, Any]:
        return {
            "pool_size": _size(draw, rank, min(3, *shape[:-1])),
            "strides": draw(st.integers(1, 3)),
            "padding": draw(st.sampled_from(["valid", "same"])),
        }

    return arguments


def _ends(name: str, rank: int, largest: int):
    def arguments(draw: Draw, shape: Shape) -> dict[str, Any]:
        pairs = tuple((draw(st.integers(0, largest)), draw(st.integers(0, largest))) for _ in range(rank))
        return {name: pairs[0] if rank == 1 else pairs}

    return arguments


def _pair(size) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(size)


def _reshape(draw: Draw, shape: Shape) -> dict[str, Any]:
    divisors = [number for number in (1, 2, 3, 4) if prod(shape) % number == 0]
    return {"target_shape": (draw(st.sampled_from(divisors)), -1)}


def _permute(draw: Draw, shape: Shape) -> dict[str, Any]:
    return {"dims": tuple(draw(st.permutations(range(1, len(shape) + 1))))}


def _keepdims(draw: Draw, shape: Shape) -> dict[str, Any]:
    return {"keepdims": draw(st.booleans())}


def _small(shape: Shape) -> bool:
    return prod(shape) <= LARGEST_SIZE**3


WITHOUT_WEIGHTS = {
    "Activation": RandomLayer(_any, lambda draw, shape: {"activation": draw(st.sampled_from(CLAMPS[1:] + CURVES))}),
    "ReLU": RandomLayer(
        _any,
        lambda draw, shape: {
            "max_value": draw(st.sampled_from([None, 6.0, 1.5])),
            "negative_slope": draw(st.sampled_from([0.0, 0.1])),
        },
    ),
    "LeakyReLU": RandomLayer(_any, lambda draw, shape: {"negative_slope": draw(st.sampled_from([0.1, 0.3]))}),
    "Softmax": RandomLayer(lambda shape: shape[-1] > 1),
    "Dropout": RandomLayer(_any, lambda draw, shape: {"rate": 0.3}),
    "Flatten": RandomLayer(_small),
    "Reshape": RandomLayer(_any, _reshape),
    "Permute": RandomLayer(lambda shape: len(shape) > 1, _permute),
}
OF_RANK = {
    f"{name}{rank}D": layer
    for rank in (1, 2)
    for name, layer in {
        "Conv": RandomLayer(spatial(rank), _convolution(rank, causal=rank == 1, groups=True)),
        "DepthwiseConv": RandomLayer(spatial(rank), _depthwise(rank)),
        "SeparableConv": RandomLayer(spatial(rank), _separable(rank)),
        "AveragePooling": RandomLayer(spatial(rank), _pooling(rank)),
        "MaxPooling": RandomLayer(spatial(rank), _pooling(rank)),
        "GlobalAveragePooling": RandomLayer(spatial(rank), _keepdims),
        "GlobalMaxPooling": RandomLayer(spatial(rank), _keepdims),
        "ZeroPadding": RandomLayer(spatial(rank, largest=LARGEST_SIZE), _ends("padding", rank, 2)),
        "Cropping": RandomLayer(spatial(rank, smallest=4), _ends("cropping", rank, 1)),
        "UpSampling": RandomLayer(
            spatial(rank, largest=LARGEST_SIZE // 2), lambda draw, shape, rank=rank: {"size": _size(draw, rank, 2)}
        ),
    }.items()
}
KINDS: dict[str, RandomLayer] = {
    **OF_RANK,
    "Conv1DTranspose": RandomLayer(spatial(1, largest=LARGEST_SIZE), _transposed(1)),
    "Conv2DTranspose": RandomLayer(spatial(2, largest=LARGEST_SIZE), _transposed(2)),
    "Dense": RandomLayer(
        _small,
        lambda draw, shape: {
            "units": draw(st.integers(1, 8)),
            "use_bias": draw(st.booleans()),
            "activation": draw(st.sampled_from(CLAMPS + CURVES)),
        },
    ),
    "BatchNormalization": RandomLayer(_any),
    **WITHOUT_WEIGHTS,
}
"""Layers of one tensor, by the name of their Keras class."""

LINEAR = ("Conv1D", "Conv2D", "Conv1DTranspose", "Conv2DTranspose", "DepthwiseConv1D", "DepthwiseConv2D", "Dense")
LINEAR += ("SeparableConv1D", "SeparableConv2D", "BatchNormalization")
"""Layers that are quantized whatever they read."""

MERGES = ("Add", "Subtract", "Multiply", "Concatenate")
"""Layers of two tensors."""


def can_merge(kind: str, first: Shape, second: Shape) -> bool:
    """Whether a layer of two tensors takes tensors of these shapes."""
    if len(first) != len(second):
        return False
    if kind == "Concatenate":
        return first[:-1] == second[:-1]
    if kind == "Multiply":
        return all(one == other or other == 1 for one, other in zip(first, second, strict=True))
    return first == second
