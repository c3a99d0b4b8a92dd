"""Small random Functional graphs of the layers that have an integer form: hypothesis strategies for fuzz tests.

@given(random_graphs(), quantizer_configs())
def test(graph, config):
    model = graph.quantized(config)
    x = graph.samples(16, seed=1)
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers as k
from random_layers import KINDS, LINEAR, MERGES, Draw, Shape, can_merge

import qpipe
from qpipe.config.schema import (
    LayerRule,
    OutputQuantizerConfig,
    OutputQuantizerRule,
    QuantizerConfig,
    ScaleKind,
    WeightQuantizerConfig,
    WeightQuantizerRule,
)


@dataclass(frozen=True)
class DrawnLayer:
    """A layer of a random graph: its Keras class, its arguments, and the numbers of the tensors that it reads."""

    kind: str
    arguments: dict[str, Any]
    inputs: tuple[int, ...]

    def build(self, name: str) -> k.Layer:
        """Returns the Keras layer."""
        return getattr(k, self.kind)(**self.arguments, name=name)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.kind}({arguments})({', '.join(f't{index}' for index in self.inputs)})"


@dataclass
class RandomGraph:
    """How a graph was drawn, and its float model with random weights and statistics.

    Attributes:
        input_shapes: of one sample, for each input; tensors are numbered, the inputs first.
        layers: in the order in which they are called; each is named `layer_<index>`, and makes the next tensor.
        outputs: numbers of the model's outputs.
        seed: of the weights and samples.
    """

    input_shapes: tuple[Shape, ...]
    layers: list[DrawnLayer]
    outputs: tuple[int, ...]
    seed: int

    @cached_property
    def model(self) -> keras.Model:
        """The float model; an input that no layer reads is left out."""
        inputs = [keras.Input(shape, name=f"input_{index}") for index, shape in enumerate(self.input_shapes)]
        tensors = list(inputs)
        for index, layer in enumerate(self.layers):
            tensors.append(layer.build(f"layer_{index}")(_one_or_all([tensors[i] for i in layer.inputs])))
        read = [inputs[i] for i in self._read]
        model = keras.Model(_one_or_all(read), _one_or_all([tensors[i] for i in self.outputs]))
        set_weights(model, self.seed)
        return model

    def samples(self, count: int, *, seed: int = 0, spread: float = 1.0) -> Any:
        """Returns normally distributed float32 inputs (count, ...): an array, or a list of them for several inputs."""
        rng = np.random.default_rng([self.seed, seed])
        shapes = [(count, *self.input_shapes[index]) for index in self._read]
        return _one_or_all([rng.normal(scale=spread, size=shape).astype("float32") for shape in shapes])

    def quantized(self, config: QuantizerConfig | None = None, *, samples: int = 32) -> keras.Model:
        """Returns the quantized model, calibrated on samples of its own.

        Rules set no outputs where there is a Concatenate: all that it joins have one quantizer.
        """
        if config is not None and any(layer.kind == "Concatenate" for layer in self.layers):
            config = replace(config, layers=[replace(rule, output=None) for rule in config.layers])
        return qpipe.calibrate(qpipe.quantize(self.model, config), self.samples(samples))

    @property
    def _read(self) -> list[int]:
        """Numbers of the inputs that some layer reads."""
        read = {index for layer in self.layers for index in layer.inputs}
        return [index for index in range(len(self.input_shapes)) if index in read]


@st.composite
def random_graphs(draw, *, kinds: Sequence[str] | None = None, most_layers: int = 7) -> RandomGraph:
    """Draws a graph of 1 to `most_layers` layers, with branches, one or two inputs and one or more outputs.

    Every tensor that no layer reads is an output; sometimes one that is read is an output too. Where no linear layer
    was drawn, a Dense layer is added: something has to be quantized.

    Args:
        draw: of hypothesis.
        kinds: names of layer classes to choose from; None takes all of `random_layers`.
        most_layers: limit.
    """
    shape = draw(st.sampled_from([(6, 6, 4), (7, 5, 3), (8, 8, 2), (12, 3), (9, 4), (20,)]))
    shapes = [shape] * draw(st.sampled_from([1, 1, 1, 2]))
    count, drawn = len(shapes), []
    for _ in range(draw(st.integers(1, most_layers))):
        _append(drawn, shapes, _draw_layer(draw, shapes, kinds or (*KINDS, *MERGES), first=not drawn))
    if not any(layer.kind in LINEAR for layer in drawn):
        _append(drawn, shapes, DrawnLayer("Dense", {"units": 3}, (len(shapes) - 1,)))
    read = {index for layer in drawn for index in layer.inputs}
    made = range(count, len(shapes))
    also = draw(st.lists(st.sampled_from(made), max_size=1))
    outputs = sorted({index for index in made if index not in read}.union(also))
    return RandomGraph(tuple(shapes[:count]), drawn, tuple(outputs), draw(st.integers(0, 2**16)))


def _append(drawn: list[DrawnLayer], shapes: list[Shape], layer: DrawnLayer) -> None:
    """Adds a layer, and the shape of the tensor that it makes."""
    drawn.append(layer)
    inputs = [(None, *shapes[index]) for index in layer.inputs]
    state = random.getstate()
    output = layer.build("layer").compute_output_shape(inputs if len(inputs) > 1 else inputs[0])
    random.setstate(state)  # initializers draw their seeds from it, and hypothesis wants it untouched
    shapes.append(tuple(output[1:]))


@st.composite
def quantizer_configs(
    draw,
    *,
    weights: Sequence[int] = (8, 8, 4, 2, 3, 5, 6, 7),
    activations: Sequence[int] = (8, 8, 4, 3, 5, 6, 7, 16),
    mixed: bool = True,
) -> QuantizerConfig:
    """Draws quantizers: widths, both kinds of scale, per channel or tensor, symmetric or not, softmax with integers.

    Args:
        draw: of hypothesis.
        weights: widths to choose from; the first is the simplest example.
        activations: likewise; input and output of the model have the same.
        mixed: whether some layers may have other widths than the rest.
    """
    scale = draw(st.sampled_from(ScaleKind))
    activation = OutputQuantizerConfig(
        bitwidth=draw(st.sampled_from(activations)), symmetric=draw(st.booleans()), scale=scale
    )
    weight = WeightQuantizerConfig(
        bitwidth=draw(st.sampled_from(weights)), per_channel=draw(st.booleans()), scale=scale
    )
    rules = []
    if mixed and draw(st.booleans()):
        rules.append(
            LayerRule(
                match="re:layer_[02468].*",
                weight=WeightQuantizerRule(bitwidth=draw(st.sampled_from(weights))),
                output=OutputQuantizerRule(bitwidth=draw(st.sampled_from(activations))),
            )
        )
    factor = WeightQuantizerConfig(per_channel=False, scale=scale)
    return QuantizerConfig(
        input=activation, output=activation, weight=weight, a_quantizer=factor, float_softmax=False, layers=rules
    )


def set_weights(model: keras.Model, seed: int) -> None:
    """Gives a model random weights that keep the size of signals, and random positive variances."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if "seed" in weight.path:
            continue
        if "variance" in weight.name or "gamma" in weight.name:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape).astype("float32"))
        else:
            inputs = max(prod(weight.shape[:-1]), 1) if len(weight.shape) > 1 else 4
            weight.assign((rng.normal(size=weight.shape) / inputs**0.5).astype("float32"))


def _one_or_all(tensors: list) -> Any:
    return tensors[0] if len(tensors) == 1 else tensors


def _draw_layer(draw: Draw, shapes: list[Shape], kinds: Sequence[str], first: bool) -> DrawnLayer:
    """Draws a layer that fits: mostly on the last tensor, sometimes on an earlier one; linear ones twice as often."""
    last = len(shapes) - 1
    source = 0 if first else draw(st.one_of(st.just(last), st.integers(0, last)))
    shape = shapes[source]
    partners = {
        kind: [other for other in range(last + 1) if other != source and can_merge(kind, shape, shapes[other])]
        for kind in MERGES
        if kind in kinds
    }
    fitting = [kind for kind in kinds if (partners[kind] if kind in partners else KINDS[kind].fits(shape))]
    kind = draw(st.sampled_from(fitting + [kind for kind in fitting if kind in LINEAR]))
    if kind in partners:
        return DrawnLayer(kind, {}, (source, draw(st.sampled_from(partners[kind]))))
    return DrawnLayer(kind, KINDS[kind].arguments(draw, shape), (source,))
