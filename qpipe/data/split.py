"""Seeded splits into train, validation and test, stratified by class."""

from __future__ import annotations

import logging

import numpy as np

from qpipe.config.schema import DataConfig
from qpipe.data.part import Part, SourceParts
from qpipe.errors import DataError

logger = logging.getLogger("qpipe")


def split_parts(parts: SourceParts, config: DataConfig, *, seed: int) -> tuple[Part, Part, Part]:
    """Splits off the parts that the source lacks, then applies `config.limit`.

    The test part is split off first, so that it does not depend on `validation_fraction`.

    Args:
        parts: what the source has.
        config: fractions and limit.
        seed: the same seed gives the same samples in the same order.

    Returns:
        The train, validation and test parts.

    Raises:
        DataError: a part would have no sample.
    """
    train, validation, test = parts.train, parts.validation, parts.test
    if test is None:
        train, test = _split(train, config.test_fraction, "test_fraction", seed=seed)
    else:
        test = _choice(test, config.limit, seed=seed)
    if validation is None:
        train, validation = _split(train, config.validation_fraction, "validation_fraction", seed=seed)
    else:
        validation = _choice(validation, config.limit, seed=seed)
        if parts.test is not None:
            train = _choice(train, config.limit, seed=seed)
    train, validation, test = (part.take(np.arange(len(part))[: config.limit]) for part in (train, validation, test))
    return train, validation, test


def _split(part: Part, fraction: float, key: str, *, seed: int) -> tuple[Part, Part]:
    from sklearn.model_selection import train_test_split

    held_out = round(fraction * len(part))
    if not 0 < held_out < len(part):
        raise DataError(
            f"data.{key}={fraction} of {len(part)} samples holds out {held_out}: "
            "both what is held out and what remains need a sample."
        )
    counts = np.bincount(part.y)
    classes = int((counts > 0).sum())
    stratify: np.ndarray | None = part.y
    if counts[counts > 0].min() < 2 or min(held_out, len(part) - held_out) < classes:
        logger.warning(
            "data.%s=%s of %d samples in %d classes is too few to split class by class: split without regard to class.",
            key,
            fraction,
            len(part),
            classes,
        )
        stratify = None
    remaining, held = train_test_split(
        np.arange(len(part)), test_size=held_out, random_state=seed % 2**32, stratify=stratify
    )
    return part.take(remaining), part.take(held)


def _choice(part: Part, limit: int | None, *, seed: int) -> Part:
    if limit is None or limit >= len(part):
        return part
    return part.take(np.random.default_rng(seed % 2**64).permutation(len(part))[:limit])
