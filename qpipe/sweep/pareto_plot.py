"""A picture of what accuracy costs: every job of a sweep, and the front of those that no other one beats."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from qpipe.sweep.attempts import Attempt
from qpipe.sweep.objectives import COSTS
from qpipe.sweep.outcome import Outcome, value_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FRONT, OTHER, BEST, FLOAT = "#0072B2", "#8c8c8c", "#D55E00", "#009E73"
"""Of the palette of Okabe and Ito, which color-blind readers can tell apart; the markers differ as well."""
MOST_LABELS = 12
LONGEST_LABEL = 22
LONGEST_TITLE = 100
ROOM_FOR_LABEL = 0.35
MARGIN = 0.14


def fronts_figure(outcome: Outcome) -> Figure | None:
    """Draws one panel for each cost: the jobs' quality over it, the front as a line of steps.

    Returns:
        The figure; None where no job was measured.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = {cost: _measured(outcome, cost) for cost in COSTS}
    if not any(shown.values()):
        return None
    figure = Figure(figsize=(12.0, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(COSTS), sharey=True)
    for axes, (cost, attempts) in zip(panels, shown.items(), strict=True):
        _draw(axes, outcome, cost, attempts)
    panels[0].set_ylabel(f"{outcome.quality.metric} ({'higher' if outcome.quality.maximize else 'lower'} is better)")
    names = ", ".join(dict.fromkeys(name for attempt in outcome.done for name in attempt.swept))
    title = f"{outcome.name}: what {outcome.quality.metric} costs, by {names}"
    figure.suptitle(textwrap.fill(title, LONGEST_TITLE), fontsize=13)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _draw(axes: Axes, outcome: Outcome, cost: str, attempts: list[Attempt]) -> None:
    metric, front = outcome.quality.metric, outcome.front(cost)
    on_front = {attempt.run_id for attempt in front}
    others = [attempt for attempt in attempts if attempt.run_id not in on_front]
    points = {kind: _points(group, cost, metric) for kind, group in (("front", front), ("others", others))}
    axes.scatter(*points["others"], color=OTHER, marker="o", s=42, label="beaten by another job", zorder=2)
    axes.step(*points["front"], where="post", color=FRONT, linewidth=1.4, zorder=1)
    axes.scatter(*points["front"], color=FRONT, marker="D", s=52, label="Pareto front", zorder=3)
    if (best := outcome.best) is not None and best in attempts:
        ring = _points([best], cost, metric)
        axes.scatter(*ring, facecolors="none", edgecolors=BEST, linewidths=2.0, s=190, label="best job", zorder=4)
    _draw_float(axes, outcome)
    axes.set(xlabel=COSTS[cost], title=f"against {COSTS[cost]}")
    axes.margins(x=MARGIN, y=MARGIN)
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    _spread_axis(axes, [value_of(attempt, cost) for attempt in attempts])
    _label_front(axes, cost, metric, front, outcome.quality.maximize)


def _draw_float(axes: Axes, outcome: Outcome) -> None:
    """Draws the float model's quality as a line, where it is the same measure."""
    before, slash, measure = outcome.quality.metric.partition("/")
    values = [attempt.metrics.get(f"float/{measure}", math.nan) for attempt in outcome.done]
    known = [value for value in values if not math.isnan(value)]
    if before == "quantized" and slash and known:
        level = max(known) if outcome.quality.maximize else min(known)
        axes.axhline(level, color=FLOAT, linestyle="--", linewidth=1.4, label="float model", zorder=1)


def _spread_axis(axes: Axes, values: list[float]) -> None:
    """Takes a logarithmic axis where the costs differ by more than a factor of ten, else one with plain numbers."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    if values and min(values) > 0 and max(values) > 10 * min(values):
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _label_front(axes: Axes, cost: str, metric: str, front: list[Attempt], rises: bool) -> None:
    """Writes the swept values beside the points, on the side that the line of steps leaves free."""
    low, high = axes.get_xlim()
    for attempt in front[:MOST_LABELS]:
        x = value_of(attempt, cost)
        place = axes.transAxes.inverted().transform(axes.transData.transform((x, 0.0)))[0]
        has_room_left = place > ROOM_FOR_LABEL
        above = has_room_left == rises
        axes.annotate(
            _label(attempt),
            (x, value_of(attempt, metric)),
            xytext=(-7 if has_room_left else 7, 5 if above else -5),
            textcoords="offset points",
            ha="right" if has_room_left else "left",
            va="bottom" if above else "top",
            fontsize=8.5,
            color="#333333",
        )
    axes.set_xlim(low, high)


def _label(attempt: Attempt) -> str:
    text = ", ".join(attempt.swept.values())
    return text if len(text) <= LONGEST_LABEL else f"job {attempt.number}"


def _measured(outcome: Outcome, cost: str) -> list[Attempt]:
    metric = outcome.quality.metric
    return [a for a in outcome.done if not math.isnan(value_of(a, cost)) and not math.isnan(value_of(a, metric))]


def _points(attempts: list[Attempt], cost: str, metric: str) -> tuple[list[float], list[float]]:
    return [value_of(attempt, cost) for attempt in attempts], [value_of(attempt, metric) for attempt in attempts]
