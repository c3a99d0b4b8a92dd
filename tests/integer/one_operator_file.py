"""LiteRT files of one operator, and running them: the reference that the integer engine is compared with.

Needs `ai-edge-litert`; without it, the tests of a module that imports this one are skipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

REASON = "the LiteRT interpreter is not installed; there is none for Windows"
interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason=REASON, exc_type=ImportError)

from qpipe.export.litert.file import FileTensor, GraphFile  # noqa: E402

DEFAULT_PATH = interpreter.OpResolverType.AUTO
WITHOUT_XNNPACK = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


class OneOperator:
    """A LiteRT file of one operator, loaded into an interpreter.

    Args:
        operator: name in the file format, such as `CONV_2D`.
        inputs: the operator's inputs in the format's order.
        output: the operator's output.
        options: fields of the operator's options, such as `{"strideW": 2}`.
        version: the operator's version.
        path: `DEFAULT_PATH` (XNNPACK where it supports the operator) or `WITHOUT_XNNPACK`.
    """

    def __init__(
        self,
        operator: str,
        inputs: Sequence[FileTensor],
        output: FileTensor,
        options: Mapping[str, object] | None = None,
        version: int = 1,
        path=DEFAULT_PATH,
    ):
        self.content = one_operator_file(operator, inputs, output, options, version)
        self._interpreter = interpreter.Interpreter(
            model_content=self.content, experimental_op_resolver_type=path, num_threads=1
        )
        self._interpreter.allocate_tensors()

    @property
    def delegated(self) -> bool:
        """Whether XNNPACK has taken the operator over; otherwise a kernel of the runtime computes it."""
        return any(op["op_name"] == "DELEGATE" for op in self._interpreter._get_ops_details())

    def __call__(self, *arrays: np.ndarray) -> np.ndarray:
        """Returns the output's integers (or floats) for the graph's inputs, in the order of `inputs`."""
        for detail, array in zip(self._interpreter.get_input_details(), arrays, strict=True):
            self._interpreter.set_tensor(detail["index"], np.ascontiguousarray(array, dtype=detail["dtype"]))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._interpreter.get_output_details()[0]["index"])


def one_operator_file(
    operator: str,
    inputs: Sequence[FileTensor],
    output: FileTensor,
    options: Mapping[str, object] | None = None,
    version: int = 1,
) -> bytes:
    """Returns the content of a LiteRT file whose graph is one operator; see `OneOperator` for the arguments."""
    file = GraphFile()
    read = [file.add_tensor(tensor, f"input_{index}") for index, tensor in enumerate(inputs)]
    made = file.add_tensor(output, "output")
    file.add_operator(operator, read, [made], options, version)
    fed = {f"input_{index}": index for index in read if inputs[index].data is None}
    return file.content(fed, {"output": made}, operator)
