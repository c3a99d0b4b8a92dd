"""Memory of the activations of an ONNX file."""

from __future__ import annotations

from math import prod

from qpipe.export.network import Network
from qpipe.export.onnx.storage import BITS, dtype_of


def peak_activation_bytes(network: Network) -> int:
    """Returns the most bytes that the quantized activations of one sample take at a time.

    Layers run one after the other, each as one operator that reads and writes integers; a tensor is freed after its
    last reader.
    """
    steps = [step for step in network.program.steps if any(_bytes(network, name) for name in step.outputs)]
    last = {name: index for index, step in enumerate(steps) for name in step.inputs}
    last |= dict.fromkeys(network.program.outputs, len(steps))
    alive: set[str] = set()
    peak = 0
    for index, step in enumerate(steps):
        alive.update(step.outputs)
        peak = max(peak, sum(_bytes(network, name) for name in alive))
        alive = {name for name in alive if last.get(name, index) > index}
    return peak


def _bytes(network: Network, name: str) -> int:
    tensor = network.tensors[name]
    return 0 if tensor.format is None else prod(tensor.shape) * BITS[dtype_of(tensor.format)] // 8
