"""What an ONNX file says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from qpipe import __version__
from qpipe.config.export_schema import ExportIo
from qpipe.export.network import Network
from qpipe.export.onnx.boundary import Inputs
from qpipe.numerics import QuantizedFormat


def metadata_of(network: Network, inputs: Inputs, io: ExportIo, description: Mapping[str, Any]) -> dict[str, str]:
    """Returns the file's metadata properties: texts by their names, JSON where they are no plain text.

    They are `name`, `version` (of qpipe), `io`, `inputs` and `outputs` by name, and those of `description` (`labels`,
    `normalization`) that are known. Integers of an input or output are described by `scale` and `zero_point`:
    value = scale * (integer - zero_point). An input has `preparation`: operations on real values that come before
    their quantization, where the file leaves them out.

    Args:
        network: that is written.
        inputs: the file's inputs.
        io: whether inputs and outputs are integers or real values.
        description: further keys, as plain values.
    """
    outputs = zip(network.output_names, (network.tensors[name].format for name in network.program.outputs), strict=True)
    properties = {
        "name": network.name,
        "version": __version__,
        "io": io.value,
        "inputs": {
            name: _parameters(inputs.formats.get(name)) | {"preparation": _preparation(inputs, name)}
            for name in inputs.declared
        },
        "outputs": {name: _parameters(target if io is ExportIo.int8 else None) for name, target in outputs},
        **{key: value for key, value in description.items() if value is not None},
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in properties.items()}


def _parameters(target: QuantizedFormat | None) -> dict[str, Any]:
    if target is None:
        return {}
    return {"scale": float(target.scale), "zero_point": target.zero_point - target.storage_offset}


def _preparation(inputs: Inputs, name: str) -> list:
    return [[operation, values.tolist()] for operation, values in inputs.preparations.get(name, ())]
