"""What all plots share: colours, sizes, names of layers, and how a figure is stored.

The colours are those of Okabe and Ito (Color Universal Design, 2008), which colour-blind readers tell apart. Matplotlib
is imported when a figure is made, and no figure is known to its global state.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qpipe.storage import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
GREY = "#999999"
FLOAT, QUANTIZED = ORANGE, BLUE
"""Colours of the float and of the quantized model in every plot."""

DOTS_PER_INCH = 110
ROW_INCHES = 0.19
LONGEST_NAME = 34


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure of a size in inches, whose parts make room for each other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> Path:
    """Writes a figure as a PNG file and returns the path.

    Raises:
        StorageError: the file can't be written.
    """
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH)
    return path


def height_of_rows(rows: int) -> float:
    """Returns the height in inches of a figure with so many labelled rows, its title and axis included."""
    return 1.3 + ROW_INCHES * max(rows, 4)


def label_rows(axes: Axes, names: Sequence[str]) -> None:
    """Labels one row for each name, the first on top, with a light line across."""
    axes.set_yticks(range(len(names)), [short(name) for name in names], fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    plain(axes)


def note_rows(axes: Axes, notes: Sequence[str], heading: str) -> None:
    """Writes a short text at the right end of every row, under a heading."""
    places: list[tuple[Any, ...]] = [((1.0, 1.0), "axes fraction", (6, 4), "bottom")]
    places += [((1.0, row), axes.get_yaxis_transform(), (6, 0), "center") for row in range(len(notes))]
    for text, (place, coordinates, away, vertical) in zip((heading, *notes), places, strict=True):
        axes.annotate(text, place, away, coordinates, "offset points", va=vertical, fontsize=8, annotation_clip=False)


def plain(axes: Axes) -> None:
    """Takes the frame away but for the two axes."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def short(name: str) -> str:
    """Returns a name of at most `LONGEST_NAME` characters; of longer ones the middle is left out."""
    if len(name) <= LONGEST_NAME:
        return name
    kept = LONGEST_NAME - 1
    return f"{name[: kept - kept // 2]}…{name[-(kept // 2) :]}"
