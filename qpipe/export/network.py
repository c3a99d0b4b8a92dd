"""A quantized model as exporters read it: the engine's operators, and the shape and format of every tensor."""

from __future__ import annotations

from dataclasses import dataclass, replace

import keras
import numpy as np

from qpipe.errors import ExportError
from qpipe.graph.activation_treatments import is_softmax
from qpipe.integer import Program, Step
from qpipe.integer.operators import Dequantize, Requantization, Softmax
from qpipe.integer.operators.softmax import exponentials
from qpipe.lowering import lower
from qpipe.lowering.boundary import InFloat
from qpipe.numerics import QuantizedFormat, QuantizedTensor

PROBABILITIES = QuantizedFormat(8, False, np.asarray(2.0**-8, np.float32))
"""Format of the shares that a softmax at the output gives in a file: 0, 1/256, ..., 255/256."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of a network.

    Attributes:
        shape: of one sample.
        format: what its integers stand for; None for real values.
    """

    shape: tuple[int, ...]
    format: QuantizedFormat | None


@dataclass(frozen=True, eq=False)
class Network:
    """What a file computes.

    Attributes:
        name: of the model.
        program: the operators; its outputs are integers wherever the model quantizes them.
        tensors: by their names in the program.
        output_names: names for the outputs in a file, in the order of the program's.
        notes: what the file computes otherwise than the Keras model, one sentence each.
    """

    name: str
    program: Program
    tensors: dict[str, Tensor]
    output_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def network_of(model: keras.Model) -> Network:
    """Returns what a file of a calibrated or trained quantized model computes, with integers up to its outputs.

    The dequantization at the outputs is left out, and a softmax in float behind it becomes one of integers; behind
    scores of more than 8 bits it is left out, too.

    Args:
        model: a model that `qpipe.quantize` returned.

    Raises:
        QuantizationError: if it is not quantized, or an output was never calibrated.
        ExportError: if the size of an input is not known.
    """
    network = _lowered(model)
    for name in network.program.outputs:
        network = _with_integer_output(network, name)
    return _pruned(replace(network, output_names=_distinct(network.program.outputs)))


def _lowered(model: keras.Model) -> Network:
    """The network as the engine runs it; one sample tells shapes and formats."""
    program = lower(model)
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    for name, shape in zip(program.inputs, shapes, strict=True):
        if None in shape:
            raise ExportError(f"input {name!r} has the shape {shape}; files need sizes that are known")
    values = program.run([np.zeros((1, *shape), np.float32) for shape in shapes], keep=True)
    program.notes.clear()
    tensors = {
        name: Tensor(value.integers.shape[1:], value.format)
        if isinstance(value, QuantizedTensor)
        else Tensor(value.shape[1:], None)
        for name, value in values.items()
    }
    return Network(model.name, program, tensors, ())


def _with_integer_output(network: Network, name: str) -> Network:
    """Ends the network with integers where an output is dequantized, or dequantized and given to a softmax."""
    makers = {output: step for step in network.program.steps for output in step.outputs}
    step = makers.get(name)
    if step is not None and isinstance(step.operator, Dequantize):
        return _ending_with(network, name, step.inputs[0])
    if step is None or not _is_softmax_over_classes(step):
        return network
    before = makers.get(step.inputs[0])
    if before is None or not isinstance(before.operator, Dequantize):
        return network
    logits = network.tensors[before.inputs[0]].format
    assert logits is not None
    if logits.bitwidth > PROBABILITIES.bitwidth:
        note = f"{step.layer}: the file ends before this softmax, with scores of {logits.bitwidth} bits"
        return replace(_ending_with(network, name, before.inputs[0]), notes=(*network.notes, note))
    table = exponentials(float(logits.scale), logits.bitwidth)
    softmax = Softmax(table, Requantization(np.float32(1.0), PROBABILITIES))
    steps = [replace(s, operator=softmax, inputs=before.inputs) if s is step else s for s in network.program.steps]
    return replace(
        network,
        program=replace(network.program, steps=steps),
        tensors=network.tensors | {name: Tensor(network.tensors[name].shape, PROBABILITIES)},
        notes=(*network.notes, f"{step.layer}: the softmax at the output computes with integers, in steps of 1/256"),
    )


def _ending_with(network: Network, name: str, tensor: str) -> Network:
    """Puts another tensor in the place of an output."""
    outputs = tuple(tensor if output == name else output for output in network.program.outputs)
    return replace(network, program=replace(network.program, outputs=outputs))


def _is_softmax_over_classes(step: Step) -> bool:
    operator = step.operator
    if not isinstance(operator, InFloat) or not is_softmax(operator.node.operation) or len(step.inputs) != 1:
        return False
    axis = getattr(operator.node.operation, "axis", -1)
    return axis in (-1, len(operator.node.inputs[0].shape) - 1)


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Each name once: a tensor that is an output again gets a number."""
    return tuple(
        name if name not in names[:index] else f"{name}_{names[:index].count(name)}" for index, name in enumerate(names)
    )


def _pruned(network: Network) -> Network:
    """Leaves out the operators whose results nobody reads."""
    read = set(network.program.outputs)
    kept: list[Step] = []
    for step in reversed(network.program.steps):
        if read.intersection(step.outputs):
            kept.insert(0, step)
            read.update(step.inputs)
    return replace(network, program=replace(network.program, steps=kept))
