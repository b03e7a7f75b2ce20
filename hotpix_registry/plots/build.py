"""Pictures of a build, drawn from the numbers that the science stores with it.

`numbers` maps names to arrays; dark currents are in e-/s. What a build could not measure is
missing or nan, and its picture is left out.

====================================== =============================================================
`short_s`, `long_s`                    the two exposure times; the same, or one alone, with a single one
`hist_edges`                           (n + 1,) edges of dark current, shared by both histograms
`hist_short`, `hist_long`              (n,) numbers of pixels
`points_short`, `points_long`          (m,) dark currents of single pixels
`points_dq`                            (m,) their data quality
`points_index`                         (m,) their places in the flat image; missing in older builds
`ceiling_short_e_per_s`, `…_long_…`    dark current at which each exposure saturates
`limit`, `limit_low`, `limit_high`     consistency limit with its interval, in the shorter exposure
`cutoff`                               the cut-off where there is no limit
`departure_rate`, `departure_median`   (k,) dark current, and median of (short − long) / long in bins of it
`departure_low`, `…_high`, `…_fit`     (k,) the median's interval, and the isotonic regression
`tolerance`                            the departure that defines the limit
`z_edges`, `z_counts`                  histogram of z of the pixels in the bulk
`z_sd`                                 its standard deviation
====================================== =============================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from hotpix_registry.domain import DQ
from hotpix_registry.files import make_folder, write_atomic
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
    YELLOW,
    legend,
    page,
    png,
)

Numbers = Mapping[str, NDArray[Any]]

_FLAGS: Mapping[DQ, tuple[str, str, str]] = {
    DQ.MANUAL: ("by hand", BLACK, "x"),
    DQ.COLUMN: ("bad column", GREEN, "|"),
    DQ.STUCK: ("stuck", YELLOW, "s"),
    DQ.DARK_SATURATED: ("saturated", PURPLE, "D"),
    DQ.UNSTABLE: ("unstable", BLUE, "^"),
    DQ.DARK_NONLINEAR: ("non-linear", VERMILION, "o"),
    DQ.HOT: ("only hot", SKY, "o"),
}
"""The first flag that a pixel has names it in the pictures: label, colour, marker."""

_RATE = "dark current / e⁻ s⁻¹"
_MAP_CELLS = 64
_POINTS_UP_TO_SIDE = 1100


def save_plots(
    numbers: Numbers, dq: NDArray[np.uint16], directory: Path, stem: str, *, caption: str = ""
) -> list[Path]:
    """Draw every picture that the numbers allow as `STEM-NAME.png`; return the paths.

    `dq` is the data quality as (ny, nx) uint16; `caption` names camera, configuration and set point.

    Raises
    ------
    StorageError
        When a picture cannot be written.
    """
    make_folder(directory)
    return [
        write_atomic(directory / f"{stem}-{name}.png", png(figure))
        for name, figure in pictures(numbers, dq, caption).items()
    ]


PICTURES = ("histogram", "threshold", "scatter", "limit", "departure", "z", "map")
"""every picture that a build may have"""


def pictures(numbers: Numbers, dq: NDArray[np.uint16], caption: str = "") -> dict[str, Figure]:
    """Draw every picture that the numbers allow; of a mask that no build made, only where its pixels lie."""
    return {name: figure for name in PICTURES if (figure := picture(name, numbers, dq, caption)) is not None}


def picture_names(numbers: Numbers) -> list[str]:
    """Which of `PICTURES` the numbers allow."""
    return [name for name in PICTURES if _allows(numbers, name)]


def _allows(numbers: Numbers, name: str) -> bool:
    match name:
        case "histogram" | "threshold":
            return "hist_edges" in numbers
        case "scatter" | "limit":
            return _has_pair(numbers)
        case "departure":
            return "departure_rate" in numbers and bool(numbers["departure_rate"].size)
        case "z":
            return "z_edges" in numbers and bool(numbers["z_counts"].sum())
    return name == "map"


def picture(name: str, numbers: Numbers, dq: NDArray[np.uint16], caption: str = "") -> Figure | None:
    """Draw one of `PICTURES`; None where the numbers do not allow it."""
    if not _allows(numbers, name):
        return None
    if name == "map":
        return flag_map(dq, caption)
    return _DRAWN[name](numbers, caption)


def histogram(numbers: Numbers, caption: str = "") -> Figure:
    """Draw how many pixels have which dark current in each exposure, with the limit or cut-off."""
    figure, ax = _page("Dark current of all pixels", numbers, caption)
    edges, first = _wide_bins(numbers["hist_edges"])
    decades = np.diff(np.log10(edges))
    tallest = 1.0
    for label, colour, counts in _exposures(numbers):
        density = np.add.reduceat(counts, first) / decades
        tallest = max(tallest, float(density.max()))
        ax.stairs(np.maximum(density, 0.1), edges, baseline=0.1, color=colour, lw=1.6, label=label)
    ax.set(xscale="log", yscale="log", ylim=(1, 3 * tallest), xlim=_rate_range(numbers))
    ax.set(xlabel=_RATE, ylabel="pixels per decade of dark current")
    _draw_limit(ax, numbers)
    ax.legend(frameon=False, loc="upper right")
    return figure


def threshold(numbers: Numbers, caption: str = "") -> Figure:
    """Draw how many pixels lie above any threshold in dark current."""
    figure, ax = _page("Pixels above a threshold", numbers, caption)
    edges = numbers["hist_edges"]
    most = 1
    for label, colour, counts in _exposures(numbers):
        above = np.cumsum(counts[::-1])[::-1]
        most = max(most, int(above[0]))
        ax.plot(edges[:-1], np.where(above > 0, above, np.nan), color=colour, lw=1.8, label=label)
    ax.set(xscale="log", yscale="log", ylim=(0.7, 2.5 * most), xlim=_rate_range(numbers))
    ax.set(xlabel="threshold in " + _RATE, ylabel="pixels above")
    _draw_limit(ax, numbers)
    ax.legend(frameon=False, loc="upper right")
    return figure


def scatter(numbers: Numbers, caption: str = "") -> Figure:
    """Draw dark current in one exposure against the other, with the ideal line and the ceiling."""
    figure, ax = _page("Do the exposures agree?", numbers, caption, square=True)
    short, long = numbers["points_short"], numbers["points_long"]
    ceilings = [_scalar(numbers, f"ceiling_{name}_e_per_s") for name in ("short", "long")]
    shown = (short > 0) & (long > 0)
    positive = np.concatenate([short[shown], long[shown], [c for c in ceilings if np.isfinite(c)]])
    low, high = (positive.min() / 1.5, positive.max() * 2) if positive.size else (0.01, 100.0)
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    _draw_points(ax, short[shown], long[shown], numbers["points_dq"][shown])
    ax.plot([low, high], [low, high], color=INK, lw=1.2, zorder=4, label="ideal: equal dark current")
    if np.isfinite(ceilings[1]):
        ax.axhline(ceilings[1], color=PURPLE, lw=1.2, ls="--", label="saturation ceiling")
    if np.isfinite(ceilings[0]):
        ax.axvline(ceilings[0], color=PURPLE, lw=1.2, ls="--")
    _draw_limit(ax, numbers, label=False)
    _label_axes(ax, numbers)
    legend(ax, "upper left")
    return figure


def zoom(numbers: Numbers, caption: str = "") -> Figure:
    """Draw the same around the limit, on linear axes, the limit with its interval."""
    figure, ax = _page("Where the exposures part", numbers, caption, square=True)
    short, long = numbers["points_short"], numbers["points_long"]
    limit = _scalar(numbers, "limit")
    edge = 2.5 * limit if np.isfinite(limit) and limit > 0 else 10.0
    low = -0.05 * edge
    shown = (short > low) & (short < edge) & (long > low) & (long < edge)
    _draw_points(ax, short[shown], long[shown], numbers["points_dq"][shown], size=12)
    ax.plot([low, edge], [low, edge], color=INK, lw=1.2, zorder=4, label="ideal: equal dark current")
    ax.set(xlim=(low, edge), ylim=(low, edge), aspect="equal")
    _draw_limit(ax, numbers)
    _label_axes(ax, numbers)
    legend(ax, "upper left")
    return figure


def departure(numbers: Numbers, caption: str = "") -> Figure:
    """Draw the median departure of the exposures against dark current, the fit and the tolerance.

    Bins are made in the longer exposure and drawn where their pixels lie in the shorter one, as the
    limit is.
    """
    figure, ax = _page("Median departure of the shorter from the longer exposure", numbers, caption)
    fit, median = numbers["departure_fit"], 100 * numbers["departure_median"]
    rate = numbers["departure_rate"] * (1 + fit)
    error = np.abs(100 * np.stack([numbers["departure_low"], numbers["departure_high"]]) - median)
    ax.axhline(0, color=INK, lw=0.8)
    ax.errorbar(
        rate, median, error, fmt="o", ms=4.5, color=BLUE, ecolor="#8FBBD9", label="bins, 99 % interval"
    )
    ax.plot(rate, 100 * fit, color=VERMILION, lw=1.8, label="isotonic regression")
    tolerance = 100 * _scalar(numbers, "tolerance")
    if np.isfinite(tolerance):
        ax.axhline(tolerance, color=INK, lw=1, ls=":", label=f"tolerance {tolerance:g} %")
    ax.set(xscale="log", ylabel="(short − long) / long, %")
    ax.set_xlabel(f"{_RATE}, {_scalar(numbers, 'short_s'):g} s")
    inner = median[np.isfinite(median)]
    top = max(1.3 * float(inner.max(initial=0)), 4 * tolerance if np.isfinite(tolerance) else 20)
    ax.set_ylim(min(-0.1 * top, 1.2 * float(inner.min(initial=0))), top)
    _draw_limit(ax, numbers)
    legend(ax, "upper left")
    return figure


def z_scores(numbers: Numbers, caption: str = "") -> Figure:
    """Draw the distribution of z-scores in the bulk over the unit normal that they should follow."""
    figure, ax = _page("Is the noise model right?", numbers, caption)
    edges, counts = numbers["z_edges"], numbers["z_counts"].astype(float)
    centre, width = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    density = counts / (counts.sum() * width)
    ax.stairs(np.maximum(density, 1e-12), edges, baseline=1e-12, color=BLUE, lw=1.6, label="pixels")
    z = np.linspace(edges[0], edges[-1], 400)
    ax.plot(z, np.exp(-z * z / 2) / np.sqrt(2 * np.pi), color=VERMILION, lw=1.4, label="unit normal")
    sd = _scalar(numbers, "z_sd")
    if np.isfinite(sd):
        ax.plot([], [], " ", label=f"standard deviation {sd:.3f}")
    floor = 0.5 / (counts.sum() * float(np.median(width)))
    ax.set(yscale="log", ylim=(floor, 1.5), xlim=(centre[0], centre[-1]))
    ax.set(xlabel="z = difference of dark currents / its standard deviation", ylabel="density")
    legend(ax, "upper right")
    return figure


def flag_map(dq: NDArray[np.uint16], caption: str = "") -> Figure:
    """Draw where the flagged pixels lie: each one on a small sensor, their density on a large one.

    `dq` is (ny, nx) uint16; row 0 is at the bottom.
    """
    ny, nx = dq.shape
    n_bad = np.count_nonzero(dq & DQ.BAD.value)
    share = f"{n_bad:,} of {dq.size:,} pixels bad ({n_bad / dq.size:.3%})"
    figure, ax = _page(
        "Bad pixels over the sensor", {}, ", ".join(filter(None, (caption, share))), square=True
    )
    y, x = np.nonzero(dq & DQ.BAD.value)
    if max(ny, nx) <= _POINTS_UP_TO_SIDE:
        _draw_points(ax, x, y, dq[y, x], size=7, good=False)
        figure.set_size_inches(8.6, 7.4)
        legend(ax, "upper left", outside=True)
    else:
        cell = -(-max(ny, nx) // _MAP_CELLS)
        counts = np.zeros((-(-ny // cell), -(-nx // cell)))
        np.add.at(counts, (y // cell, x // cell), 1)
        image = ax.imshow(
            np.where(counts > 0, counts, np.nan),
            origin="lower",
            extent=(0, counts.shape[1] * cell, 0, counts.shape[0] * cell),
            norm=LogNorm(vmin=1, vmax=max(10, counts.max())),
            cmap="viridis_r",
            interpolation="nearest",
        )
        bar = figure.colorbar(image, ax=ax, shrink=0.8, pad=0.02)
        bar.set_label(f"bad pixels per {cell} × {cell}")
    ax.set(xlim=(0, nx), ylim=(0, ny), aspect="equal", xlabel="x / pixel", ylabel="y / pixel")
    ax.grid(visible=False)
    return figure


_DRAWN = {
    "histogram": histogram,
    "threshold": threshold,
    "scatter": scatter,
    "limit": zoom,
    "departure": departure,
    "z": z_scores,
}


# --- the parts they share ---------------------------------------------------


def _page(title: str, numbers: Numbers, caption: str, *, square: bool = False) -> tuple[Figure, Axes]:
    times = " and ".join(label for label, _, _ in _exposures(numbers))
    return page(title, ", ".join(filter(None, (caption, times))), square=square)


def _exposures(numbers: Numbers) -> list[tuple[str, str, NDArray[Any]]]:
    """Label, colour and histogram of each exposure there is."""
    seen: dict[float, tuple[str, str, NDArray[Any]]] = {}
    for name, colour in (("long", BLUE), ("short", VERMILION)):
        exptime_s = _scalar(numbers, f"{name}_s")
        if np.isfinite(exptime_s) and f"hist_{name}" in numbers:
            seen.setdefault(exptime_s, (f"{exptime_s:g} s", colour, numbers[f"hist_{name}"]))
    return [seen[exptime_s] for exptime_s in sorted(seen)]


def _wide_bins(edges: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Join bins narrower than a twelfth of a decade, in which steps of the converter show as a comb."""
    at = np.log10(edges[:-1])
    _, first = np.unique(np.floor(12 * (at - at[0]) + 1e-6), return_index=True)
    return np.append(edges[first], edges[-1]), first


def _rate_range(numbers: Numbers) -> tuple[float, float]:
    edges = numbers["hist_edges"]
    filled = [np.flatnonzero(counts).max(initial=0) for _, _, counts in _exposures(numbers)]
    return float(edges[0]), 2 * float(edges[max(filled, default=0) + 1])


def _has_pair(numbers: Numbers) -> bool:
    return len(_exposures(numbers)) == 2


def _scalar(numbers: Numbers, name: str) -> float:
    return float(numbers[name]) if name in numbers else float("nan")


def _label_axes(ax: Axes, numbers: Numbers) -> None:
    ax.set_xlabel(f"{_RATE}, {_scalar(numbers, 'short_s'):g} s")
    ax.set_ylabel(f"{_RATE}, {_scalar(numbers, 'long_s'):g} s")
    if ax.get_xscale() == "log":
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        ax.xaxis.set_major_formatter(plain)
        ax.yaxis.set_major_formatter(plain)


def _draw_limit(ax: Axes, numbers: Numbers, *, label: bool = True) -> None:
    limit, low, high = (_scalar(numbers, name) for name in ("limit", "limit_low", "limit_high"))
    name = "limit" if _has_pair(numbers) else "cut-off"
    if not np.isfinite(limit):
        limit, name = _scalar(numbers, "cutoff"), "cut-off"
    if not np.isfinite(limit):
        return
    text = f"{name} {limit:.3g} e⁻ s⁻¹"
    if np.isfinite(low) and np.isfinite(high) and high > low:
        ax.axvspan(low, high, color=ORANGE, alpha=0.25, lw=0, zorder=0.5)
        text += f" ({low:.3g} to {high:.3g})"
    ax.axvline(limit, color=ORANGE, lw=1.8, zorder=3, label=text if label else name)


def _draw_points(
    ax: Axes,
    x: NDArray[Any],
    y: NDArray[Any],
    dq: NDArray[np.uint16],
    *,
    size: float = 9,
    good: bool = True,
) -> None:
    bad = (dq & DQ.BAD.value) != 0
    if good:
        ax.scatter(
            x[~bad], y[~bad], s=0.6 * size, c=GREY, lw=0, rasterized=True, label=f"good ({(~bad).sum():,})"
        )
    left = bad.copy()
    named = []
    for flag, style in _FLAGS.items():
        here = left & ((dq & flag.value) != 0)
        left &= ~here
        named.append((here, *style))
    named.append((left, "bad for another reason", ORANGE, "*"))
    for here, label, colour, marker in reversed(named):
        if here.any():
            line = {"lw": 1.0} if marker in "x|" else {"lw": 0.3, "edgecolors": "white"}
            ax.scatter(
                x[here],
                y[here],
                s=size * (1.8 if marker in "sD^x*" else 1.3),
                c=colour,
                marker=marker,
                rasterized=True,
                label=f"{label} ({here.sum():,})",
                zorder=2.5,
                **line,
            )
