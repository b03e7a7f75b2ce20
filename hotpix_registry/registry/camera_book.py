"""What operators do to cameras and to single frames: profiles, names, merging, splitting, corrections."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from hotpix_registry.cameras import (
    CameraProfile,
    check_camera_name,
    load_camera_profile,
    load_profile_file,
)
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.queries import CameraRow
from hotpix_registry.domain import Facts
from hotpix_registry.errors import UnknownId, UsageError
from hotpix_registry.fits import headers, keywords
from hotpix_registry.places import resolved
from hotpix_registry.registry import events
from hotpix_registry.registry.frames import (
    corrected,
    find_camera,
    find_twin,
    may_be_several,
    reading_of,
)
from hotpix_registry.registry.ingest import current_rules, reasons_to_reject
from hotpix_registry.registry.masks import MaskChange


def frame_ids(connection: Connection, given: Sequence[str]) -> list[int]:
    """Frames by id, by path, or by the beginning of their digest (8 characters or more)."""
    frames = queries.frames(connection)
    by_id = {str(f.frame_id): f.frame_id for f in frames}
    by_path = {path: f.frame_id for f in frames for path in f.paths}
    ids: list[int] = []
    for text in given:
        found = by_id.get(text) or by_path.get(resolved(text))
        if found is None and len(text) >= 8:
            matches = [f.frame_id for f in frames if f.sha256.startswith(text.lower())]
            found = matches[0] if len(matches) == 1 else None
        if found is None:
            raise UnknownId(
                f"There is no catalogued frame {text}.",
                next_step="Give an id, a path or a digest as `hotpix-registry frames` lists them.",
            )
        ids.append(found)
    return ids


def reinterpret(
    connection: Connection,
    ids: Sequence[int],
    tx: int,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Read stored headers anew under current profiles and corrections; returns how many frames changed."""
    rules = current_rules(connection)
    cameras = queries.cameras(connection)
    corrections = queries.overrides(connection, ids)
    changed = 0
    for start in range(0, len(ids), 500):
        chunk = ids[start : start + 500]
        texts = queries.headers(connection, chunk)
        for number, frame in enumerate(queries.frames(connection, ids=chunk)):
            if progress is not None:
                progress(start + number, len(ids))
            mine = corrections.get(frame.frame_id, {})
            facts = corrected(rules.interpret(headers.parse_header_text(texts[frame.frame_id])), mine)
            if facts.kind is None or reasons_to_reject(facts):
                # what the profile can no longer read keeps its last good reading
                facts = corrected(frame.facts, mine)
            camera = find_camera(cameras, mine.get("camera", frame.camera))
            assert camera is not None
            twin_of = frame.twin_of
            if (camera.name, _exposure(facts)) != (frame.camera, _exposure(frame.facts)):
                # only an ingest compares pixels
                twin_of = None if may_be_several(facts) else find_twin(connection, camera.camera_id, facts)
            reading = reading_of(connection, camera, facts, twin_of=twin_of, tx=tx)
            changed += queries.put_reading(connection, frame.frame_id, reading, tx)
    return changed


def _exposure(facts: Facts) -> tuple[Any, ...]:
    return facts.kind, facts.start_us, facts.exptime_s


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AppliedProfile:
    """What loading a profile did."""

    told: str
    """in a sentence"""
    changes: tuple[MaskChange, ...] = ()
    """dates that now answer otherwise, since a dated section ends an epoch"""
    needs_rebuild: tuple[int, ...] = ()
    """masks with darks on both sides of it"""


def apply_profile(
    connection: Connection, path: Path, tx: int, *, now_us: int, trim: bool = False
) -> AppliedProfile:
    """Load a profile from TOML into the registry.

    Raises
    ------
    Conflict
        Masks hold dates across a night from which on a new dated section is in force, and `trim` does
        not say that they may lose them; for a night still to come that is ordinary.
    """
    kind, text = load_profile_file(path)
    if kind == "keywords":
        profile = keywords.load_keyword_profile(text)
        queries.put_keyword_profile(connection, profile.name, profile.digest, text, tx)
        return AppliedProfile(
            told=f"Keyword profile {profile.name} is in force; "
            "`hotpix-registry ingest --reread` applies it to the frames that are catalogued."
        )
    camera = load_camera_profile(text, origin=str(path))
    row = find_camera(queries.cameras(connection), camera.name)
    if row is None:
        queries.add_camera(connection, camera, tx)
        return AppliedProfile(told=f"Camera {camera.name} is registered.")
    if row.profile.digest == camera.digest:
        return AppliedProfile(told=f"Camera {row.name} has this profile already.")
    changed = dataclasses.replace(camera, name=row.name)
    put_profile(connection, row, changed, tx)
    told = f"The profile of camera {row.name} is changed; later builds use it."
    begun_us = sorted(set(changed.changes_us) - set(row.profile.changes_us))
    if not begun_us:
        return AppliedProfile(told=told)
    changes, torn = events.end_epochs(
        connection,
        row._replace(profile=changed),
        begun_us,
        tx,
        what=f"The change of the detector in the night of {changed.night_of(begun_us[0])}",
        trim=trim or begun_us[0] >= now_us,
    )
    return AppliedProfile(told=told, changes=changes, needs_rebuild=torn)


def put_profile(connection: Connection, row: CameraRow, profile: CameraProfile, tx: int) -> None:
    """Make a profile the camera's, and let its frames mean what they mean under it."""
    queries.put_camera_profile(connection, row.camera_id, profile, tx)
    frames = queries.frames(connection, camera_id=row.camera_id)
    reinterpret(connection, [frame.frame_id for frame in frames], tx)


def confirm(connection: Connection, row: CameraRow, tx: int) -> None:
    queries.put_camera_profile(
        connection, row.camera_id, dataclasses.replace(row.profile, provisional=False), tx
    )


def rename(connection: Connection, row: CameraRow, new_name: str, tx: int) -> None:
    if new_name in row.aliases:
        queries.close_camera_names(connection, [new_name], tx)
    else:
        _check_free(connection, new_name)
    queries.close_camera_names(connection, [row.name], tx)
    queries.add_camera_name(connection, row.camera_id, new_name, tx, is_alias=False)
    queries.add_camera_name(connection, row.camera_id, row.name, tx, is_alias=True)
    queries.put_camera_profile(connection, row.camera_id, dataclasses.replace(row.profile, name=new_name), tx)


def alias(connection: Connection, row: CameraRow, new_name: str, tx: int) -> None:
    _check_free(connection, new_name)
    queries.add_camera_name(connection, row.camera_id, new_name, tx, is_alias=True)


def _check_free(connection: Connection, name: str) -> None:
    check_camera_name(name)
    holder = find_camera(queries.cameras(connection), name)
    if holder is not None:
        raise UsageError(f"The name {name} belongs to camera {holder.name}.", next_step="Choose another.")


def merge(connection: Connection, row: CameraRow, into: CameraRow, tx: int) -> int:
    """Give a camera's frames and names to another; its masks stay as they are, under its old series."""
    if row.camera_id == into.camera_id:
        raise UsageError(f"{row.name} and {into.name} are one camera already.", next_step="Name two.")
    frames = queries.frames(connection, camera_id=row.camera_id)
    queries.close_camera_names(connection, [row.name, *row.aliases], tx)
    queries.close_camera_profile(connection, row.camera_id, tx)
    for name in (row.name, *row.aliases):
        queries.add_camera_name(connection, into.camera_id, name, tx, is_alias=True)
    joined = dataclasses.replace(
        into.profile,
        serials=tuple(dict.fromkeys((*into.profile.serials, *row.profile.serials))),
        instruments=tuple(dict.fromkeys((*into.profile.instruments, *row.profile.instruments))),
    )
    queries.put_camera_profile(connection, into.camera_id, joined, tx)
    _move(connection, [f.frame_id for f in frames], into.name, f"camera {row.name} is {into.name}", tx)
    return len(frames)


def split(connection: Connection, row: CameraRow, new_name: str, nights: tuple[str, str], tx: int) -> int:
    """Move the frames of some nights to another camera, which is made when it is new."""
    target = find_camera(queries.cameras(connection), new_name)
    if target is None:
        _check_free(connection, new_name)
        blank = dataclasses.replace(row.profile, name=new_name, provisional=True, serials=(), instruments=())
        target = queries.add_camera(connection, blank, tx)
    if target.camera_id == row.camera_id:
        raise UsageError(f"{new_name} is camera {row.name} itself.", next_step="Give the new camera a name.")
    frames = queries.frames(connection, camera_id=row.camera_id, nights=nights)
    if not frames:
        raise UsageError(
            f"Camera {row.name} has no frames in the nights {nights[0]} to {nights[1]}.",
            next_step=f"See `hotpix-registry frames --camera {row.name}`.",
        )
    _move(connection, [f.frame_id for f in frames], target.name, f"split from {row.name}", tx)
    return len(frames)


def _move(connection: Connection, ids: Sequence[int], camera: str, reason: str, tx: int) -> None:
    for frame_id in ids:
        queries.put_override(connection, frame_id, "camera", camera, reason=reason, tx=tx)
    reinterpret(connection, ids, tx)
