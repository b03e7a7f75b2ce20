"""Pictures of what happened: two masks, the dates that a camera's masks cover, hot pixels over the years."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hotpix_registry.instants import US_PER_DAY
from hotpix_registry.plots.page import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    legend,
    page,
)

_POINTS_UP_TO = 20_000
_MAP_CELLS = 64


# --- two masks ------------------------------------------------------------------------------


def diff_map(
    then: NDArray[np.bool_], now: NDArray[np.bool_], *, caption: str, names: tuple[str, str]
) -> Figure:
    """Draw which pixels are new, vanished and common from one mask (ny, nx) to another.

    Each pixel stands for itself while there are few; of many, each kind has a map of its density.
    """
    kinds = [
        ("common", then & now, GREY, "o"),
        (f"vanished: only in {names[0]}", then & ~now, BLUE, "v"),
        (f"new: only in {names[1]}", now & ~then, VERMILION, "^"),
    ]
    title = f"From {names[0]} to {names[1]}"
    if sum(int(np.count_nonzero(mask)) for _, mask, _, _ in kinds) > _POINTS_UP_TO:
        return _density_maps(title, caption, kinds)
    figure, ax = page(title, caption, square=True)
    figure.set_size_inches(7.6, 8.3)
    ny, nx = then.shape
    size = float(np.clip(60_000 / max(ny, nx) ** 1.3, 3, 40))
    for label, mask, colour, marker in kinds:
        y, x = np.nonzero(mask)
        ax.scatter(
            x + 0.5,
            y + 0.5,
            s=size * (0.6 if marker == "o" else 1.2),
            c=colour,
            marker=marker,
            lw=0,
            label=f"{label} ({x.size:,})",
            zorder=2 if marker == "o" else 3,
            rasterized=True,
        )
    ax.set(xlim=(0, nx), ylim=(0, ny), aspect="equal", xlabel="x / pixel", ylabel="y / pixel")
    ax.grid(visible=False)
    figure.legend(loc="outside lower left", ncols=3, fontsize=8.5, markerscale=1.4, frameon=False)
    return figure


def _density_maps(
    title: str, caption: str, kinds: Sequence[tuple[str, NDArray[np.bool_], str, str]]
) -> Figure:
    ny, nx = kinds[0][1].shape
    cell = -(-max(ny, nx) // _MAP_CELLS)
    counts = []
    for _, mask, _, _ in kinds:
        y, x = np.nonzero(mask)
        density = np.zeros((-(-ny // cell), -(-nx // cell)))
        np.add.at(density, (y // cell, x // cell), 1)
        counts.append(density)
    figure = Figure(figsize=(12.5, 5.0), dpi=130, layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    figure.suptitle(f"{title}\n", x=0.01, ha="left", fontsize=14, color=INK)
    figure.text(0.01, 0.915, caption, fontsize=9.5, color="#555555")
    norm = LogNorm(vmin=1, vmax=max(10.0, max(float(density.max()) for density in counts)))
    image: Any = None
    for ax, density, (label, mask, _, _) in zip(axes, counts, kinds, strict=True):
        image = ax.imshow(
            np.where(density > 0, density, np.nan),
            origin="lower",
            extent=(0, density.shape[1] * cell, 0, density.shape[0] * cell),
            norm=norm,
            cmap="viridis_r",
            interpolation="nearest",
        )
        ax.set_title(f"{label} ({np.count_nonzero(mask):,})", loc="left", fontsize=9.5, color=INK)
        ax.set(xlim=(0, nx), ylim=(0, ny), aspect="equal", xlabel="x / pixel")
    axes[0].set_ylabel("y / pixel")
    figure.colorbar(image, ax=axes, shrink=0.8, pad=0.01).set_label(f"pixels per {cell} × {cell}")
    return figure


# --- coverage -------------------------------------------------------------------------------


class Bar(NamedTuple):
    """Dates of a series that one mask answers, or none does."""

    start_us: int
    end_us: int
    status: str
    """certified, stale, revoked or gap"""
    label: str


_STATUS = {
    "certified": (GREEN, "certified"),
    "stale": (ORANGE, "certified, its darks too old"),
    "revoked": (VERMILION, "revoked"),
    "gap": ("#E3E3E3", "no mask"),
}


def coverage_chart(
    rows: Sequence[tuple[str, Sequence[Bar], Sequence[int]]],
    *,
    events: Sequence[tuple[int, str]],
    caption: str,
) -> Figure:
    """Draw for each series (name, bars, nights with darks) which dates have a mask."""
    figure, ax = page("Which dates have a mask", caption)
    figure.set_size_inches(10.4, 2.0 + 0.7 * max(len(rows), 1))
    for number, (_, bars, nights) in enumerate(rows):
        for bar in bars:
            ax.barh(
                number,
                _days(bar.end_us - bar.start_us),
                left=_days(bar.start_us),
                height=0.5,
                color=_STATUS[bar.status][0],
                edgecolor="white",
                lw=0.8,
            )
        _name_bars(ax, number, bars, rows)
        ax.plot([_days(us) for us in nights], [number - 0.33] * len(nights), "|", color=BLACK, ms=7, mew=1.2)
    for at_us, kind in events:
        ax.axvline(_days(at_us), color=INK, lw=1, ls="--")
        ax.annotate(kind, (_days(at_us), 1), (3, -9), ("data", "axes fraction"), "offset points", fontsize=8)
    ax.set_yticks(range(len(rows)), [name for name, _, _ in rows], fontsize=8.5)
    ax.set_ylim(len(rows) - 0.4, -0.75)
    ax.grid(visible=False, axis="y")
    _dates(ax)
    seen = {bar.status for _, bars, _ in rows for bar in bars}
    handles: list[Any] = [
        Patch(color=colour, label=label) for s, (colour, label) in _STATUS.items() if s in seen
    ]
    handles += ax.plot([], [], "|", color=BLACK, ms=7, label="night with darks")
    figure.legend(handles=handles, loc="outside lower left", ncols=5, fontsize=8.5, frameon=False)
    return figure


def _name_bars(
    ax: Axes, number: int, bars: Sequence[Bar], rows: Sequence[tuple[str, Sequence[Bar], Sequence[int]]]
) -> None:
    everything = [bar for _, each, _ in rows for bar in each]
    span_us = max(bar.end_us for bar in everything) - min(bar.start_us for bar in everything)
    named: set[str] = set()
    for bar in bars:
        if bar.label not in named and (bar.end_us - bar.start_us) / span_us > 0.012 * (len(bar.label) + 1):
            middle = _days(bar.start_us + bar.end_us) / 2
            ax.annotate(bar.label, (middle, number), ha="center", va="center", fontsize=8, color=BLACK)
            named.add(bar.label)


# --- trends ---------------------------------------------------------------------------------


class Population(NamedTuple):
    """Flagged pixels of one campaign; None for the first, of which nothing went before."""

    at_us: int
    pixels: int
    of_the_first: int
    born: int | None
    returned: int | None
    died: int | None


def trend_chart(
    lines: Sequence[tuple[str, Sequence[Population]]],
    *,
    events: Sequence[tuple[int, str]],
    flag: str,
    caption: str,
) -> Figure:
    """Draw how many pixels are flagged in each campaign, and how many came and went since the last."""
    figure, top = page(f"{flag} pixels over the years", caption, rows=2)
    figure.set_size_inches(8.4, 7.0)
    bottom: Axes = figure.axes[1]
    colours = (BLUE, GREEN, PURPLE, BLACK, GREY)
    width_days = _bar_width_days([c.at_us for _, campaigns in lines for c in campaigns])
    for number, (name, campaigns) in enumerate(lines):
        colour = colours[number % len(colours)]
        at = [_days(c.at_us) for c in campaigns]
        top.plot(at, [c.pixels for c in campaigns], "o-", color=colour, label=name)
        if len(campaigns) > 1:
            top.plot(
                at,
                [c.of_the_first for c in campaigns],
                "o:",
                ms=4,
                color=colour,
                label="those of its first campaign",
            )
            _bars(bottom, campaigns, colour, width_days, named=number == 0)
    top.set(ylabel="pixels")
    top.set_ylim(0, 1.25 * max((c.pixels for _, campaigns in lines for c in campaigns), default=1) or 1)
    later = [c for _, campaigns in lines for c in campaigns[1:]]
    tallest = max(((c.born or 0) + (c.returned or 0) for c in later), default=1)
    bottom.set_ylim(-1.25 * max((c.died or 0 for c in later), default=1) - 1, 1.4 * tallest + 1)
    bottom.axhline(0, color=INK, lw=0.8)
    bottom.set(ylabel="since the campaign before")
    for ax in (top, bottom):
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        for at_us, _ in events:
            ax.axvline(_days(at_us), color=INK, lw=1, ls="--")
    for at_us, kind in events:
        top.annotate(kind, (_days(at_us), 0), (3, 4), ("data", "axes fraction"), "offset points", fontsize=8)
    _dates(bottom)
    figure.legend(*top.get_legend_handles_labels(), loc="outside lower left", fontsize=8.5, frameon=False)
    legend(bottom, "upper left")
    return figure


def _bar_width_days(instants_us: Sequence[int]) -> float:
    """A fortieth of the whole, and no more than the nearest campaigns lie apart, within reason."""
    moments = sorted(set(instants_us))
    if len(moments) < 2:
        return 1.0
    span_us = moments[-1] - moments[0]
    nearest_us = min(b - a for a, b in pairwise(moments))
    return _days(max(min(span_us / 40, 0.8 * nearest_us), span_us / 200))


def _bars(ax: Axes, campaigns: Sequence[Population], colour: str, width: float, *, named: bool) -> None:
    later = campaigns[1:]
    at = np.array([_days(c.at_us) for c in later])
    born = np.array([c.born or 0 for c in later])
    returned = np.array([c.returned or 0 for c in later])
    died = np.array([c.died or 0 for c in later])

    def label(text: str) -> str | None:
        return text if named else None

    edge: dict[str, Any] = {"edgecolor": colour, "lw": 1.0}
    ax.bar(at, born, width, color=VERMILION, label=label("born"), **edge)
    ax.bar(at, returned, width, bottom=born, color=ORANGE, label=label("returned"), **edge)
    ax.bar(at, -died, width, color=SKY, label=label("died"), **edge)


def _dates(ax: Axes) -> None:
    locator: Any = AutoDateLocator()  # type: ignore[no-untyped-call]
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _days(instant_us: float) -> float:
    """Days since 1970, as matplotlib counts dates."""
    return instant_us / US_PER_DAY
