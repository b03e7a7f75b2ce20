"""Pictures of what the facade tells: each the bytes of a PNG file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hotpix_registry.errors import UnknownId
from hotpix_registry.instants import Night, parse_date

if TYPE_CHECKING:
    from datetime import date

    import numpy as np
    from numpy.typing import NDArray

    from hotpix_registry.registry.compare import MaskDiff
    from hotpix_registry.registry.coverage import Coverage, Stretch
    from hotpix_registry.registry.trend import Trend


def of_mask(
    details: Mapping[str, Any], numbers: Mapping[str, NDArray[Any]], dq: NDArray[np.uint16], name: str
) -> bytes:
    """One picture of a build; `dq` is (ny, nx) uint16.

    Raises
    ------
    UnknownId
        There is no picture of that name, or the build has no numbers for it.
    """
    from hotpix_registry import plots

    caption = f"{details['series']}, darks of {details['first_night']}"
    figure = plots.picture(name, numbers, dq, caption)
    if figure is None:
        raise UnknownId(
            f"Mask {details['mask_id']} has no picture '{name}'.",
            next_step=f"Of masks that were built from darks there are {', '.join(plots.PICTURES)}.",
        )
    return plots.png(figure)


def of_diff(diff: MaskDiff, a: NDArray[np.bool_], b: NDArray[np.bool_]) -> bytes:
    """Where pixels are new, vanished and common; `a` and `b` are (ny, nx), True = masked."""
    from hotpix_registry import plots

    series = "; ".join(dict.fromkeys((diff.a["series"], diff.b["series"])))
    caption = f"{series}, darks of {diff.a['first_night']} and {diff.b['first_night']}"
    names = (f"mask {diff.a['mask_id']}", f"mask {diff.b['mask_id']}")
    return plots.png(plots.diff_map(a, b, caption=caption, names=names))


def of_coverage(coverage: Coverage) -> bytes:
    """Which dates of each series have a mask."""
    from hotpix_registry import plots

    rows = [
        (
            one.series.removeprefix(f"{coverage.camera} at ").replace(", ", "\n", 1),
            [bar for stretch in one.stretches for bar in _bars(stretch, coverage.end_us)],
            [_night_us(night) for night in one.dark_nights],
        )
        for one in coverage.series
    ]
    events = [(event.at_us, event.kind) for event in coverage.events]
    caption = f"camera {coverage.camera}, transaction {coverage.tx}"
    return plots.png(plots.coverage_chart(rows, events=events, caption=caption))


def _bars(stretch: Stretch, now_us: int) -> list[Any]:
    from hotpix_registry.plots import Bar

    start_us, end_us = stretch.validity.start_us, stretch.validity.end_us
    if end_us is None:
        end_us = max(now_us, start_us + 1)
    label = "" if stretch.mask_id is None else f"mask {stretch.mask_id}"
    if stretch.stale_from is None or stretch.status == "revoked":
        return [Bar(start_us, end_us, stretch.status, label)]
    stale_us = parse_date(stretch.stale_from)
    assert isinstance(stale_us, int)
    fresh = [Bar(start_us, stale_us, "certified", label)] if stale_us > start_us else []
    return [*fresh, Bar(stale_us, end_us, "stale", label)]


def of_trends(trends: Sequence[Trend], events: Sequence[tuple[int, str]]) -> bytes:
    """Counts, births and deaths of flagged pixels over the years."""
    from hotpix_registry import plots

    lines = []
    for trend in trends:
        several = len({t.series for t in trends}) > 1
        lines.append(
            (
                f"{trend.series}: {trend.made}" if several else trend.made,
                [
                    plots.Population(
                        _night_us(c.first_night), c.count, c.of_the_first, c.born, c.returned, c.died
                    )
                    for c in trend.campaigns
                ],
            )
        )
    caption = ", ".join(dict.fromkeys(trend.series for trend in trends))
    return plots.png(plots.trend_chart(lines, events=events, flag=trends[0].flag, caption=caption))


def _night_us(night: str) -> int:
    evening: int | date = parse_date(night)
    assert not isinstance(evening, int)
    return Night(evening, 0.0).validity.start_us
