"""Mask versions in the registry: storing what was built, giving it its dates, telling about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any

from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.queries import CameraRow, Event, MaskRow
from hotpix_registry.domain import Frame, Rule
from hotpix_registry.errors import UnknownId
from hotpix_registry.instants import Night, Validity, iso
from hotpix_registry.planning import Campaign
from hotpix_registry.registry.frames import find_camera


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskChange:
    """An interval of dates that another mask answers than before."""

    valid_from: str
    valid_to: str | None
    before: int | None
    after: int | None

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What one campaign's build left in the registry."""

    mask_id: int
    version: int
    series: str
    status: str
    """certified, candidate or superseded"""
    new: bool
    """False: this very build had been made before"""
    sha256: str
    nights: tuple[str, str]
    exposures_s: tuple[float, ...]
    flagged: int
    pixels: int
    counts: dict[str, int]
    limit_e_per_s: float | None
    limit_reason: str
    bias_method: str
    changes: tuple[MaskChange, ...] = ()
    failed_gates: tuple[str, ...] = ()
    """why it is a candidate only: what was found, and what was wanted"""
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a build would do: campaigns with their frames, and the frames that fit nowhere."""

    campaigns: tuple[Campaign, ...]
    strays: tuple[tuple[Frame, str], ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "campaigns": [campaign.as_dict() for campaign in self.campaigns],
            "strays": [{"frame_id": f.frame_id, "path": f.name, "reason": r} for f, r in self.strays],
        }


def failed_gates(report: Mapping[str, Any]) -> tuple[str, ...]:
    """What each failed gate of a stored report found, and what it wanted."""
    return tuple(
        f"{g['name']}: {g['found']}, wanted {g['wanted']}" for g in report["gates"] if not g["passed"]
    )


def find_mask(connection: Connection, mask_id: int) -> MaskRow:
    """A mask version by its id.

    Raises
    ------
    UnknownId
    """
    found = queries.mask(connection, mask_id) if 0 < mask_id < 2**63 else None
    if found is None:
        raise UnknownId(f"There is no mask {mask_id}.", next_step="`hotpix-registry masks` lists them.")
    return found


def campaign_validity(first_night: str, last_night: str, camera: CameraRow) -> Validity:
    """From the start of a campaign's first night to the end of its last, at the camera's place."""
    longitude = camera.profile.longitude_deg_east
    first = Night(date.fromisoformat(first_night), longitude).validity
    last = Night(date.fromisoformat(last_night), longitude).validity
    return Validity(first.start_us, last.end_us)


def epochs_us(events: Iterable[Event], camera: CameraRow) -> tuple[int, ...]:
    """Where the epochs of a camera begin: at its epoch events, and where its detector gets other numbers."""
    return tuple(sorted({*(event.at_us for event in events), *camera.profile.changes_us}))


def sources_of(connection: Connection, mask: MaskRow) -> list[MaskRow]:
    """The mask that another one was edited from, or those whose pixels it follows, oldest first."""
    if mask.rule not in (Rule.EDIT, Rule.PERSIST):
        return []
    made_from = queries.mask_details(connection, mask.id)["report"].get("masks", ())
    rows = queries.masks(connection, series_id=mask.series_id)
    by_sha256 = {row.sha256: row for row in rows if row.id < mask.id}
    return [by_sha256[one["sha256"]] for one in made_from if one["sha256"] in by_sha256]


def need_rebuild(
    connection: Connection, masks: Sequence[MaskRow], events_us: Sequence[int]
) -> dict[int, int]:
    """Masks with darks of two epochs → where the later one begins.

    The darks of a mask that was made from masks are theirs.
    """
    if not events_us:
        return {}
    return {
        mask_id: event_us
        for mask_id, (first_us, last_us) in _spans(connection, masks).items()
        for event_us in events_us
        if first_us < event_us <= last_us
    }


def _spans(connection: Connection, masks: Sequence[MaskRow]) -> dict[int, tuple[int, int]]:
    """Mask → start of the first and of the last dark that went into it; none for one without darks."""
    spans = queries.inputs_span(connection, [mask.id for mask in masks])
    for mask in masks:
        if mask.id not in spans and (sources := sources_of(connection, mask)):
            of_sources = _spans(connection, sources).values()
            if of_sources:
                spans[mask.id] = min(first for first, _ in of_sources), max(last for _, last in of_sources)
    return spans


def moved_away(connection: Connection, masks: Sequence[MaskRow], *, at: int | None = None) -> dict[int, str]:
    """Masks whose frames belong to another camera since they were made → which, and by which act.

    The frames of a mask that was made from masks are theirs.
    """
    if not queries.any_frame_moved(connection, at=at):
        return {}
    cameras, series = queries.cameras(connection, at=at), queries.series(connection)
    found: dict[int, str] = {}
    for mask in masks:
        own = find_camera(cameras, series[mask.series_id].camera)
        made_of = _made_of(connection, mask)
        moves = [m for some in queries.moved_inputs(connection, made_of, at=at).values() for m in some]
        away = [m for m in moves if find_camera(cameras, m.camera) != own]
        if own is None or not away:
            continue
        last, total = away[-1], sum(len(queries.mask_inputs(connection, mask_id)) for mask_id in made_of)
        found[mask.id] = (
            f"{len(away)} of {total} frames belong to camera {last.camera} since transaction {last.tx} "
            f"({last.action}, {iso(last.at_us)})"
        )
    return found


def _made_of(connection: Connection, mask: MaskRow) -> list[int]:
    """The masks of darks that a mask goes back to; itself where it was made of darks."""
    sources = sources_of(connection, mask)
    return [n for source in sources for n in _made_of(connection, source)] if sources else [mask.id]


def reasons_to_rebuild(
    connection: Connection, masks: Sequence[MaskRow], events_us: Sequence[int], *, at: int | None = None
) -> dict[int, str]:
    """Masks of a camera that no build would make of these frames now → why, and what to do, in sentences."""
    reasons = {
        mask_id: f"Darks on both sides of {iso(event_us)}, where an epoch begins, went in; build it anew."
        for mask_id, event_us in need_rebuild(connection, masks, events_us).items()
    }
    for mask_id, moved in moved_away(connection, masks, at=at).items():
        cure = (
            "build both cameras anew; where no build takes the place of this mask, "
            f"`hotpix-registry decertify {mask_id} --restore-previous --reason …` takes its dates."
        )
        reasons[mask_id] = " ".join(filter(None, (reasons.get(mask_id), f"{moved}: {cure}")))
    return reasons


# --- telling --------------------------------------------------------------------------


def statuses(connection: Connection, rows: Sequence[MaskRow], *, at: int | None = None) -> dict[int, str]:
    """Mask → what it is now, or was at a transaction.

    revoked: declared unusable; certified: holds dates; superseded or decertified: held some, and lost
    the last of them that way; candidate: never held any.
    """
    return _statuses(
        connection, rows, queries.intervals_of(connection, [row.id for row in rows], at=at), at=at
    )


def _statuses(
    connection: Connection, rows: Sequence[MaskRow], holding: Collection[int], *, at: int | None
) -> dict[int, str]:
    ids = [row.id for row in rows]
    revoked = queries.revocations(connection, ids, at=at)
    idle = [mask_id for mask_id in ids if mask_id not in revoked and mask_id not in holding]
    lost = queries.withdrawals(connection, idle, at=at)

    def status(mask_id: int) -> str:
        if mask_id in revoked:
            return "revoked"
        if mask_id in holding:
            return "certified"
        if mask_id in lost:
            return "decertified" if lost[mask_id] == "decertify" else "superseded"
        return "candidate"

    return {row.id: status(row.id) for row in rows}


def summaries(
    connection: Connection, rows: Sequence[MaskRow], *, at: int | None = None
) -> list[dict[str, Any]]:
    """Mask versions as `masks` lists them."""
    series = queries.series(connection)
    instants = queries.event_instants(connection, at=at)
    for camera in queries.cameras(connection, at=at):
        for series_id in queries.series(connection, camera.camera_id) if camera.profile.changes_us else ():
            instants[series_id] = [*instants.get(series_id, ()), *camera.profile.changes_us]
    reasons: dict[int, str] = {}
    for series_id in {row.series_id for row in rows}:
        own = [row for row in rows if row.series_id == series_id]
        reasons |= reasons_to_rebuild(connection, own, instants.get(series_id, ()), at=at)
    held = queries.intervals_of(connection, [row.id for row in rows], at=at)
    status = _statuses(connection, rows, held, at=at)
    instant = cache(iso)  # masks succeed each other: one's end is the next one's beginning
    return [
        {
            "mask_id": row.id,
            "version": row.version,
            "camera": series[row.series_id].camera,
            "series": str(series[row.series_id]),
            "set_point_c": series[row.series_id].set_point_c,
            "status": status[row.id],
            "needs_rebuild": row.id in reasons,
            "rebuild_reason": reasons.get(row.id),
            "valid": [{"from": instant(a), "to": instant(b)} for a, b in held.get(row.id, ())],
            "first_night": row.first_night,
            "last_night": row.last_night,
            "exposures_tested_s": None if row.shortest_s is None else [row.shortest_s, row.longest_s],
            "rule": row.rule,
            "limit_e_per_s": row.limit_e_per_s,
            "flagged": row.flagged,
            "pixels": row.nx * row.ny,
            "shape": [row.ny, row.nx],
            "counts": row.counts,
            "sha256": row.sha256,
            "build_key": row.build_key,
            "algorithm_version": row.algorithm_version,
        }
        for row in rows
    ]


def details(connection: Connection, mask_id: int) -> dict[str, Any]:
    """Everything known about one mask version: recipe, inputs, report, software, who and when."""
    row = find_mask(connection, mask_id)
    (told,) = summaries(connection, [row])
    more = queries.mask_details(connection, mask_id)
    roles = queries.mask_inputs(connection, mask_id)
    frames = {f.frame_id: f for f in queries.frames(connection, ids=[i for i, _ in roles])}
    inputs = [
        {
            "frame_id": frame_id,
            "role": role,
            "sha256": frames[frame_id].sha256,
            "kind": str(frames[frame_id].kind),
            "exptime_s": frames[frame_id].exptime_s,
            "ccd_temp_c": frames[frame_id].facts.ccd_temp_c,
            "start": iso(frames[frame_id].start_us),
            "path": frames[frame_id].name,
        }
        for frame_id, role in roles
    ]
    built = iso(more.pop("at_us"))
    revoked = queries.revocations(connection, [mask_id]).get(mask_id)
    revocation = revoked and {"at": iso(revoked.at_us), "actor": revoked.actor, "reason": revoked.reason}
    return (
        told
        | {"warnings": row.warnings, "built": built, "revocation": revocation}
        | more
        | {"inputs": inputs}
    )
