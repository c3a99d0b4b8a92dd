"""What a treatment of one kind of layer consists of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qpipe.graph.layer_plan import LayerPlan
from qpipe.graph.rules import LayerSettings
from qpipe.graph.trace import Node


@dataclass(frozen=True)
class LayerTreatment:
    """How one kind of layer is quantized: the fields of a rule that it has, the rewrite, if it takes in a clamp."""

    fields: tuple[str, ...]
    apply: Callable[[Any, Node, LayerSettings, LayerPlan], None]
    fuses: bool = False
