"""Statements about frames: files, readings, corrections."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import schema as t
from hotpix_registry.catalogue.queries.common import camera_name, chunks, close, insert_id, is_open
from hotpix_registry.domain import Facts, Frame


def known_files(connection: Connection) -> dict[str, tuple[int, int, int]]:
    """Current path → (size_bytes, mtime_ns, frame_id)."""
    c = t.locations.c
    rows = connection.execute(
        sa.select(c.path, c.size_bytes, c.mtime_ns, c.frame_id).where(is_open(t.locations))
    )
    return {path: (size, mtime, frame_id) for path, size, mtime, frame_id in rows}


def passed_over_files(connection: Connection, rules_digest: str) -> dict[str, tuple[int, int, str]]:
    """Path → (size_bytes, mtime_ns, frame type) of files skipped under the same rules."""
    c = t.passed_over.c
    rows = connection.execute(
        sa.select(c.path, c.size_bytes, c.mtime_ns, c.frame_type).where(
            c.rules_digest == rules_digest, c.outcome == "skipped"
        )
    )
    return {path: (size, mtime, frame_type) for path, size, mtime, frame_type in rows}


def remember_passed_over(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep what was skipped or rejected; the newest verdict on a path stands."""
    forget_passed_over(connection, [row["path"] for row in rows])
    if rows:
        connection.execute(t.passed_over.insert(), list(rows))


def forget_passed_over(connection: Connection, paths: Sequence[str]) -> None:
    for chunk in chunks(paths):
        connection.execute(t.passed_over.delete().where(t.passed_over.c.path.in_(chunk)))


def passed_over(connection: Connection, outcome: str) -> list[sa.Row[Any]]:
    c = t.passed_over.c
    statement = sa.select(c.path, c.frame_type, c.reason).where(c.outcome == outcome).order_by(c.path)
    return list(connection.execute(statement))


def frame_ids(connection: Connection, digests: Sequence[str]) -> dict[str, int]:
    """sha256 → frame id of those that are catalogued."""
    c = t.frames.c
    found: dict[str, int] = {}
    for chunk in chunks(digests):
        found |= {
            row.sha256: row.id
            for row in connection.execute(sa.select(c.sha256, c.id).where(c.sha256.in_(chunk)))
        }
    return found


def add_frame(
    connection: Connection, *, sha256: str, size_bytes: int, compression: str, header: str, tx: int
) -> int:
    return insert_id(
        connection,
        t.frames,
        sha256=sha256,
        size_bytes=size_bytes,
        compression=compression,
        header=zlib.compress(header.encode()),
        created_tx=tx,
    )


def put_location(
    connection: Connection, frame_id: int, path: str, *, size_bytes: int, mtime_ns: int, tx: int
) -> int | None:
    """Record where a frame lies; returns the frame that lay there before, if another did."""
    c = t.locations.c
    before = connection.execute(
        sa.select(c.frame_id, c.size_bytes, c.mtime_ns).where(c.path == path, is_open(t.locations))
    ).first()
    if before is not None:
        if tuple(before) == (frame_id, size_bytes, mtime_ns):
            return None
        close(connection, t.locations, tx, c.path == path)
    insert_id(
        connection,
        t.locations,
        frame_id=frame_id,
        path=path,
        size_bytes=size_bytes,
        mtime_ns=mtime_ns,
        opened_tx=tx,
    )
    return before.frame_id if before is not None and before.frame_id != frame_id else None


class Place(NamedTuple):
    """Where a frame is said to lie, and what should be there."""

    location_id: int
    frame_id: int
    path: str
    size_bytes: int
    mtime_ns: int
    sha256: str


def places(connection: Connection) -> list[Place]:
    """Every current place of every frame, in the order of frames."""
    c, f = t.locations.c, t.frames.c
    statement = (
        sa.select(c.id, c.frame_id, c.path, f.size_bytes, c.mtime_ns, f.sha256)
        .join(t.frames, f.id == c.frame_id)
        .where(is_open(t.locations))
        .order_by(c.frame_id, c.path)
    )
    return [Place(*row) for row in connection.execute(statement)]


def close_locations(connection: Connection, ids: Sequence[int], tx: int) -> None:
    for chunk in chunks(ids):
        close(connection, t.locations, tx, t.locations.c.id.in_(chunk))


def same_exposures(
    connection: Connection, camera_id: int, kind: str, start_us: int, exptime_s: float, shape: tuple[int, int]
) -> list[int]:
    """Frames, first-born first, that claim to be the same exposure and are twins of no other."""
    c = t.readings.c
    statement = (
        sa.select(c.frame_id, c.exptime_s)
        .where(
            c.camera_id == camera_id,
            c.start_us == start_us,
            c.kind == kind,
            c.ny == shape[0],
            c.nx == shape[1],
            c.twin_of.is_(None),
            is_open(t.readings),
        )
        .order_by(c.frame_id)
    )
    return [row.frame_id for row in connection.execute(statement) if row.exptime_s == exptime_s]


def frames_started_at(connection: Connection, start_us: int, sha256: str) -> list[Frame]:
    """Frames of a start time, save those of one digest."""
    c = t.readings.c
    statement = sa.select(c.frame_id).where(c.start_us == start_us, is_open(t.readings))
    ids = list(connection.execute(statement).scalars())
    return [frame for frame in frames(connection, ids=ids) if frame.sha256 != sha256]


def put_reading(
    connection: Connection,
    frame_id: int,
    *,
    camera_id: int,
    series: int | None,
    night: str,
    facts: Facts,
    twin_of: int | None,
    tx: int,
) -> bool:
    """Record what a frame's header means now; False when that is what was recorded already."""
    values = {
        "camera_id": camera_id,
        "series_id": series,
        "kind": str(facts.kind),
        "exptime_s": facts.exptime_s or 0.0,
        "start_us": facts.start_us,
        "night": night,
        "ccd_temp_c": facts.ccd_temp_c,
        "ny": facts.shape[0],
        "nx": facts.shape[1],
        "n_combined": facts.n_combined,
        "facts": facts.as_dict(),
        "twin_of": twin_of,
    }
    c = t.readings.c
    before = connection.execute(
        sa.select(*(c[name] for name in values)).where(c.frame_id == frame_id, is_open(t.readings))
    ).first()
    if before is not None:
        if dict(before._mapping) == values:
            return False
        close(connection, t.readings, tx, c.frame_id == frame_id)
    insert_id(connection, t.readings, frame_id=frame_id, opened_tx=tx, **values)
    return True


def frames(
    connection: Connection,
    *,
    camera_id: int | None = None,
    ids: Sequence[int] | None = None,
    nights: tuple[str, str] | None = None,
    kind: str | None = None,
) -> list[Frame]:
    """Catalogued frames in the order of time, as they are understood now."""
    r, f = t.readings.c, t.frames.c
    name = camera_name(r.camera_id)
    statement = (
        sa.select(r.frame_id, f.sha256, name, r.series_id, r.night, r.facts, r.twin_of)
        .join(t.frames, f.id == r.frame_id)
        .where(is_open(t.readings))
        .order_by(r.start_us, r.frame_id)
    )
    if camera_id is not None:
        statement = statement.where(r.camera_id == camera_id)
    if nights is not None:
        statement = statement.where(r.night.between(*nights))
    if kind is not None:
        statement = statement.where(r.kind == kind)
    if ids is not None:
        rows = [
            row for chunk in chunks(ids) for row in connection.execute(statement.where(r.frame_id.in_(chunk)))
        ]
    else:
        rows = list(connection.execute(statement))
    wanted = None if camera_id is None and ids is None else [row.frame_id for row in rows]
    paths = _paths(connection, wanted)
    excluded = _excluded(connection)
    return [
        Frame(
            frame_id=row.frame_id,
            sha256=row.sha256,
            paths=tuple(paths.get(row.frame_id, ())),
            camera=row.name,
            series_id=row.series_id,
            night=row.night,
            facts=Facts.from_dict(row.facts),
            twin_of=row.twin_of,
            excluded=excluded.get(row.frame_id),
        )
        for row in rows
    ]


def _paths(connection: Connection, ids: Sequence[int] | None) -> dict[int, list[str]]:
    c = t.locations.c
    statement = sa.select(c.frame_id, c.path).where(is_open(t.locations)).order_by(c.path)
    rows = (
        connection.execute(statement)
        if ids is None
        else (
            row for chunk in chunks(ids) for row in connection.execute(statement.where(c.frame_id.in_(chunk)))
        )
    )
    paths: defaultdict[int, list[str]] = defaultdict(list)
    for row in rows:
        paths[row.frame_id].append(row.path)
    return paths


def headers(connection: Connection, ids: Sequence[int]) -> dict[int, str]:
    """Frame id → the cards of its header, as they stood in the file."""
    c = t.frames.c
    return {
        row.id: zlib.decompress(row.header).decode()
        for chunk in chunks(ids)
        for row in connection.execute(sa.select(c.id, c.header).where(c.id.in_(chunk)))
    }


def overrides(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Frame id → field → value of the corrections in force."""
    c = t.overrides.c
    found: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for chunk in chunks(ids):
        statement = sa.select(c.frame_id, c.field, c.value).where(c.frame_id.in_(chunk), is_open(t.overrides))
        for row in connection.execute(statement.order_by(c.id)):
            found[row.frame_id][row.field] = row.value
    return found


def _excluded(connection: Connection) -> dict[int, str]:
    c = t.overrides.c
    statement = sa.select(c.frame_id, c.reason).where(c.field == "excluded", is_open(t.overrides))
    return {row.frame_id: row.reason for row in connection.execute(statement)}


def put_override(
    connection: Connection, frame_id: int, field: str, value: Any, *, reason: str, tx: int
) -> None:
    lift_override(connection, frame_id, field, tx=tx)
    insert_id(
        connection, t.overrides, frame_id=frame_id, field=field, value=value, reason=reason, opened_tx=tx
    )


def lift_override(connection: Connection, frame_id: int, field: str, *, tx: int) -> None:
    c = t.overrides.c
    close(connection, t.overrides, tx, c.frame_id == frame_id, c.field == field)
