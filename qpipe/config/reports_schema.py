"""The part of the schema that configures what a job draws."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True)
class ReportsConfig:
    """What a job draws of its results."""

    plots: bool = True
    """Whether the job draws its plots (`plots/*.png`): accuracy by class, quantization noise by layer, histograms of
    the worst layers, training curves, layer sizes."""
