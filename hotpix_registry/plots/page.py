"""What all pictures share: the page, its colours, the legend, how it is written."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by every kind of colour vision.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, YELLOW = "#0072B2", "#D55E00", "#CC79A7", "#F0E442"
GREY, INK = "#9A9A9A", "#333333"


def page(title: str, subtitle: str, *, square: bool = False, rows: int = 1) -> tuple[Figure, Axes]:
    """A figure with its title over the first of `rows` axes, which share x; returns that one."""
    figure = Figure(figsize=(7.6, 7.8) if square else (8.4, 5.4), dpi=130, layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    ax: Axes = axes[0]
    ax.set_title(title, loc="left", fontsize=14, color=INK, pad=24)
    ax.annotate(subtitle, (0, 1), (0, 8), "axes fraction", "offset points", fontsize=9.5, color="#555555")
    for each in axes:
        each.grid(color="#E6E6E6", lw=0.7)
        each.set_axisbelow(True)
        for side in ("top", "right"):
            each.spines[side].set_visible(False)
    return figure, ax


def legend(ax: Axes, place: str, *, outside: bool = False) -> None:
    """The legend of what is labelled, if anything is."""
    if not ax.get_legend_handles_labels()[1]:
        return
    options: Any = {"loc": place, "fontsize": 8.5, "markerscale": 1.6, "edgecolor": "none"}
    if outside:
        options |= {"bbox_to_anchor": (1.01, 1.0), "frameon": False}
    ax.legend(**options)


def png(figure: Figure) -> bytes:
    """A picture as the bytes of a PNG file; the same figure gives the same bytes."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    return drawn.getvalue()
