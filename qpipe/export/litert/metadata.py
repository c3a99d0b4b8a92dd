"""What a LiteRT file says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from qpipe import __version__
from qpipe.config.export_schema import ExportIo
from qpipe.export.network import Network


def metadata_of(network: Network, inputs, io: ExportIo, description: Mapping[str, Any]) -> bytes:
    """Returns JSON for the file's metadata entry `qpipe`.

    Its keys: `name`, `version` (of qpipe), `io`, `inputs` and `outputs` by name, and those of `description` (`labels`,
    `normalization`). An input has `preparation`: operations on real values that come before their quantization, where
    the file leaves them out.

    Args:
        network: that is written.
        inputs: the file's inputs.
        io: whether inputs and outputs are integers or real values.
        description: further keys, as plain values.
    """
    return json.dumps(
        {
            "name": network.name,
            "version": __version__,
            "io": io.value,
            "inputs": {name: {"preparation": _preparation(inputs, name)} for name in inputs.positions},
            "outputs": list(network.output_names),
            **description,
        }
    ).encode()


def _preparation(inputs, name: str) -> list:
    return [[operation, values.tolist()] for operation, values in inputs.preparations.get(name, ())]
