"""Layers that are rounded already, on disk, so that a run that was killed goes on with the next one."""

from __future__ import annotations

import json
import logging
import zipfile
from pathlib import Path

import keras
import numpy as np

from qpipe.algorithms.adaround.report import LayerRounding
from qpipe.layers.linear import QuantizedLinear
from qpipe.storage import whole_file

logger = logging.getLogger("qpipe")

FORMAT = 2
"""Raised when rounding finds other weights for the same problem: layers of an older version are not mixed in."""


class RoundedLayers:
    """One file per rounded layer in a folder that belongs to one rounding: its model, samples and settings.

    Args:
        folder: made when the first layer is saved.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def save(self, index: int, layer: QuantizedLinear, record: LayerRounding) -> None:
        """Stores a layer that was just rounded.

        Args:
            index: its number in the order of the model.
            layer: the layer.
            record: what became of it.
        """
        arrays = {"kernel": layer.kernel, "scale": layer.kernel_quantizer.scale}
        if layer.bias is not None:
            arrays["bias"] = layer.bias
        values = {name: keras.ops.convert_to_numpy(array) for name, array in arrays.items()}
        with whole_file(self._path(index)) as temporary, temporary.open("wb") as file:
            np.savez(file, record=json.dumps(record.to_json()), **values)

    def restore(self, index: int, layer: QuantizedLinear) -> LayerRounding | None:
        """Gives a layer the weights that were stored, and returns what became of it; None if it was not rounded yet.

        Args:
            index: its number in the order of the model.
            layer: the layer.
        """
        path = self._path(index)
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as content:
                record = LayerRounding(**json.loads(str(content["record"])))
                values = {name: content[name] for name in content.files if name != "record"}
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            logger.warning("%s is damaged (%s): the layer %r is rounded again", path, error, layer.name)
            return None
        if record.name != layer.name:
            return None
        layer.kernel.assign(values["kernel"])
        if "bias" in values:
            layer.bias.assign(values["bias"])
        layer.kernel_quantizer.scale.assign(values["scale"])
        layer.kernel_quantizer.fixed = True
        return record

    def discard(self) -> None:
        """Removes all files, because the result is safe elsewhere."""
        for path in self.folder.glob("*.npz"):
            path.unlink(missing_ok=True)
        if self.folder.exists():
            self.folder.rmdir()

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:04d}.npz"
