"""Writing the operators of a network: which tensors are there, in which forms, and how a result is clamped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qpipe.export.litert.file import FileTensor, GraphFile
from qpipe.export.litert.options import NO_ACTIVATION, RELU, RELU6
from qpipe.export.litert.storage import Stored, dtype_of, stored
from qpipe.export.network import Network
from qpipe.integer import Step
from qpipe.integer.operator import Notes
from qpipe.integer.operators import Requantization
from qpipe.numerics import IntegerRange, QuantizedFormat

Shape = tuple[int, ...]


class GraphWriter:
    """A file in the making, and every tensor of the network in the forms in which operators have written or read it.

    Args:
        network: what is written.
        observed: what the engine noted about each layer on data, if it ran.
        pack_int4: whether weights of at most 4 bits are stored in 4 bits.
        check_sums: whether layers whose sums may not fit an accumulator are refused.

    Attributes:
        weight_types: types for weights, the narrowest first.
        warnings: sentences about what the file may compute otherwise.
    """

    def __init__(
        self,
        network: Network,
        observed: Mapping[str, Notes] | None = None,
        *,
        pack_int4: bool = True,
        check_sums: bool = True,
    ):
        self.check_sums = check_sums
        self.network = network
        self.weight_types = ("int4", "int8") if pack_int4 else ("int8",)
        self.observed = observed or {}
        self.warnings: list[str] = []
        self.file = GraphFile()
        self._forms: dict[tuple[str, str, Shape], int] = {}

    def format(self, name: str) -> QuantizedFormat:
        """Returns the format of a quantized tensor of the network."""
        target = self.network.tensors[name].format
        assert target is not None
        return target

    def shape(self, name: str) -> Shape:
        """Returns the shape of one sample of a tensor of the network."""
        return self.network.tensors[name].shape

    def constant(self, values: np.ndarray, name: str, like: Stored | None = None) -> int:
        """Adds a constant, quantized like a stored tensor if one is given, and returns its position."""
        scale, zero_point = (None, 0) if like is None else (like.scale, like.zero_point)
        return self.file.add_tensor(FileTensor.constant(values, scale, zero_point), name)

    def integers(self, values: Sequence | int, name: str) -> int:
        """Adds an int32 constant (shapes, axes, paddings) and returns its position."""
        return self.constant(np.array(values, np.int32), name)

    def new_tensor(self, name: str, how: Stored, shape: Shape) -> int:
        """Adds a tensor of activations and returns its position."""
        tensor = FileTensor((1, *shape), how.dtype, how.scale, how.zero_point, batched=True)
        return self.file.add_tensor(tensor, name)

    def keep(self, name: str, dtype: str, shape: Shape, index: int) -> None:
        """Takes note of a form in which a tensor of the network is there."""
        self._forms.setdefault((name, dtype, shape), index)

    def has(self, name: str) -> bool:
        """Whether a tensor of the network is there in any form."""
        return any(form[0] == name for form in self._forms)

    def read(self, name: str, dtype: str | None = None, shape: Shape | None = None) -> int:
        """Returns the position of a tensor of the network, with operators that change its type or shape if need be.

        Args:
            name: of the tensor.
            dtype: None takes the narrowest for its format.
            shape: of one sample; None takes the network's.
        """
        dtype = dtype or dtype_of(self.format(name))
        shape = self.shape(name) if shape is None else shape
        if (name, dtype, shape) not in self._forms:
            of_type = [form for form in self._forms if form[:2] == (name, dtype)]
            if of_type:
                self._reshape(of_type[0], shape)
            else:
                other = next(form for form in self._forms if form[0] == name)
                self._change_type(other, dtype)
                return self.read(name, dtype, shape)
        return self._forms[name, dtype, shape]

    def _reshape(self, form: tuple[str, str, Shape], shape: Shape) -> None:
        name, dtype, _ = form
        index = self.new_tensor(f"{name}/{'x'.join(map(str, shape))}", stored(self.format(name), dtype), shape)
        self.add_reshape(self._forms[form], index, shape)
        self.keep(name, dtype, shape, index)

    def add_reshape(self, source: int, target: int, shape: Shape) -> None:
        """Adds a RESHAPE for any batch size."""
        sizes = [-1, *shape]
        self.file.add_operator(
            "RESHAPE", [source, self.integers(sizes, f"shape_{target}")], [target], {"newShape": sizes}
        )

    def _change_type(self, form: tuple[str, str, Shape], dtype: str) -> None:
        """Widens or narrows a tensor; scale and real values stay."""
        name, _, shape = form
        index = self.new_tensor(f"{name}/{dtype}", stored(self.format(name), dtype), shape)
        self.file.add_operator("QUANTIZE", [self._forms[form]], [index])
        self.keep(name, dtype, shape, index)


@dataclass(frozen=True, eq=False)
class Call:
    """One operator of the network that is being written.

    Attributes:
        writer: of the file.
        step: the operator with the names of its tensors.
    """

    writer: GraphWriter
    step: Step

    @property
    def name(self) -> str:
        """Name of the result."""
        return self.step.outputs[0]

    @cached_property
    def dtype(self) -> str:
        """Type in which the operator computes: that of the widest of its tensors."""
        tensors = (self.writer.network.tensors[name] for name in (*self.step.inputs, self.name))
        types = (dtype_of(tensor.format) for tensor in tensors if tensor.format is not None)
        return "int16" if "int16" in types else "int8"

    def input(self, index: int = 0, shape: Shape | None = None) -> int:
        """Returns the position of an input, in the type in which the operator computes."""
        return self.writer.read(self.step.inputs[index], self.dtype, shape)

    def input_format(self, index: int = 0) -> QuantizedFormat:
        """Returns the format of an input."""
        return self.writer.format(self.step.inputs[index])

    def input_shape(self, index: int = 0) -> Shape:
        """Returns the shape of one sample of an input."""
        return self.writer.shape(self.step.inputs[index])

    @property
    def shape(self) -> Shape:
        """The shape of one sample of the result."""
        return self.writer.shape(self.name)

    @property
    def output(self) -> Stored:
        """How the result is stored."""
        return stored(self.writer.format(self.name), self.dtype)

    def constant(self, values: np.ndarray, suffix: str, like: Stored | None = None) -> int:
        """Adds a constant named after the layer and returns its position."""
        return self.writer.constant(values, f"{self.name}/{suffix}", like)

    def integers(self, values: Sequence | int, suffix: str) -> int:
        """Adds an int32 constant named after the layer and returns its position."""
        return self.writer.integers(values, f"{self.name}/{suffix}")

    def emit(
        self,
        operator: str,
        inputs: Sequence[int],
        options: dict | None = None,
        *,
        requantization: Requantization | None = None,
        fuses: bool = False,
        shape: Shape | None = None,
        version: int | None = None,
    ) -> None:
        """Adds the operator that makes the result, and what clamps it to the integers of the network.

        Args:
            operator: name in the format.
            inputs: positions of its inputs.
            options: fields of its options.
            requantization: says how results are clamped; None where the operator chooses among integers of its inputs.
            fuses: whether the operator has a fused activation.
            shape: of one sample, where the operator makes another one than the network's.
            version: of the operator.
        """
        how, shape = self.output, self.shape if shape is None else shape
        clamp = how.integers if requantization is None else self._stored_clamp(requantization)
        activation = best_activation(how, clamp) if fuses else NO_ACTIVATION
        if fuses:
            options = {**(options or {}), "fusedActivationFunction": activation}
        ends = activation_range(how, activation)
        clamped = clamp.lowest > ends.lowest or clamp.highest < ends.highest
        result = self.writer.new_tensor(f"{self.name}/unclamped" if clamped else self.name, how, shape)
        self.writer.file.add_operator(operator, inputs, [result], options, version)
        self.clamp(result, clamp, ends, shape)

    def clamp(self, index: int, clamp: IntegerRange, ends: IntegerRange, shape: Shape) -> None:
        """Makes a tensor with integers `ends` the result, after MAXIMUM and MINIMUM where `clamp` is narrower."""
        bounds = [("MAXIMUM", clamp.lowest, clamp.lowest > ends.lowest)]
        bounds += [("MINIMUM", clamp.highest, clamp.highest < ends.highest)]
        needed = [(operator, bound) for operator, bound, wanted in bounds if wanted]
        for position, (operator, bound) in enumerate(needed, start=1):
            last = position == len(needed)
            limit = self.constant(np.array(bound, self.output.dtype), operator.lower(), self.output)
            result = self.writer.new_tensor(self.name if last else f"{self.name}/raised", self.output, shape)
            self.writer.file.add_operator(operator, [index, limit], [result])
            index = result
        self.writer.keep(self.name, self.dtype, shape, index)

    def _stored_clamp(self, requantization: Requantization) -> IntegerRange:
        lowest, highest = requantization.clamp
        return IntegerRange(lowest - self.output.offset, highest - self.output.offset)


def best_activation(how: Stored, clamp: IntegerRange) -> int:
    """Returns the fused activation that leaves the fewest ends of `clamp` to be clamped, the simplest of equals."""

    def left_over(activation: int) -> int:
        ends = activation_range(how, activation)
        if ends.lowest > clamp.lowest or ends.highest < clamp.highest:
            return 3
        return (ends.lowest != clamp.lowest) + (ends.highest != clamp.highest)

    return min((NO_ACTIVATION, RELU, RELU6), key=left_over)


def activation_range(how: Stored, activation: int) -> IntegerRange:
    """Returns the integers that a fused activation lets through.

    Kernels round 6 / s in different ways: next to a tie RELU6 counts as no range at all, so that it is not chosen.
    """
    lowest, highest = how.integers
    if activation == NO_ACTIVATION:
        return IntegerRange(lowest, highest)
    lowest = max(lowest, how.zero_point)
    if activation == RELU:
        return IntegerRange(lowest, highest)
    cap = 6.0 / float(how.scale)
    if abs(cap - np.floor(cap) - 0.5) < 1e-3:
        return IntegerRange(lowest, lowest - 1)
    return IntegerRange(lowest, min(highest, how.zero_point + round(cap)))
