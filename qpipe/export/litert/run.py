"""Running LiteRT files in the interpreter, on its default path."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from qpipe.export.litert.file import SIGNATURE


class LoadedFile:
    """A LiteRT file in the interpreter, for any number of samples at a time.

    Args:
        content: of the file.
        threads: of the interpreter.

    Raises:
        ValueError, RuntimeError: if the interpreter does not take the file.
    """

    def __init__(self, content: bytes, *, threads: int = 1):
        self._runner = Interpreter(model_content=content, num_threads=threads).get_signature_runner(SIGNATURE)
        self.inputs: dict[str, dict] = self._runner.get_input_details()
        self.outputs: dict[str, dict] = self._runner.get_output_details()

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the outputs by their names in the signature, as the file stores them.

        Args:
            arrays: one array (samples, ...) for each input by its name, of the type that the file stores.
        """
        return self._runner(**arrays)
