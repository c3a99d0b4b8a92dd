"""Writes `docs/folding-table.md`: what folds in networks of `keras.applications`, and what stays, why.

    python docs/generate_folding_table.py

The networks are built without weights and with small inputs; which layers fold does not depend on either.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import keras

from qpipe.config.schema import FoldingConfig
from qpipe.graph.folding import plan_folding
from qpipe.graph.trace import trace

PAGE = Path(__file__).parent / "folding-table.md"
SIZES = {
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "MobileNetV3Large": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "DenseNet121": 32,
    "EfficientNetB0": 32,
    "Xception": 71,
    "NASNetMobile": 32,
}
INTRODUCTION = """# What folds in networks of keras.applications

Made by `docs/generate_folding_table.py`. [Folding](folding.md#what-folds) has the rules. Folded, and unfolded again,
each network gives the same output: to 1e-4 of the largest in `tests/graph/test_applications.py`, which draws
statistics, gamma and beta at random; the largest difference seen is 2e-6. A pointwise half of a separable convolution
counts as Conv2D. An activation that is no clamp, such as swish, stays a layer of its own.

| network | batch normalizations | folded into | ReLUs taken along | kept, and why |
|---|---|---|---|---|
"""


def page() -> str:
    """Returns the whole page."""
    return INTRODUCTION + "\n".join(row(name) for name in SIZES) + "\n"


def row(name: str) -> str:
    """Returns the table's row of one network.

    Args:
        name: of a function of `keras.applications` in `SIZES`.
    """
    size = SIZES[name]
    model = getattr(keras.applications, name)(
        input_shape=(size, size, 3), classes=10, weights=None, classifier_activation=None
    )
    plan = plan_folding(trace(model), FoldingConfig())
    folded = _counted(type(fold.linear.operation).__name__ for fold in plan.folds)
    taken = sum(fold.activation is not None for fold in plan.folds)
    kept = _counted(_without_names(reason) for reason in plan.kept.values()) or "none"
    return f"| {name} | {len(plan.folds) + len(plan.kept)} | {folded} | {taken} | {kept} |"


def _counted(names: Iterable[str]) -> str:
    return "; ".join(f"{count} {name}" for name, count in Counter(names).most_common())


def _without_names(reason: str) -> str:
    """Leaves out names of layers, which differ, and keeps their classes: `'x' (Add)` becomes `Add`."""
    return re.sub(r"'[^']*' \((\w+)\)", r"\1", reason)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
