"""The rounding rules, in one place."""

from __future__ import annotations

from keras import ops


def round_half_even(x):
    """Rounds to the nearest integer, ties to even: the rule everywhere but in average pooling."""
    return ops.round(x)


def round_half_away(x):
    """Rounds to the nearest integer, ties away from zero: average pooling, because the targets do so."""
    return ops.sign(x) * ops.floor(ops.abs(x) + 0.5)
