"""Predicting with the integer engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from qpipe.integer import Program
from qpipe.integer.operator import Value
from qpipe.integer.operators import Dequantize
from qpipe.lowering.lower import lower
from qpipe.numerics import QuantizedTensor
from qpipe.sample_batches import arrays_of


def integer_predict(
    model: keras.Model, x: Any, *, batch_size: int = 64, integers: bool = False, intermediates: bool = False
) -> Any:
    """Computes a quantized model's outputs in NumPy integers, without its Keras layers.

    Args:
        model: a calibrated or trained model that `qpipe.quantize` returned.
        x: (samples, ...) float inputs as the model takes them; for several inputs the structure that the model takes.
        batch_size: samples per step.
        integers: whether outputs that are quantized come as `QuantizedTensor` instead of float32 values.
        intermediates: whether every tensor is returned too.

    Returns:
        Outputs in the model's structure; with `intermediates` a pair of the outputs and a dictionary of all tensors by
        the name of their layer: `QuantizedTensor` where quantized, else float32.

    Raises:
        QuantizationError: if an output was never calibrated, or a layer that receives integers has no operator.
    """
    program = lower(model)
    names = program.outputs
    if integers:
        names = tuple(_before_dequantization(program, name) for name in names)
    tensors = run_program(program, arrays_of(model, x), batch_size=batch_size, keep=intermediates or integers)
    outputs = keras.tree.pack_sequence_as(model._outputs_struct, [tensors[name] for name in names])
    return (outputs, tensors) if intermediates else outputs


def run_program(
    program: Program,
    arrays: list[np.ndarray],
    *,
    batch_size: int,
    keep: bool,
    on_batch: Callable[[int, int], None] = lambda step, steps: None,
) -> dict[str, Value]:
    """Runs a program batch by batch and joins the tensors.

    Args:
        program: of the network.
        arrays: one float32 array (samples, ...) for each input.
        batch_size: samples per step.
        keep: whether every tensor is returned, or the outputs alone.
        on_batch: called after every batch with its number (from 1) and the number of all batches.
    """
    starts = range(0, len(arrays[0]), batch_size)
    parts = []
    for step, start in enumerate(starts, start=1):
        parts.append(program.run([array[start : start + batch_size] for array in arrays], keep=keep))
        on_batch(step, len(starts))
    return {name: _joined([part[name] for part in parts]) for name in parts[0]}


def _joined(parts: list[Value]) -> Value:
    quantized = [part for part in parts if isinstance(part, QuantizedTensor)]
    if quantized:
        return quantized[0].with_integers(np.concatenate([part.integers for part in quantized]))
    return np.concatenate([part for part in parts if isinstance(part, np.ndarray)])


def _before_dequantization(program: Program, name: str) -> str:
    """The quantized tensor that becomes the output `name`, or `name` where there is none."""
    makes = {output: step for step in program.steps for output in step.outputs}
    step = makes.get(name)
    return step.inputs[0] if step is not None and isinstance(step.operator, Dequantize) else name
