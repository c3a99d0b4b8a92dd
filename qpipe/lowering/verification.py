"""Comparing the Keras simulation with the integer engine, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import keras
import numpy as np

from qpipe.graph.trace import trace
from qpipe.integer import Program
from qpipe.integer.operator import Notes
from qpipe.lowering.lower import edge_names, lower
from qpipe.numerics import QuantizedTensor
from qpipe.sample_batches import packed


@dataclass
class TensorComparison:
    """How a tensor's integers differ between simulation and engine; `largest_lsb` in least significant bits."""

    values: int = 0
    differing: int = 0
    largest_lsb: int = 0

    @property
    def mismatch_rate(self) -> float:
        """Share of the values that differ."""
        return self.differing / self.values if self.values else 0.0

    def add(self, simulated: np.ndarray, computed: np.ndarray) -> None:
        """Compares one batch of integers."""
        difference = np.abs(simulated.astype(np.int64) - computed)
        self.values += difference.size
        self.differing += int(np.count_nonzero(difference))
        self.largest_lsb = max(self.largest_lsb, int(difference.max(initial=0)))


@dataclass
class Verification:
    """Every quantized tensor's comparison, in the order of the layers, and what the engine noted.

    Attributes:
        tensors: by the name of the layer that makes the tensor.
        notes: of the engine, by layer: accumulators and saturations.
        samples: how many samples were compared.
    """

    tensors: dict[str, TensorComparison] = field(default_factory=dict)
    notes: dict[str, Notes] = field(default_factory=dict)
    samples: int = 0

    @property
    def mismatch_rate(self) -> float:
        """Share of all quantized values that differ."""
        values = sum(tensor.values for tensor in self.tensors.values())
        return sum(tensor.differing for tensor in self.tensors.values()) / values if values else 0.0

    @property
    def largest_lsb(self) -> int:
        """Largest difference of all."""
        return max((tensor.largest_lsb for tensor in self.tensors.values()), default=0)

    def metrics(self) -> dict[str, float]:
        """Returns mismatch rate and largest difference of all tensors, and of each layer, under MLflow's keys."""
        metrics = {"verify/mismatch_rate": self.mismatch_rate, "verify/max_lsb": float(self.largest_lsb)}
        for name, tensor in self.tensors.items():
            key = name.replace("#", "/")
            metrics[f"verify/mismatch_rate/{key}"] = tensor.mismatch_rate
            metrics[f"verify/max_lsb/{key}"] = float(tensor.largest_lsb)
        return metrics

    def summary(self) -> str:
        """Returns one sentence for the terminal."""
        compared = f"{len(self.tensors)} quantized tensors of {self.samples} samples"
        if self.first_difference is None:
            return f"{compared}: the integer engine computes the very same integers"
        return (
            f"{compared}: {self.mismatch_rate:.3%} of the integers differ from the integer engine's, by at most "
            f"{self.largest_lsb} LSB; the first in {self.first_difference!r}"
        )

    @property
    def first_difference(self) -> str | None:
        """The first layer whose integers differ, if any."""
        return next((name for name, tensor in self.tensors.items() if tensor.differing), None)


def verify_engine(
    model: keras.Model,
    batches: Iterable[list[np.ndarray]],
    *,
    on_batch: Callable[[int], None] = lambda step: None,
) -> Verification:
    """Runs a quantized model as Keras layers and as integer operators, and compares every quantized tensor.

    Args:
        model: a calibrated or trained model that `qpipe.quantize` returned.
        batches: lists of one float array (samples, ...) for each input.
        on_batch: called after every batch with its number, from 1.

    Raises:
        QuantizationError: if an output was never calibrated, or a layer that receives integers has no operator.
    """
    program = lower(model)
    verification = Verification(notes=program.notes)
    names, simulation = _simulation(model, program)
    for step, inputs in enumerate(batches, start=1):
        simulated = simulation.predict_on_batch(packed(model, inputs))
        computed = program.run([np.asarray(array, np.float32) for array in inputs], keep=True)
        for name, tensor in zip(names, simulated, strict=True):
            value = computed[name]
            if isinstance(value, QuantizedTensor):
                verification.tensors.setdefault(name, TensorComparison()).add(np.asarray(tensor), value.centred)
        verification.samples += len(inputs[0])
        on_batch(step)
    return verification


def _simulation(model: keras.Model, program: Program) -> tuple[list[str], keras.Model]:
    """Returns the names of all tensors that layers make, and a model that gives these tensors."""
    graph = trace(model)
    by_name = {name: edge.tensor for edge, name in edge_names(graph).items() if edge.producer is not None}
    names = [name for step in program.steps for name in step.outputs]
    return names, keras.Model(model.inputs, [by_name[name] for name in names])
