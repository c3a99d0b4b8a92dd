"""Accuracy of a classifier, and how often two of them predict the same class."""

from __future__ import annotations

import keras
import numpy as np

BATCH_SIZE = 256


def predictions(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    """Returns the model's outputs (samples, classes) for `inputs`."""
    return model.predict(inputs, batch_size=BATCH_SIZE, verbose=0)


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Returns the share of samples whose largest output is that of their class."""
    return float(np.mean(outputs.argmax(axis=-1) == labels))


def agreement(outputs: np.ndarray, reference: np.ndarray) -> float:
    """Returns the share of samples for which both outputs are largest for the same class."""
    return float(np.mean(outputs.argmax(axis=-1) == reference.argmax(axis=-1)))
