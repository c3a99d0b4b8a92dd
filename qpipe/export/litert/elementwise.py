"""Tables of functions, softmax, and changes of format."""

from __future__ import annotations

import numpy as np

from qpipe.export.litert.call import Call
from qpipe.export.litert.file import TYPES, FileTensor, GraphFile
from qpipe.export.litert.run import LoadedFile
from qpipe.export.litert.storage import Stored, require_factors, stored
from qpipe.export.network import PROBABILITIES
from qpipe.export.refusals import Refusal
from qpipe.integer.operators import Lookup, Requantize, Softmax

KERNELS = {"sigmoid": "LOGISTIC", "tanh": "TANH"}
"""Operators of the format, also on microcontrollers, that may give the very integers of a function's table."""


def write_lookup(operator: Lookup, call: Call) -> None:
    """The function's own operator where it gives the very same integers, else GATHER from a table of all of them."""
    source, target = stored(call.input_format(), call.dtype), call.output
    table = (operator.table - target.offset).astype(target.dtype)
    kernel = KERNELS.get(operator.function)
    if kernel is not None and len(table) == 256 and call.dtype == "int8" and _computes(kernel, source, target, table):
        call.emit(kernel, [call.input()])
        return
    to_position = source.offset - call.input_format().integers.lowest
    call.emit("GATHER", [call.constant(table, "table", target), _positions(call, to_position)], {"axis": 0})


def write_softmax(operator: Softmax, call: Call) -> None:
    """SOFTMAX, whose result has the scale 1/256."""
    output = operator.requantization.output
    if call.dtype != "int8" or output.bitwidth != PROBABILITIES.bitwidth or output.scale != PROBABILITIES.scale:
        raise Refusal(
            f"its input has {call.input_format().bitwidth} bits, its output {output.bitwidth} and the scale "
            f"{output.scale:.9g}; the format's softmax takes up to 8 bits and gives 8 bits with the scale 1/256"
        )
    call.emit("SOFTMAX", [call.input()], {"beta": 1.0})


def write_requantize(operator: Requantize, call: Call) -> None:
    """MUL by 1 for int8, which is exact where QUANTIZE has multipliers of 8 fraction bits; QUANTIZE for int16."""
    require_factors(operator.requantization.multiplier, call.dtype)
    if call.dtype == "int16":
        call.emit("QUANTIZE", [call.input()], requantization=operator.requantization)
        return
    one = call.constant(np.array([1], np.int8), "one", Stored("int8", np.asarray(1.0, np.float32), 0, 0))
    call.emit("MUL", [call.input(), one], requantization=operator.requantization, fuses=True)


def _positions(call: Call, offset: int) -> int:
    """Adds what makes positions in a table of stored integers: int32, from 0."""
    file, shape = call.writer.file, (1, *call.input_shape())
    positions = file.add_tensor(FileTensor(shape, "int32", batched=True), f"{call.name}/int32")
    types = {"inDataType": TYPES[call.dtype], "outDataType": TYPES["int32"]}
    file.add_operator("CAST", [call.input()], [positions], types)
    if not offset:
        return positions
    moved = file.add_tensor(FileTensor(shape, "int32", batched=True), f"{call.name}/positions")
    file.add_operator("ADD", [positions, call.integers(offset, "offset")], [moved])
    return moved


def _computes(kernel: str, source: Stored, target: Stored, table: np.ndarray) -> bool:
    """Whether the runtime's kernel gives the integers of a table for all integers of its input."""
    file = GraphFile()
    inputs, outputs = (
        file.add_tensor(FileTensor(table.shape, how.dtype, how.scale, how.zero_point), name)
        for name, how in (("x", source), ("y", target))
    )
    file.add_operator(kernel, [inputs], [outputs])
    loaded = LoadedFile(file.content({"x": inputs}, {"y": outputs}))
    return np.array_equal(loaded.run({"x": np.arange(*_ends(source), dtype=source.dtype)})["y"], table)


def _ends(how: Stored) -> tuple[int, int]:
    return how.integers.lowest, how.integers.highest + 1
