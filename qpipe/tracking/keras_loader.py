"""How MLflow's `pyfunc` flavor opens a logged Keras model, in any process that has qpipe installed."""

from __future__ import annotations

from typing import Any

import numpy as np


class KerasPredictor:
    """Arrays in, arrays out.

    Args:
        model_path: a `.keras` file.
    """

    def __init__(self, model_path: str):
        import keras

        import qpipe.layers  # noqa: F401  (registers our layers)

        self.model = keras.saving.load_model(model_path, compile=False)

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> np.ndarray | dict[str, np.ndarray]:
        """Predicts a batch.

        Args:
            data: (samples, ...), as preprocessed for the model.
            params: unused; part of MLflow's protocol.

        Returns:
            float32 (samples, ...); of a model with several outputs a mapping from their names.
        """
        import keras

        outputs = keras.tree.flatten(self.model.predict(np.asarray(data), verbose=0))
        return outputs[0] if len(outputs) == 1 else dict(zip(self.model.output_names, outputs, strict=True))


def _load_pyfunc(data_path: str) -> KerasPredictor:
    return KerasPredictor(data_path)
