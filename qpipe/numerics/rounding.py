"""The rounding rules, in one place."""

from __future__ import annotations

from keras import ops


def round_half_even(x):
    """Rounds to the nearest integer, ties to even: the rule everywhere but in average pooling."""
    return ops.round(x)


def round_half_away(x):
    """Rounds to the nearest integer, ties away from zero: average pooling, because the targets do so."""
    magnitude = ops.abs(x)
    whole = ops.floor(magnitude)
    return ops.sign(x) * ops.where(magnitude - whole >= 0.5, whole + 1.0, whole)
