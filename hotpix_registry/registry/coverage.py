"""Which dates of a camera have a mask, how old its darks are there, and what would close the gaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.queries import CameraRow, Event, MaskRow
from hotpix_registry.domain import Frame, Kind, Series
from hotpix_registry.instants import US_PER_DAY, Night, Validity, iso
from hotpix_registry.registry import criteria, masks
from hotpix_registry.registry.view import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Dates that one mask answers, or none does."""

    valid_from: str
    valid_to: str | None
    mask_id: int | None
    """None: a gap"""
    version: int | None = None
    status: str = "gap"
    """certified, revoked or gap"""
    darks: tuple[str, str] | None = None
    """first and last night of the mask's darks"""
    age_at_start_days: int | None = None
    """days from the darks; negative before them"""
    age_at_end_days: int | None = None
    """at its end, or at the end of the timeline where it is open"""
    stale_from: str | None = None
    """from when on the darks are older than the profile allows"""
    cures: tuple[str, ...] = ()
    """what would give these dates a mask"""
    validity: Validity

    def as_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__slots__ if name != "validity"}
        return values | {"cures": list(self.cures), "darks": None if self.darks is None else list(self.darks)}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesCoverage:
    """The timeline of one series."""

    series: str
    stretches: tuple[Stretch, ...]
    candidates: tuple[int, ...]
    """masks that wait to be certified"""
    dark_nights: tuple[str, ...]
    covered: float
    """the part of the timeline that a certified mask answers"""

    def as_dict(self) -> dict[str, Any]:
        return {
            "series": self.series,
            "covered": round(self.covered, 4),
            "candidates": list(self.candidates),
            "dark_nights": list(self.dark_nights),
            "stretches": [stretch.as_dict() for stretch in self.stretches],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The timelines of a camera's series over its service."""

    camera: str
    start_us: int
    end_us: int
    tx: int
    events: tuple[Event, ...]
    series: tuple[SeriesCoverage, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "camera": self.camera,
            "from": iso(self.start_us),
            "to": iso(self.end_us),
            "tx": self.tx,
            "events": [{"date": iso(e.at_us), "kind": e.kind, "note": e.note} for e in self.events],
            "series": [one.as_dict() for one in self.series],
        }


def coverage_of(view: View, camera: CameraRow, *, now_us: int) -> Coverage:
    """The timeline of each series with masks or darks, from the camera's first service to now."""
    frames = [
        frame
        for frame in queries.frames(view.connection, camera_id=camera.camera_id)
        if frame.kind in (Kind.DARK, Kind.MASTER_DARK) and frame.excluded is None and frame.twin_of is None
    ]
    rows = queries.masks(view.connection, camera.camera_id, at=view.at)
    if (
        view.at is not None
    ):  # frames know no earlier state: those of masks were there, of others nothing is said
        known = {frame_id for row in rows for frame_id, _ in queries.mask_inputs(view.connection, row.id)}
        frames = [frame for frame in frames if frame.frame_id in known]
    held = queries.assignments(view.connection, list(view.series(camera)), at=view.at)
    begun = [a.validity.start_us for a in held]
    profile = camera.profile
    first = [profile.service_from_us] if profile.service_from_us is not None else [f.start_us for f in frames]
    start_us = min([us for us in (*first, *begun) if us is not None], default=now_us)
    end_us = now_us if profile.service_to_us is None else min(now_us, profile.service_to_us)
    timeline = Validity(start_us, max(end_us, start_us + 1))
    told = []
    for series in view.series(camera).values():
        own = [row for row in rows if row.series_id == series.series_id]
        darks = [frame for frame in frames if frame.series_id == series.series_id]
        if own or darks:
            told.append(_series(view, camera, series, own, darks, timeline))
    events = tuple(event for event in view.events(camera) if event.at_us >= start_us)
    return Coverage(
        camera=camera.name,
        start_us=timeline.start_us,
        end_us=timeline.end_us or now_us,
        tx=view.tx,
        events=events,
        series=tuple(told),
    )


def _series(
    view: View,
    camera: CameraRow,
    series: Series,
    rows: Sequence[MaskRow],
    darks: Sequence[Frame],
    timeline: Validity,
) -> SeriesCoverage:
    by_id = {row.id: row for row in rows}
    status = masks.statuses(view.connection, rows, at=view.at)
    held = queries.assignments(view.connection, [series.series_id], at=view.at)
    used = {i for row in rows for i, _ in queries.mask_inputs(view.connection, row.id)}
    unbuilt = [dark for dark in darks if dark.frame_id not in used]
    gaps = _Gaps(camera, view.events(camera), view.epochs_us(camera), rows, status, unbuilt)
    end_us = timeline.end_us
    assert end_us is not None
    stretches: list[Stretch] = []
    at_us, before = timeline.start_us, None
    for assignment in held:
        mask, validity = by_id[assignment.mask_id], assignment.validity
        if at_us < min(validity.start_us, end_us):
            gap = Validity(at_us, min(validity.start_us, end_us))
            stretches.append(gaps.stretch(gap, before=before, after=mask))
        stretches.append(_held(camera, mask, validity, status[mask.id], end_us))
        at_us, before = validity.end_us or max(end_us, validity.start_us), mask
    if at_us < end_us:
        stretches.append(gaps.stretch(Validity(at_us, end_us), before=before, after=None))
    covered_us = sum(
        max(min(s.validity.end_us or end_us, end_us) - max(s.validity.start_us, timeline.start_us), 0)
        for s in stretches
        if s.status == "certified"
    )
    return SeriesCoverage(
        series=str(series),
        stretches=tuple(stretches),
        candidates=tuple(row.id for row in rows if status[row.id] == "candidate"),
        dark_nights=tuple(sorted({dark.night for dark in darks})),
        covered=covered_us / (end_us - timeline.start_us),
    )


def _held(camera: CameraRow, mask: MaskRow, validity: Validity, status: str, now_us: int) -> Stretch:
    last_us = max(now_us, validity.start_us + 1) if validity.end_us is None else validity.end_us
    end_of_darks_us = Night(
        date.fromisoformat(mask.last_night), camera.profile.longitude_deg_east
    ).validity.end_us
    assert end_of_darks_us is not None
    stale_us = max(end_of_darks_us + camera.profile.max_age_days * US_PER_DAY, validity.start_us)
    cures: tuple[str, ...] = ()
    if status == "revoked":
        cures = (
            f"mask {mask.id} is revoked: build these darks anew, or `hotpix-registry certify ID --supersede` "
            "another in its place",
        )
    return Stretch(
        valid_from=iso(validity.start_us) or "",
        valid_to=iso(validity.end_us),
        validity=validity,
        mask_id=mask.id,
        version=mask.version,
        status=status,
        darks=(mask.first_night, mask.last_night),
        age_at_start_days=_age_days(mask, validity.start_us, camera),
        age_at_end_days=_age_days(mask, last_us - 1, camera),
        stale_from=iso(stale_us) if stale_us < last_us else None,
        cures=cures,
    )


def _age_days(mask: MaskRow, instant_us: int, camera: CameraRow) -> int:
    """Days from a mask's darks to an instant, negative before them, as answers count them."""
    at = Validity(instant_us, instant_us + 1)
    nights = masks.campaign_validity(mask.first_night, mask.last_night, camera)
    return criteria.age_days(nights, at) - criteria.days_before_darks(nights, at)


@dataclass(frozen=True, slots=True)
class _Gaps:
    """What is there to close the gaps of a series."""

    camera: CameraRow
    events: Sequence[Event]
    epochs_us: Sequence[int]
    rows: Sequence[MaskRow]
    status: dict[int, str]
    unbuilt: Sequence[Frame]

    def stretch(self, gap: Validity, *, before: MaskRow | None, after: MaskRow | None) -> Stretch:
        return Stretch(
            valid_from=iso(gap.start_us) or "",
            valid_to=iso(gap.end_us),
            validity=gap,
            mask_id=None,
            cures=tuple(self._cures(gap, before, after)),
        )

    def _cures(self, gap: Validity, before: MaskRow | None, after: MaskRow | None) -> Iterator[str]:
        event = next((e for e in self.events if e.at_us == gap.start_us), None)
        if event is not None:
            yield f"the {event.kind} of {_day(event.at_us)} ended the epoch of the masks before it"
        elif gap.start_us in self.epochs_us:
            night = self.camera.profile.night_of(gap.start_us)
            yield f"the change of the detector in the night of {night} ended the epoch of the masks before it"
        found = False
        nights = Counter(frame.night for frame in self.unbuilt if gap.contains(frame.start_us))
        if nights:
            first, last = min(nights), max(nights)
            span = first if first == last else f"{first}..{last}"
            yield (
                f"{_count(nights.total(), 'dark')} of {span} went into no mask: "
                f"`hotpix-registry build --camera {self.camera.name} --nights {span}`"
            )
            found = True
        for row in self.rows:
            campaign = Validity(row.campaign_start_us, row.campaign_end_us)
            if self.status[row.id] in ("candidate", "decertified") and campaign.overlaps(gap):
                yield f"mask {row.id} is {_a(self.status[row.id])}: `hotpix-registry certify {row.id}`"
                found = True
        if found:
            return
        if after is not None and not self._parted(gap.start_us, after.campaign_start_us):
            yield (
                f"it lies before the darks of mask {after.id}, which takes it in by "
                f"`hotpix-registry certify {after.id} --valid-from {iso(gap.start_us)}`"
            )
        elif before is not None and not self._parted(before.campaign_end_us, gap.start_us):
            yield f"mask {before.id} before it ends there: `hotpix-registry certify {before.id}` extends it"
        else:
            yield "there are no darks of this epoch yet: take some, then `ingest` and `build`"

    def _parted(self, start_us: int, end_us: int) -> bool:
        """Whether an epoch begins between two instants."""
        return any(start_us < epoch_us <= end_us for epoch_us in self.epochs_us)


def _a(status: str) -> str:
    return "a candidate" if status == "candidate" else status


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _day(instant_us: int) -> str:
    return (iso(instant_us) or "")[:10]
