"""The Pareto front: what no other one beats in everything."""

from __future__ import annotations

import math
from collections.abc import Sequence


def pareto_front(points: Sequence[Sequence[float]], maximize: Sequence[bool]) -> list[int]:
    """Returns the indices of the points that no other point dominates, in the order of the points.

    A point dominates another where it is at least as good in every coordinate and better in one; equal points do not
    dominate each other. A point with a coordinate that is not a number is on no front.

    Args:
        points: (points, coordinates).
        maximize: for each coordinate whether larger is better.
    """
    costs = [[-value if up else value for value, up in zip(point, maximize, strict=True)] for point in points]
    known = [index for index, point in enumerate(costs) if not any(map(math.isnan, point))]
    return [index for index in known if not any(_dominates(costs[other], costs[index]) for other in known)]


def _dominates(left: Sequence[float], right: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(left, right, strict=True)) and list(left) != list(right)
