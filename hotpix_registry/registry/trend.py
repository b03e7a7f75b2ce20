"""Hot pixels over the years: births, deaths, and those that come and go."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.queries import Event, MaskRow
from hotpix_registry.domain import Rule, Series
from hotpix_registry.instants import US_PER_DAY, iso
from hotpix_registry.registry import masks
from hotpix_registry.registry.view import View

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint32]
    """Sorted indices of flagged pixels."""

_US_PER_YEAR = 365.25 * US_PER_DAY
_FEWEST_DEATHS = 10
_SAME_LIMIT = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """The flagged pixels of one campaign, held against those of the campaigns before it."""

    mask_id: int
    version: int
    status: str
    first_night: str
    limit_e_per_s: float | None
    count: int
    born: int | None
    """never flagged before; None for the first campaign"""
    returned: int | None
    """flagged before, not in the last campaign, and now again"""
    died: int | None
    """flagged in the last campaign, and not now"""
    survived: int | None
    """flagged in the last campaign and now"""
    of_the_first: int
    """flagged in the first campaign and now"""
    born_per_year: float | None
    died_per_year: float | None
    events: tuple[str, ...]
    """epoch events since the last campaign"""

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {"events": list(self.events)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """The campaigns of one series whose masks were made alike."""

    series: str
    made: str
    """what the masks have in common: rule, exposure times, limit"""
    flag: str
    pixels: int
    campaigns: tuple[Campaign, ...]
    ever: int
    """pixels flagged in any campaign"""
    always: int
    """in all of them"""
    intermittent: int
    """that vanished and returned"""
    half_life_years: float | None
    """after which half of the flagged pixels are gone at the rate of the deaths, those that returned later
    among them; None where few died"""
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {"campaigns": [campaign.as_dict() for campaign in self.campaigns]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Masks of one series that can be compared, one for each campaign, in the order of time."""

    series: Series
    made: str
    masks: tuple[MaskRow, ...]
    status: dict[int, str]
    events: tuple[Event, ...]


def lines_of(view: View, series: Series, events: Sequence[Event]) -> list[Line]:
    """The masks of a series, one for each campaign, in lines of like with like.

    Masks are alike when rule, exposure times, given limit and shape agree: the limit in e-/s scales
    with the longer exposure. A swap of the detector begins another line.
    """
    rows = view.masks_of(series.series_id)
    status = masks.statuses(view.connection, rows, at=view.at)
    by_sha256 = {row.sha256: row for row in rows}
    lines: dict[tuple[Any, ...], list[MaskRow]] = {}
    for row in one_per_campaign(rows, status):
        swaps = sum(e.kind == "swap" and e.at_us <= row.campaign_start_us for e in events)
        key = (_made(view.connection, row, by_sha256), row.nx, row.ny, swaps)
        lines.setdefault(key, []).append(row)
    return [
        Line(series=series, made=key[0], masks=tuple(own), status=status, events=tuple(events))
        for key, own in lines.items()
    ]


def one_per_campaign(rows: Sequence[MaskRow], status: dict[int, str]) -> list[MaskRow]:
    """The mask that speaks for each campaign: the certified one, else the newest that is not revoked."""
    chosen: list[MaskRow] = []
    end_us = None
    for row in sorted(rows, key=lambda r: (r.campaign_start_us, r.version)):
        if status[row.id] == "revoked":
            continue
        if end_us is None or row.campaign_start_us >= end_us:
            chosen.append(row)
            end_us = row.campaign_end_us
            continue
        end_us = max(end_us, row.campaign_end_us)
        if _weight(row, status) > _weight(chosen[-1], status):
            chosen[-1] = row
    return chosen


def _weight(row: MaskRow, status: dict[int, str]) -> tuple[bool, int]:
    return status[row.id] == "certified", row.version


def _made(connection: Connection, row: MaskRow, by_sha256: Mapping[str, MaskRow]) -> str:
    """`rule limit, 90 and 1000 s, limit from the darks`; what was edited by hand was made as its source."""
    details = queries.mask_details(connection, row.id)
    if row.rule == Rule.EDIT:
        sources = [by_sha256.get(mask["sha256"]) for mask in details["report"].get("masks", ())]
        if sources and sources[0] is not None:
            return _made(connection, sources[0], by_sha256)
    recipe = details["recipe"]
    parts = [f"rule {row.rule}"]
    if row.shortest_s is not None and row.longest_s is not None:
        times = [f"{float(f'{s:.4g}'):g}" for s in dict.fromkeys((row.shortest_s, row.longest_s))]
        parts.append(f"{' and '.join(times)} s")
    if row.rule == Rule.CUTOFF:
        parts.append(f"cut-off {recipe.get('cutoff_e_per_s'):g} e-/s")
    elif recipe.get("limit_e_per_s") is not None:
        parts.append(f"limit of {recipe['limit_e_per_s']:g} e-/s given")
    elif row.shortest_s != row.longest_s:
        parts.append("limit from the darks")
    return ", ".join(parts)


def trend_of(line: Line, flag: str, load: Callable[[int], Pixels]) -> Trend:
    """Follow the flagged pixels through the campaigns of a line.

    Parameters
    ----------
    load
        mask id → sorted indices of its flagged pixels; called once for each mask, in the order of time
    """
    import numpy as np

    campaigns: list[Campaign] = []
    empty: Pixels = np.empty(0, np.uint32)
    first = last = ever = always = intermittent = empty
    pixel_years, deaths = 0.0, 0
    for before, row in pairwise((None, *line.masks)):
        assert row is not None
        now = load(row.id)
        if before is None:
            first = ever = always = now
            campaigns.append(_campaign(line, row, None, now.size, survivors=int(now.size)))
            last = now
            continue
        years = (row.campaign_start_us - before.campaign_start_us) / _US_PER_YEAR
        fresh = np.setdiff1d(now, last, assume_unique=True)
        returned = np.intersect1d(fresh, ever, assume_unique=True)
        survived = int(now.size - fresh.size)
        died = int(last.size - survived)
        campaigns.append(
            _campaign(
                line,
                row,
                before,
                now.size,
                survivors=int(np.intersect1d(first, now, assume_unique=True).size),
                born=int(fresh.size - returned.size),
                returned=int(returned.size),
                died=died,
                survived=survived,
                years=years,
            )
        )
        pixel_years += last.size * years
        deaths += died
        intermittent = np.union1d(intermittent, returned)
        always = np.intersect1d(always, now, assume_unique=True)
        ever, last = np.union1d(ever, now), now
    half_life = math.log(2) * pixel_years / deaths if deaths >= _FEWEST_DEATHS and pixel_years else None
    newest = line.masks[-1]
    return Trend(
        series=str(line.series),
        made=line.made,
        flag=flag,
        pixels=newest.nx * newest.ny,
        campaigns=tuple(campaigns),
        ever=int(ever.size),
        always=int(always.size),
        intermittent=int(intermittent.size),
        half_life_years=None if half_life is None else round(half_life, 2),
        notes=tuple(_notes(line)),
    )


def _campaign(
    line: Line,
    row: MaskRow,
    before: MaskRow | None,
    count: int,
    *,
    survivors: int,
    born: int | None = None,
    returned: int | None = None,
    died: int | None = None,
    survived: int | None = None,
    years: float = 0.0,
) -> Campaign:
    def a_year(number: int | None) -> float | None:
        return None if number is None or years <= 0 else round(number / years, 2)

    since_us = None if before is None else before.campaign_start_us
    return Campaign(
        mask_id=row.id,
        version=row.version,
        status=line.status[row.id],
        first_night=row.first_night,
        limit_e_per_s=row.limit_e_per_s,
        count=int(count),
        born=born,
        returned=returned,
        died=died,
        survived=survived,
        of_the_first=survivors,
        born_per_year=a_year(born),
        died_per_year=a_year(died),
        events=tuple(
            f"{event.kind} {(iso(event.at_us) or '')[:10]}"
            for event in line.events
            if since_us is not None and since_us < event.at_us <= row.campaign_start_us
        ),
    )


def _notes(line: Line) -> list[str]:
    found = [row.limit_e_per_s for row in line.masks]
    limits = [limit for limit in found if limit is not None]
    notes = []
    if limits and max(limits) > (1 + _SAME_LIMIT) * min(limits):
        notes.append(
            f"The limits that were found go from {min(limits):.3g} to {max(limits):.3g} e-/s; "
            "some pixels come and go with the limit alone."
        )
    if len(limits) < len(found) and line.masks[0].shortest_s != line.masks[0].longest_s:
        which = "Of some campaigns" if limits else "Of these campaigns"
        notes.append(f"{which} no limit was found; there the default cut-off says what is HOT.")
    return notes
