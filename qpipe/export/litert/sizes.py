"""What a LiteRT file needs in memory, and what it would take in float."""

from __future__ import annotations

import math

from qpipe.export.litert.file import BYTES, FileTensor, GraphFile


def peak_activation_bytes(file: GraphFile) -> int:
    """Returns the largest sum of the sizes of tensors that are alive together, for one sample.

    Operators run in the order of the file; an operator's inputs and outputs are alive while it runs, a tensor from its
    writer to its last reader, and inputs and outputs of the graph to the end of it. Constants do not count.
    """
    last_read: dict[int, int] = {}
    for position, (_, inputs, _) in enumerate(file.operators):
        last_read |= dict.fromkeys((index for index in inputs if index >= 0), position)
    written = {index for _, _, outputs in file.operators for index in outputs}
    activations = [index for index, tensor in enumerate(file.tensors) if tensor.data is None]
    alive = {index for index in activations if index not in written}
    peak = 0
    for position, (_, _, outputs) in enumerate(file.operators):
        alive.update(outputs)
        peak = max(peak, sum(_bytes(file.tensors[index]) for index in alive))
        alive -= {index for index in alive if last_read.get(index) == position}
    return peak


def float_file_bytes(file: GraphFile, file_bytes: int) -> int:
    """Returns the size of the same file with every quantized constant in float32.

    Args:
        file: the graph that was written.
        file_bytes: the size of its file.
    """
    constants = {
        tensor.content: tensor for tensor in file.tensors if tensor.data is not None and tensor.scale is not None
    }
    return file_bytes + sum(4 * math.prod(tensor.shape) - len(content) for content, tensor in constants.items())


def _bytes(tensor: FileTensor) -> int:
    return math.ceil(math.prod(tensor.shape) * BYTES[tensor.dtype])
