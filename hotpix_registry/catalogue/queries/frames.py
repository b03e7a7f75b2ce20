"""Statements about frames: files, readings, corrections."""

from __future__ import annotations

import heapq
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import schema as t
from hotpix_registry.catalogue.queries.common import (
    camera_name,
    chunks,
    close,
    holds,
    insert_id,
    insert_rows,
    is_open,
)
from hotpix_registry.domain import Facts, Frame
from hotpix_registry.errors import damaged_row

_HEADER_LEVEL = 3
"""of zlib: half the time of its default, and three percent more bytes"""


def known_files(connection: Connection, paths: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Path → (size_bytes, mtime_ns, frame_id) of those where a frame lies."""
    c = t.locations.c
    statement = sa.select(c.path, c.size_bytes, c.mtime_ns, c.frame_id).where(is_open(t.locations))
    return {
        path: (size, mtime, frame_id)
        for chunk in chunks(paths)
        for path, size, mtime, frame_id in connection.execute(statement.where(c.path.in_(chunk)))
    }


def passed_over_files(
    connection: Connection, rules_digest: str, paths: Sequence[str]
) -> dict[str, tuple[int, int, str]]:
    """Path → (size_bytes, mtime_ns, frame type) of those skipped under the same rules."""
    c = t.passed_over.c
    statement = sa.select(c.path, c.size_bytes, c.mtime_ns, c.frame_type).where(
        c.rules_digest == rules_digest, c.outcome == "skipped"
    )
    return {
        path: (size, mtime, frame_type)
        for chunk in chunks(paths)
        for path, size, mtime, frame_type in connection.execute(statement.where(c.path.in_(chunk)))
    }


def remember_passed_over(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep what was skipped or rejected; the newest verdict on a path stands."""
    forget_passed_over(connection, [row["path"] for row in rows])
    if rows:
        connection.execute(t.passed_over.insert(), list(rows))


def forget_passed_over(connection: Connection, paths: Sequence[str]) -> None:
    for chunk in chunks(paths):
        connection.execute(t.passed_over.delete().where(t.passed_over.c.path.in_(chunk)))


def passed_over(
    connection: Connection, outcome: str, *, after: str | None = None, limit: int | None = None
) -> list[sa.Row[Any]]:
    """What the last ingest of each file did not take in, by path; the next ones after a path."""
    c = t.passed_over.c
    statement = sa.select(c.path, c.frame_type, c.reason).where(c.outcome == outcome).order_by(c.path)
    if after is not None:
        statement = statement.where(c.path > after)
    return list(connection.execute(statement.limit(limit)))


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


class NewFrame(NamedTuple):
    """A frame that is not catalogued yet."""

    sha256: str
    size_bytes: int
    compression: str
    header: str


def add_frames(connection: Connection, new: Sequence[NewFrame], tx: int) -> dict[str, int]:
    """Catalogue frames in their order; sha256 → id."""
    if new:
        rows = [
            frame._asdict() | {"header": zlib.compress(frame.header.encode(), _HEADER_LEVEL)} for frame in new
        ]
        insert_rows(connection, t.frames, [row | {"created_tx": tx} for row in rows])
    return frame_ids(connection, [frame.sha256 for frame in new])


class Location(NamedTuple):
    """Where a frame lies, and how big and how old its file is there."""

    path: str
    frame_id: int
    size_bytes: int
    mtime_ns: int


def put_locations(connection: Connection, found: Sequence[Location], tx: int) -> dict[str, int]:
    """Record where frames lie; path → the frame that lay there before, where another did."""
    before = known_files(connection, [one.path for one in found])
    new = [one for one in found if before.get(one.path) != (one.size_bytes, one.mtime_ns, one.frame_id)]
    c = t.locations.c
    for chunk in chunks([one.path for one in new if one.path in before]):
        close(connection, t.locations, tx, c.path.in_(chunk))
    insert_rows(connection, t.locations, [one._asdict() | {"opened_tx": tx} for one in new])
    return {
        one.path: before[one.path][2]
        for one in new
        if one.path in before and before[one.path][2] != one.frame_id
    }


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


Exposure = tuple[int, str, int, float, tuple[int, int]]
"""camera id, kind, start_us, exptime_s, (ny, nx): what twins have in common"""


def exposures(
    connection: Connection, cameras: Sequence[int], starts_us: Sequence[int]
) -> defaultdict[Exposure, dict[str, int | None]]:
    """Exposure → sha256 → id of the frames, first-born first, that claim to be it and are twins of no other.

    Of some cameras and start times; what is not found is empty.
    """
    c = t.readings.c
    statement = (
        sa.select(c.camera_id, c.kind, c.start_us, c.exptime_s, c.ny, c.nx, t.frames.c.sha256, c.frame_id)
        .join(t.frames, t.frames.c.id == c.frame_id)
        .where(c.camera_id.in_(cameras), c.twin_of.is_(None), is_open(t.readings))
        .order_by(c.frame_id)
    )
    found: defaultdict[Exposure, dict[str, int | None]] = defaultdict(dict)
    for chunk in chunks(starts_us):
        for row in connection.execute(statement.where(c.start_us.in_(chunk))):
            exposure = (row.camera_id, row.kind, row.start_us, row.exptime_s, (row.ny, row.nx))
            found[exposure][row.sha256] = row.frame_id
    return found


def frames_started_at(connection: Connection, starts_us: Sequence[int]) -> dict[int, list[Frame]]:
    """Start time → the frames of any camera that began then."""
    c = t.readings.c
    # by way of the cameras, whose index leads to the start times
    every_camera = sa.select(t.cameras.c.id).scalar_subquery()
    statement = sa.select(c.frame_id).where(c.camera_id.in_(every_camera), is_open(t.readings))
    ids = [
        frame_id
        for chunk in chunks(starts_us)
        for frame_id in connection.execute(statement.where(c.start_us.in_(chunk))).scalars()
    ]
    found: defaultdict[int, list[Frame]] = defaultdict(list)
    for frame in frames(connection, ids=ids) if ids else ():
        found[frame.start_us].append(frame)
    return found


class Reading(NamedTuple):
    """What a frame's header means under its camera's profile."""

    camera_id: int
    series_id: int | None
    night: str
    facts: Facts
    twin_of: int | None

    @property
    def row(self) -> dict[str, Any]:
        facts = self.facts
        return {
            "camera_id": self.camera_id,
            "series_id": self.series_id,
            "kind": str(facts.kind),
            "exptime_s": facts.exptime_s or 0.0,
            "start_us": facts.start_us,
            "night": self.night,
            "ccd_temp_c": facts.ccd_temp_c,
            "ny": facts.shape[0],
            "nx": facts.shape[1],
            "n_combined": facts.n_combined,
            "facts": facts.as_dict(),
            "twin_of": self.twin_of,
        }


def add_readings(connection: Connection, readings: Mapping[int, Reading], tx: int) -> None:
    """Record by frame id what the headers of new frames mean."""
    rows = [one.row | {"frame_id": frame_id, "opened_tx": tx} for frame_id, one in readings.items()]
    insert_rows(connection, t.readings, rows)


def put_reading(connection: Connection, frame_id: int, reading: Reading, tx: int) -> bool:
    """Record what a frame's header means now; False when that is what was recorded already."""
    values, c = reading.row, t.readings.c
    before = connection.execute(
        sa.select(*(c[name] for name in values)).where(c.frame_id == frame_id, is_open(t.readings))
    ).first()
    if before is not None:
        if dict(before._mapping) == values:
            return False
        close(connection, t.readings, tx, c.frame_id == frame_id)
    add_readings(connection, {frame_id: reading}, tx)
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
    r = t.readings.c
    statement = _listed(nights, kind)
    if camera_id is not None:
        statement = statement.where(r.camera_id == camera_id)
    if ids is not None:
        rows = [
            row for chunk in chunks(ids) for row in connection.execute(statement.where(r.frame_id.in_(chunk)))
        ]
    else:
        rows = list(connection.execute(statement))
    return _assembled(connection, rows, every=camera_id is None and ids is None)


def frames_after(
    connection: Connection,
    after: tuple[int, int] | None,
    *,
    limit: int,
    camera_id: int | None = None,
    nights: tuple[str, str] | None = None,
    kind: str | None = None,
    exptimes_s: tuple[float, float] | None = None,
) -> list[Frame]:
    """The next catalogued frames in the order of time, after a (start_us, frame_id).

    Parameters
    ----------
    exptimes_s
        the shortest and the longest exposure time
    """
    r = t.readings.c
    statement = _listed(nights, kind).limit(limit)
    if after is not None:
        start_us, frame_id = after
        later = sa.or_(r.start_us > start_us, r.frame_id > frame_id)
        statement = statement.where(r.start_us >= start_us, later)
    if exptimes_s is not None:
        statement = statement.where(r.exptime_s.between(*exptimes_s))
    # camera by camera, since the index that knows the order of time begins with the camera
    cameras = (
        [camera_id] if camera_id is not None else connection.execute(sa.select(t.cameras.c.id)).scalars()
    )
    found = (connection.execute(statement.where(r.camera_id == one)).all() for one in list(cameras))
    merged = heapq.merge(*found, key=lambda row: (row.start_us, row.frame_id))
    return _assembled(connection, list(islice(merged, limit)))


def _listed(nights: tuple[str, str] | None, kind: str | None) -> sa.Select[Any]:
    r, f = t.readings.c, t.frames.c
    name = camera_name(r.camera_id)
    statement = (
        sa.select(r.frame_id, f.sha256, name, r.series_id, r.night, r.facts, r.twin_of, r.start_us)
        .join(t.frames, f.id == r.frame_id)
        .where(is_open(t.readings))
        .order_by(r.start_us, r.frame_id)
    )
    if nights is not None:
        statement = statement.where(r.night.between(*nights))
    if kind is not None:
        statement = statement.where(r.kind == kind)
    return statement


def _assembled(connection: Connection, rows: Sequence[Any], *, every: bool = False) -> list[Frame]:
    wanted = None if every else [row.frame_id for row in rows]
    places = _places(connection, wanted)
    excluded = _excluded(connection, wanted)
    return [
        Frame(
            frame_id=row.frame_id,
            sha256=row.sha256,
            paths=tuple(path for path, _, _ in places.get(row.frame_id, ())),
            camera=row.name,
            series_id=row.series_id,
            night=row.night,
            facts=Facts.from_dict(row.facts),
            twin_of=row.twin_of,
            excluded=excluded.get(row.frame_id),
            marks=tuple((size, mtime) for _, size, mtime in places.get(row.frame_id, ())),
        )
        for row in rows
    ]


def frames_by(
    connection: Connection, column: Literal["camera_id", "series_id"], camera_id: int | None = None
) -> dict[int, int]:
    """Camera, or series, → how many frames it has."""
    r = t.readings.c
    statement = sa.select(r[column], sa.func.count()).where(is_open(t.readings)).group_by(r[column])
    if camera_id is not None:
        statement = statement.where(r.camera_id == camera_id)
    return {row[0]: row[1] for row in connection.execute(statement)}


def _places(connection: Connection, ids: Sequence[int] | None) -> dict[int, list[tuple[str, int, int]]]:
    """Frame id → (path, size_bytes, mtime_ns) of its places."""
    c = t.locations.c
    statement = (
        sa.select(c.frame_id, c.path, c.size_bytes, c.mtime_ns).where(is_open(t.locations)).order_by(c.path)
    )
    rows = (
        connection.execute(statement)
        if ids is None
        else (
            row for chunk in chunks(ids) for row in connection.execute(statement.where(c.frame_id.in_(chunk)))
        )
    )
    places: defaultdict[int, list[tuple[str, int, int]]] = defaultdict(list)
    for frame_id, path, size_bytes, mtime_ns in rows:
        places[frame_id].append((path, size_bytes, mtime_ns))
    return places


def headers(connection: Connection, ids: Sequence[int]) -> dict[int, str]:
    """Frame id → the cards of its header, as they stood in the file.

    Raises
    ------
    IntegrityError
        A stored header is damaged.
    """
    c = t.frames.c
    return {
        row.id: _unpacked(row.id, row.header)
        for chunk in chunks(ids)
        for row in connection.execute(sa.select(c.id, c.header).where(c.id.in_(chunk)))
    }


def _unpacked(frame_id: int, header: bytes) -> str:
    try:
        return zlib.decompress(header).decode()
    except (zlib.error, UnicodeDecodeError):
        raise damaged_row(f"header of frame {frame_id}") from None


def overrides(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Frame id → field → value of the corrections in force."""
    c = t.overrides.c
    found: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for chunk in chunks(ids):
        statement = sa.select(c.frame_id, c.field, c.value).where(c.frame_id.in_(chunk), is_open(t.overrides))
        for row in connection.execute(statement.order_by(c.id)):
            found[row.frame_id][row.field] = row.value
    return found


class Move(NamedTuple):
    """A frame that an act has given to a camera."""

    camera: str
    """by the name that it had then"""
    tx: int
    at_us: int
    action: str


def any_frame_moved(connection: Connection, *, at: int | None = None) -> bool:
    """Whether an act has given any frame to a camera, as of a transaction."""
    moved = sa.exists().where(t.overrides.c.field == "camera", holds(t.overrides, at))
    return bool(connection.execute(sa.select(moved)).scalar())


def moved_inputs(
    connection: Connection, mask_ids: Sequence[int], *, at: int | None = None
) -> dict[int, list[Move]]:
    """Mask → those of its frames that an act has given to a camera, to its own too."""
    i, o, x = t.mask_inputs.c, t.overrides.c, t.transactions.c
    statement = (
        sa.select(i.mask_id, o.value, x.tx, x.at_us, x.action)
        .join_from(t.mask_inputs, t.overrides, o.frame_id == i.frame_id)
        .join(t.transactions, x.tx == o.opened_tx)
        .where(o.field == "camera", holds(t.overrides, at))
        .order_by(x.tx, i.frame_id)
    )
    found: defaultdict[int, list[Move]] = defaultdict(list)
    for chunk in chunks(mask_ids):
        for mask_id, *move in connection.execute(statement.where(i.mask_id.in_(chunk))):
            found[mask_id].append(Move(*move))
    return found


def _excluded(connection: Connection, ids: Sequence[int] | None) -> dict[int, str]:
    c = t.overrides.c
    statement = sa.select(c.frame_id, c.reason).where(c.field == "excluded", is_open(t.overrides))
    parts = (None,) if ids is None else chunks(ids)
    return {
        row.frame_id: row.reason
        for part in parts
        for row in connection.execute(statement if part is None else statement.where(c.frame_id.in_(part)))
    }


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
