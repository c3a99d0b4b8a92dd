"""scikit-learn's handwritten digits, which are shipped inside that package."""

from __future__ import annotations

import numpy as np

from qpipe.config.schema import DigitsData
from qpipe.data.part import Part, SourceParts


def load_digits(config: DigitsData) -> SourceParts:
    """Loads 1,797 images (8, 8, 1) of 10 classes; the pixels 0...16 become 0...255 (uint8)."""
    from sklearn.datasets import load_digits as sklearn_digits

    images, labels = sklearn_digits(return_X_y=True)
    pixels = np.rint(images * (255.0 / 16.0)).astype(np.uint8)
    return SourceParts(train=Part(x=pixels.reshape(-1, 8, 8, 1), y=labels.astype(np.int64)))
