"""scikit-learn's handwritten digits, which are shipped inside that package."""

from __future__ import annotations

import numpy as np

from qpipe.config.schema import DigitsData, DigitsTarget, Task
from qpipe.data.array_checks import checked_part
from qpipe.data.part import Part, SourceParts

_INK = 127.5
_DIGITS = tuple("0123456789")


def load_digits(config: DigitsData) -> SourceParts[Part]:
    """Loads 1,797 images (8, 8, 1) of uint8; the pixels 0...16 become 0...255.

    Returns:
        One part; its labels are the digits, or with `target=pixels` maps (8, 8): 0 where a pixel is at most half of
        255, else 1 + digit.
    """
    from sklearn.datasets import load_digits as sklearn_digits

    images, labels = sklearn_digits(return_X_y=True)
    pixels = np.rint(images * (255.0 / 16.0)).astype(np.uint8).reshape(-1, 8, 8)
    names = _DIGITS
    if config.target is DigitsTarget.pixels:
        labels = np.where(pixels > _INK, 1 + labels[:, np.newaxis, np.newaxis], 0)
        names = ("background", *_DIGITS)
    part = checked_part(pixels, labels, config, x_name="x", y_name="y", source="of the digits")
    return SourceParts(train=part, class_names=names if config.task is Task.classification else None)
