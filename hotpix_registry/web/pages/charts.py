"""Where things lie on a chart, in percent of its width and height; templates draw them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from hotpix_registry.instants import US_PER_DAY, Night, iso, parse_date, to_datetime, to_us
from hotpix_registry.registry.coverage import Coverage, Stretch

Summary = Mapping[str, Any]
"""A mask as the registry lists it."""

_MOST_TICKS = 7
_ROOM_FOR_A_LABEL = 4.0
_SPARK_WIDTH, _SPARK_HEIGHT = 120.0, 28.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    at: float
    label: str


# --- timeline ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Dates that one mask answers, or none does."""

    left: float
    width: float
    kind: str
    """certified, stale, revoked or gap"""
    mask_id: int | None
    version: int | None
    title: str
    goes_on: bool
    """whether it goes on with the bar before it, which has the label"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One series."""

    series: str
    bars: tuple[Bar, ...]
    darks: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """An epoch event."""

    at: float
    kind: str
    day: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    lanes: tuple[Lane, ...]
    events: tuple[Mark, ...]
    ticks: tuple[Tick, ...]


def timeline(coverage: Coverage) -> Timeline:
    """A camera's series over its service, a lane each."""
    start_us, end_us = coverage.start_us, coverage.end_us

    def at(instant_us: int) -> float:
        share = (instant_us - start_us) / (end_us - start_us)
        return round(100 * min(max(share, 0.0), 1.0), 3)

    lanes = tuple(
        Lane(
            series=one.series.removeprefix(f"{coverage.camera} at "),
            bars=tuple(
                bar for stretch in one.stretches for bar in _bars(stretch, end_us, at) if bar.width > 0
            ),
            darks=tuple(at(_evening_us(night)) for night in one.dark_nights),
        )
        for one in coverage.series
    )
    events = tuple(
        Mark(at=at(event.at_us), kind=event.kind, day=(iso(event.at_us) or "")[:10], note=event.note)
        for event in coverage.events
        if start_us <= event.at_us <= end_us
    )
    return Timeline(lanes=lanes, events=events, ticks=tuple(_date_ticks(start_us, end_us)))


def _bars(stretch: Stretch, end_us: int, at: Callable[[int], float]) -> list[Bar]:
    first_us, last_us = stretch.validity.start_us, stretch.validity.end_us or end_us
    dates = f"{stretch.valid_from[:10]} to {stretch.valid_to[:10] if stretch.valid_to else 'further notice'}"
    named = "no mask" if stretch.mask_id is None else f"mask {stretch.mask_id} (version {stretch.version})"

    def bar(kind: str, from_us: int, to_us: int, *, goes_on: bool = False) -> Bar:
        left = at(from_us)
        told = "darks out of date" if kind == "stale" else kind
        return Bar(
            left=left,
            width=round(at(to_us) - left, 3),
            kind=kind,
            mask_id=stretch.mask_id,
            version=stretch.version,
            title=f"{named}: {dates}, {told}",
            goes_on=goes_on,
        )

    if stretch.status != "certified" or stretch.stale_from is None:
        return [bar(stretch.status, first_us, last_us)]
    stale_us = parse_date(stretch.stale_from)
    assert isinstance(stale_us, int)
    fresh = bar("certified", first_us, stale_us)
    return [fresh, bar("stale", stale_us, last_us, goes_on=fresh.width > _ROOM_FOR_A_LABEL)]


def _date_ticks(start_us: int, end_us: int) -> list[Tick]:
    """Years, or months where the whole is short, or days where it is shorter still."""
    first, last = to_datetime(start_us), to_datetime(end_us)
    years = range(first.year + 1, last.year + 1)
    if len(years) >= 3:
        step = -(-len(years) // _MOST_TICKS)
        moments = [(datetime(year, 1, 1, tzinfo=UTC), str(year)) for year in years[:: step or 1]]
    else:
        months = [divmod(n, 12) for n in range(first.year * 12 + first.month, last.year * 12 + last.month)]
        if len(months) >= 2:
            step = -(-len(months) // _MOST_TICKS)
            moments = [
                (datetime(year, month + 1, 1, tzinfo=UTC), f"{year}-{month + 1:02d}")
                for year, month in months[::step]
            ]
        else:
            moments = [(first, first.date().isoformat())]
    span = end_us - start_us
    return [Tick(at=round(100 * (to_us(m) - start_us) / span, 3), label=label) for m, label in moments]


def _evening_us(night: str) -> int:
    return Night(date.fromisoformat(night), 0.0).validity.start_us


# --- growth -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    x: float
    y: float
    mask_id: int
    title: str
    waits: bool
    """whether its mask is a candidate"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    flag: str
    points: tuple[Point, ...]

    @property
    def line(self) -> str:
        """The points of an SVG polyline, y downwards."""
        return " ".join(f"{p.x:g},{100 - p.y:g}" for p in self.points)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Numbers of pixels against something, on a logarithmic scale that has a zero."""

    curves: tuple[Curve, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def speaking(masks: Sequence[Summary]) -> list[Summary]:
    """The masks that stand for their campaigns: those that hold dates, and those that wait."""
    chosen = [mask for mask in masks if mask["status"] in ("certified", "candidate")]
    return sorted(chosen, key=lambda mask: (mask["first_night"], mask["version"]))


def over_time(masks: Sequence[Summary]) -> Chart:
    """Pixels of each flag from campaign to campaign of one series."""
    days = [_evening_us(mask["first_night"]) for mask in masks]
    margin = max((max(days) - min(days)) // 25, US_PER_DAY)
    start_us, end_us = min(days) - margin, max(days) + margin
    shares = [100 * (day - start_us) / (end_us - start_us) for day in days]
    return _chart(masks, shares, [mask["first_night"] for mask in masks], _date_ticks(start_us, end_us))


def over_temperature(masks: Sequence[tuple[float, Summary]]) -> Chart:
    """Pixels of each flag against the set point, °C."""
    points = sorted(masks, key=lambda one: one[0])
    low, high = points[0][0], points[-1][0]
    margin = max((high - low) / 15, 0.5)
    shares = [100 * (c - low + margin) / (high - low + 2 * margin) for c, _ in points]
    ticks = [Tick(at=share, label=f"{c:g} °C") for share, (c, _) in zip(shares, points, strict=True)]
    return _chart([mask for _, mask in points], shares, [f"{c:g} °C" for c, _ in points], ticks)


def _chart(
    masks: Sequence[Summary], shares: Sequence[float], told: Sequence[str], x_ticks: Sequence[Tick]
) -> Chart:
    flags = [flag for flag in masks[0]["counts"] if any(mask["counts"].get(flag) for mask in masks)]
    most = max((mask["counts"].get(flag, 0) for mask in masks for flag in flags), default=1)
    top = max(_height(most), 1.0) * 1.04
    curves = tuple(
        Curve(
            flag=flag,
            points=tuple(
                Point(
                    x=round(share, 3),
                    y=round(100 * _height(mask["counts"].get(flag, 0)) / top, 3),
                    mask_id=mask["mask_id"],
                    title=f"{mask['counts'].get(flag, 0):,} {flag}, {label}, mask {mask['mask_id']}",
                    waits=mask["status"] == "candidate",
                )
                for share, label, mask in zip(shares, told, masks, strict=True)
            ),
        )
        for flag in flags
    )
    decades = [0, *(10**n for n in range(1, 10) if _height(10**n) <= top)]
    y_ticks = tuple(Tick(at=round(100 * _height(n) / top, 3), label=f"{n:,}") for n in decades)
    return Chart(curves=curves, x_ticks=tuple(x_ticks), y_ticks=y_ticks)


def _height(count: int) -> float:
    return math.log10(1 + count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spark:
    """A line of numbers of masked pixels, small enough to stand in a sentence."""

    line: str
    last: tuple[float, float]
    words: str
    width: float = _SPARK_WIDTH
    height: float = _SPARK_HEIGHT


def spark(masks: Sequence[Summary]) -> Spark | None:
    """Masked pixels of one series' campaigns; None where there is nothing to compare."""
    if len(masks) < 2:
        return None
    days = [_evening_us(mask["first_night"]) for mask in masks]
    counts = [mask["flagged"] for mask in masks]
    low, high = min(counts), max(counts)
    points = [
        (
            3 + (_SPARK_WIDTH - 6) * (day - days[0]) / max(days[-1] - days[0], 1),
            _SPARK_HEIGHT - 4 - (_SPARK_HEIGHT - 8) * ((count - low) / (high - low) if high > low else 0.5),
        )
        for day, count in zip(days, counts, strict=True)
    ]
    first, last = masks[0], masks[-1]
    return Spark(
        line=" ".join(f"{x:.1f},{y:.1f}" for x, y in points),
        last=points[-1],
        words=(
            f"{counts[0]:,} masked pixels in {first['first_night'][:7]}, "
            f"{counts[-1]:,} in {last['first_night'][:7]}"
        ),
    )
