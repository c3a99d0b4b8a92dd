"""Seeded splits into train, validation and test; stratified by class where each sample has one."""

from __future__ import annotations

import logging

import numpy as np

from qpipe.config.schema import DataConfig, Task
from qpipe.data.part import AnyPart, SourceParts
from qpipe.data.samples import read_all
from qpipe.errors import DataError

logger = logging.getLogger("qpipe")


def split_parts(source: SourceParts[AnyPart], config: DataConfig, *, seed: int) -> tuple[AnyPart, AnyPart, AnyPart]:
    """Splits off the parts that the source lacks, then applies `config.limit`; no sample is read.

    The test part is split off first, so that it does not depend on `validation_fraction`.

    Args:
        source: what the source has.
        config: task, fractions and limit.
        seed: the same seed gives the same samples in the same order.

    Returns:
        The train, validation and test parts.

    Raises:
        DataError: a part would have no sample.
    """
    train, validation, test = source.train, source.validation, source.test
    if test is None:
        train, test = _split(train, config, "test_fraction", seed=seed)
    else:
        test = _choice(test, config.limit, seed=seed)
    if validation is None:
        train, validation = _split(train, config, "validation_fraction", seed=seed)
    else:
        validation = _choice(validation, config.limit, seed=seed)
        if source.test is not None:
            train = _choice(train, config.limit, seed=seed)
    limit = config.limit
    return _first(train, limit), _first(validation, limit), _first(test, limit)


def _split(part: AnyPart, config: DataConfig, key: str, *, seed: int) -> tuple[AnyPart, AnyPart]:
    from sklearn.model_selection import train_test_split

    fraction = getattr(config, key)
    held_out = round(fraction * len(part))
    if not 0 < held_out < len(part):
        raise DataError(
            f"data.{key}={fraction} of {len(part)} samples holds out {held_out}: "
            "both what is held out and what remains need a sample."
        )
    stratify = None
    if config.task is Task.classification and part.y.shape == ():
        stratify = _strata(read_all(part.y), held_out, f"data.{key}={fraction}")
    remaining, held = train_test_split(
        np.arange(len(part)), test_size=held_out, random_state=seed % 2**32, stratify=stratify
    )
    return part.take(remaining), part.take(held)


def _strata(labels: np.ndarray, held_out: int, option: str) -> np.ndarray | None:
    """The labels, where each class has enough samples for both sides of the split."""
    _, counts = np.unique(labels, return_counts=True)
    if counts.min() >= 2 and min(held_out, len(labels) - held_out) >= len(counts):
        return labels
    logger.warning(
        "%s of %d samples in %d classes is too few to split class by class: split without regard to class.",
        option,
        len(labels),
        len(counts),
    )
    return None


def _choice(part: AnyPart, limit: int | None, *, seed: int) -> AnyPart:
    if limit is None or limit >= len(part):
        return part
    return part.take(np.random.default_rng(seed % 2**64).permutation(len(part))[:limit])


def _first(part: AnyPart, limit: int | None) -> AnyPart:
    return part if limit is None else part.take(np.arange(min(limit, len(part))))
