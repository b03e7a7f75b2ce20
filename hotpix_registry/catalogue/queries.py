"""Every SQL statement: a connection first, domain values out, nothing committed here."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotpix_registry.cameras import CameraProfile
from hotpix_registry.catalogue import schema as t
from hotpix_registry.domain import Configuration, Defect, Facts, Frame, Series, Validity

_CHUNK = 500
"""Bind parameters per statement: SQLite once allowed 999."""


# --- registry and transactions ----------------------------------------------------


def registry_id(connection: Connection) -> str:
    return str(connection.execute(sa.select(t.registries.c.registry_id)).scalar_one())


def last_tx(connection: Connection) -> int:
    """The newest transaction's number; 0 when nothing has been written."""
    return int(
        connection.execute(sa.select(sa.func.coalesce(sa.func.max(t.transactions.c.tx), 0))).scalar_one()
    )


class Act(NamedTuple):
    """Who does something, where, with which software."""

    actor: str
    host: str
    software: str


def open_transaction(
    connection: Connection, act: Act, action: str, *, now_us: int, reason: str | None = None
) -> int:
    """Record a transaction and return its number; its time never lies before the last one's."""
    last = connection.execute(
        sa.select(t.transactions.c.tx, t.transactions.c.at_us).order_by(t.transactions.c.tx.desc()).limit(1)
    ).first()
    tx, at_us = (last.tx + 1, max(now_us, last.at_us)) if last else (1, now_us)
    connection.execute(
        t.transactions.insert().values(tx=tx, at_us=at_us, action=action, reason=reason, **act._asdict())
    )
    return tx


def _open(table: sa.Table) -> sa.ColumnElement[bool]:
    return table.c.closed_tx.is_(None)


def _close(connection: Connection, table: sa.Table, tx: int, *where: sa.ColumnElement[bool]) -> None:
    connection.execute(table.update().where(_open(table), *where).values(closed_tx=tx))


# --- cameras ------------------------------------------------------------------------


class CameraRow(NamedTuple):
    camera_id: int
    name: str
    aliases: tuple[str, ...]
    profile: CameraProfile
    profile_id: int


def cameras(connection: Connection) -> list[CameraRow]:
    """Registered cameras by name, each with its current profile."""
    names: defaultdict[int, list[str]] = defaultdict(list)
    aliases: defaultdict[int, list[str]] = defaultdict(list)
    n = t.camera_names.c
    for row in connection.execute(
        sa.select(n.camera_id, n.name, n.is_alias).where(_open(t.camera_names)).order_by(n.name)
    ):
        (aliases if row.is_alias else names)[row.camera_id].append(row.name)
    p = t.profiles.c
    rows = connection.execute(
        sa.select(p.camera_id, p.id, p.body).where(p.kind == "camera", _open(t.profiles))
    ).all()
    found = [
        CameraRow(
            row.camera_id,
            names[row.camera_id][0],
            tuple(aliases[row.camera_id]),
            CameraProfile.from_dict(row.body),
            row.id,
        )
        for row in rows
        if names[row.camera_id]
    ]
    return sorted(found, key=lambda camera: camera.name)


def _camera_name(camera_id: sa.ColumnElement[Any]) -> sa.Label[str]:
    """A camera's name; that of one merged into another is the last it had."""
    n = t.camera_names.c
    newest = sa.select(n.name).where(n.camera_id == camera_id, n.is_alias.is_(sa.false()))
    return newest.order_by(n.opened_tx.desc()).limit(1).scalar_subquery().label("name")


def add_camera(connection: Connection, profile: CameraProfile, tx: int) -> CameraRow:
    camera_id = _insert_id(connection, t.cameras, created_tx=tx)
    add_camera_name(connection, camera_id, profile.name, tx, is_alias=False)
    profile_id = put_camera_profile(connection, camera_id, profile, tx)
    return CameraRow(camera_id, profile.name, (), profile, profile_id)


def add_camera_name(connection: Connection, camera_id: int, name: str, tx: int, *, is_alias: bool) -> None:
    connection.execute(
        t.camera_names.insert().values(camera_id=camera_id, name=name, is_alias=is_alias, opened_tx=tx)
    )


def close_camera_names(connection: Connection, names: Sequence[str], tx: int) -> None:
    _close(connection, t.camera_names, tx, t.camera_names.c.name.in_(names))


def put_camera_profile(connection: Connection, camera_id: int, profile: CameraProfile, tx: int) -> int:
    """Make a profile the current one of its camera and return its row's id; the same is kept."""
    p = t.profiles.c
    mine = sa.and_(p.camera_id == camera_id, p.kind == "camera")
    current = connection.execute(sa.select(p.id, p.digest).where(mine, _open(t.profiles))).first()
    if current is not None and current.digest == profile.digest:
        return int(current.id)
    _close(connection, t.profiles, tx, mine)
    return _insert_id(
        connection,
        t.profiles,
        kind="camera",
        name=profile.name,
        camera_id=camera_id,
        digest=profile.digest,
        body=profile.as_dict(),
        opened_tx=tx,
    )


def close_camera_profile(connection: Connection, camera_id: int, tx: int) -> None:
    _close(connection, t.profiles, tx, t.profiles.c.camera_id == camera_id)


def keyword_profile_texts(connection: Connection) -> list[str]:
    """The users' own keyword profiles, as the TOML they wrote."""
    p = t.profiles.c
    statement = sa.select(p.body).where(p.kind == "keywords", _open(t.profiles)).order_by(p.name)
    return [body["toml"] for body in connection.execute(statement).scalars()]


def put_keyword_profile(connection: Connection, name: str, digest: str, toml: str, tx: int) -> None:
    p = t.profiles.c
    _close(connection, t.profiles, tx, p.kind == "keywords", p.name == name)
    connection.execute(
        t.profiles.insert().values(
            kind="keywords", name=name, digest=digest, body={"toml": toml}, opened_tx=tx
        )
    )


def defects(connection: Connection, camera_id: int) -> list[Defect]:
    """A camera's static list as it stands."""
    c = t.defects.c
    columns = (c.x0, c.y0, c.width, c.height, c.reason, c.first_night, c.last_night)
    statement = sa.select(*columns, c.id.label("defect_id")).where(c.camera_id == camera_id, _open(t.defects))
    return [Defect(**row._mapping) for row in connection.execute(statement.order_by(c.id))]


def add_defect(connection: Connection, camera_id: int, defect: Defect, tx: int) -> int:
    return _insert_id(
        connection,
        t.defects,
        camera_id=camera_id,
        x0=defect.x0,
        y0=defect.y0,
        width=defect.width,
        height=defect.height,
        reason=defect.reason,
        first_night=defect.first_night,
        last_night=defect.last_night,
        opened_tx=tx,
    )


def close_defects(connection: Connection, camera_id: int, ids: Sequence[int], tx: int) -> None:
    _close(connection, t.defects, tx, t.defects.c.camera_id == camera_id, t.defects.c.id.in_(ids))


# --- series ---------------------------------------------------------------------------


def series_id(
    connection: Connection,
    camera_id: int,
    configuration: Configuration,
    set_point: tuple[str, float | None],
    tx: int,
) -> int:
    """The series of a camera, a configuration and a set point, made if it is new."""
    s, (key, set_point_c) = t.series.c, set_point
    found = connection.execute(
        sa.select(s.id).where(
            s.camera_id == camera_id,
            s.configuration_digest == configuration.digest,
            s.set_point_key == key,
        )
    ).scalar()
    if found is not None:
        return int(found)
    return _insert_id(
        connection,
        t.series,
        camera_id=camera_id,
        configuration_digest=configuration.digest,
        configuration=configuration.as_dict(),
        set_point_key=key,
        set_point_c=set_point_c,
        created_tx=tx,
    )


def series(connection: Connection, camera_id: int | None = None) -> dict[int, Series]:
    s = t.series.c
    name = _camera_name(s.camera_id)
    statement = sa.select(s.id, s.configuration, s.set_point_c, name).order_by(s.id)
    if camera_id is not None:
        statement = statement.where(s.camera_id == camera_id)
    return {
        row.id: Series(
            series_id=row.id,
            camera=row.name,
            configuration=Configuration.from_dict(row.configuration),
            set_point_c=row.set_point_c,
        )
        for row in connection.execute(statement)
    }


# --- frames ---------------------------------------------------------------------------


def known_files(connection: Connection) -> dict[str, tuple[int, int, int]]:
    """Current path → (size_bytes, mtime_ns, frame_id)."""
    c = t.locations.c
    rows = connection.execute(
        sa.select(c.path, c.size_bytes, c.mtime_ns, c.frame_id).where(_open(t.locations))
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
    for chunk in _chunks(paths):
        connection.execute(t.passed_over.delete().where(t.passed_over.c.path.in_(chunk)))


def passed_over(connection: Connection, outcome: str) -> list[sa.Row[Any]]:
    c = t.passed_over.c
    statement = sa.select(c.path, c.frame_type, c.reason).where(c.outcome == outcome).order_by(c.path)
    return list(connection.execute(statement))


def frame_ids(connection: Connection, digests: Sequence[str]) -> dict[str, int]:
    """sha256 → frame id of those that are catalogued."""
    c = t.frames.c
    found: dict[str, int] = {}
    for chunk in _chunks(digests):
        found |= {
            row.sha256: row.id
            for row in connection.execute(sa.select(c.sha256, c.id).where(c.sha256.in_(chunk)))
        }
    return found


def add_frame(
    connection: Connection, *, sha256: str, size_bytes: int, compression: str, header: str, tx: int
) -> int:
    return _insert_id(
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
        sa.select(c.frame_id, c.size_bytes, c.mtime_ns).where(c.path == path, _open(t.locations))
    ).first()
    if before is not None:
        if tuple(before) == (frame_id, size_bytes, mtime_ns):
            return None
        _close(connection, t.locations, tx, c.path == path)
    connection.execute(
        t.locations.insert().values(
            frame_id=frame_id, path=path, size_bytes=size_bytes, mtime_ns=mtime_ns, opened_tx=tx
        )
    )
    return before.frame_id if before is not None and before.frame_id != frame_id else None


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
            _open(t.readings),
        )
        .order_by(c.frame_id)
    )
    return [row.frame_id for row in connection.execute(statement) if row.exptime_s == exptime_s]


def frames_started_at(connection: Connection, start_us: int, sha256: str) -> list[Frame]:
    """Frames of a start time, save those of one digest."""
    c = t.readings.c
    statement = sa.select(c.frame_id).where(c.start_us == start_us, _open(t.readings))
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
        sa.select(*(c[name] for name in values)).where(c.frame_id == frame_id, _open(t.readings))
    ).first()
    if before is not None:
        if dict(before._mapping) == values:
            return False
        _close(connection, t.readings, tx, c.frame_id == frame_id)
    connection.execute(t.readings.insert().values(frame_id=frame_id, opened_tx=tx, **values))
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
    name = _camera_name(r.camera_id)
    statement = (
        sa.select(r.frame_id, f.sha256, name, r.series_id, r.night, r.facts, r.twin_of)
        .join(t.frames, f.id == r.frame_id)
        .where(_open(t.readings))
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
            row
            for chunk in _chunks(ids)
            for row in connection.execute(statement.where(r.frame_id.in_(chunk)))
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
    statement = sa.select(c.frame_id, c.path).where(_open(t.locations)).order_by(c.path)
    rows = (
        connection.execute(statement)
        if ids is None
        else (
            row
            for chunk in _chunks(ids)
            for row in connection.execute(statement.where(c.frame_id.in_(chunk)))
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
        for chunk in _chunks(ids)
        for row in connection.execute(sa.select(c.id, c.header).where(c.id.in_(chunk)))
    }


def overrides(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Frame id → field → value of the corrections in force."""
    c = t.overrides.c
    found: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for chunk in _chunks(ids):
        statement = sa.select(c.frame_id, c.field, c.value).where(c.frame_id.in_(chunk), _open(t.overrides))
        for row in connection.execute(statement.order_by(c.id)):
            found[row.frame_id][row.field] = row.value
    return found


def _excluded(connection: Connection) -> dict[int, str]:
    c = t.overrides.c
    statement = sa.select(c.frame_id, c.reason).where(c.field == "excluded", _open(t.overrides))
    return {row.frame_id: row.reason for row in connection.execute(statement)}


def put_override(
    connection: Connection, frame_id: int, field: str, value: Any, *, reason: str, tx: int
) -> None:
    lift_override(connection, frame_id, field, tx=tx)
    connection.execute(
        t.overrides.insert().values(frame_id=frame_id, field=field, value=value, reason=reason, opened_tx=tx)
    )


def lift_override(connection: Connection, frame_id: int, field: str, *, tx: int) -> None:
    c = t.overrides.c
    _close(connection, t.overrides, tx, c.frame_id == frame_id, c.field == field)


# --- masks ----------------------------------------------------------------------------

_SUMMARY = (
    "id",
    "series_id",
    "version",
    "sha256",
    "build_key",
    "rule",
    "algorithm_version",
    "first_night",
    "last_night",
    "campaign_start_us",
    "campaign_end_us",
    "shortest_s",
    "longest_s",
    "nx",
    "ny",
    "flagged",
    "limit_e_per_s",
    "created_tx",
    "counts",
    "warnings",
)
_summary_columns = [t.masks.c[name] for name in _SUMMARY]


class MaskRow(NamedTuple):
    """A mask version without its pixels."""

    id: int
    series_id: int
    version: int
    sha256: str
    build_key: str
    rule: str
    algorithm_version: str
    first_night: str
    last_night: str
    campaign_start_us: int
    campaign_end_us: int
    shortest_s: float | None
    longest_s: float | None
    nx: int
    ny: int
    flagged: int
    limit_e_per_s: float | None
    created_tx: int
    counts: dict[str, int]
    warnings: list[str]


def mask(connection: Connection, mask_id: int) -> MaskRow | None:
    row = connection.execute(sa.select(*_summary_columns).where(t.masks.c.id == mask_id)).first()
    return None if row is None else MaskRow(*row)


def mask_by_build_key(connection: Connection, build_key: str) -> MaskRow | None:
    row = connection.execute(sa.select(*_summary_columns).where(t.masks.c.build_key == build_key)).first()
    return None if row is None else MaskRow(*row)


def masks(connection: Connection, camera_id: int | None = None) -> list[MaskRow]:
    statement = sa.select(*_summary_columns).order_by(t.masks.c.series_id, t.masks.c.version)
    if camera_id is not None:
        statement = statement.join(t.series).where(t.series.c.camera_id == camera_id)
    return [MaskRow(*row) for row in connection.execute(statement)]


def add_mask(connection: Connection, values: Mapping[str, Any]) -> tuple[int, int]:
    """Store a mask as the next version of its series; returns (id, version)."""
    m = t.masks.c
    newest = connection.execute(
        sa.select(sa.func.max(m.version)).where(m.series_id == values["series_id"])
    ).scalar()
    version = (newest or 0) + 1
    return _insert_id(connection, t.masks, version=version, **values), version


def add_mask_inputs(connection: Connection, mask_id: int, inputs: Iterable[tuple[int, str]]) -> None:
    rows = [{"mask_id": mask_id, "frame_id": frame_id, "role": role} for frame_id, role in inputs]
    if rows:
        connection.execute(t.mask_inputs.insert(), rows)


def mask_details(connection: Connection, mask_id: int) -> dict[str, Any]:
    """Recipe, report, software and the act of building of a mask."""
    m, x, p = t.masks.c, t.transactions.c, t.profiles.c
    row = connection.execute(
        sa.select(
            m.recipe,
            m.report,
            m.software,
            x.at_us,
            x.actor,
            x.host,
            x.reason,
            p.digest.label("profile_digest"),
        )
        .join(t.transactions, x.tx == m.created_tx)
        .join(t.profiles, p.id == m.profile_id)
        .where(m.id == mask_id)
    ).one()
    return dict(row._mapping)


def mask_inputs(connection: Connection, mask_id: int) -> list[tuple[int, str]]:
    c = t.mask_inputs.c
    statement = sa.select(c.frame_id, c.role).where(c.mask_id == mask_id).order_by(c.frame_id)
    return [(row.frame_id, row.role) for row in connection.execute(statement)]


def mask_blob(connection: Connection, mask_id: int) -> tuple[str, bytes, str, str]:
    """(encoding, blob, blob_sha256, sha256) of a stored mask."""
    m = t.masks.c
    row = connection.execute(
        sa.select(m.encoding, m.blob, m.blob_sha256, m.sha256).where(m.id == mask_id)
    ).one()
    return row.encoding, bytes(row.blob), row.blob_sha256, row.sha256


def mask_numbers(connection: Connection, mask_id: int) -> bytes:
    return bytes(connection.execute(sa.select(t.masks.c.numbers).where(t.masks.c.id == mask_id)).scalar_one())


# --- assignments ------------------------------------------------------------------------


class Assignment(NamedTuple):
    """A mask's interval in its series."""

    id: int
    series_id: int
    mask_id: int
    validity: Validity


def assignments(connection: Connection, series_ids: Sequence[int]) -> list[Assignment]:
    """Current assignments of some series, in the order of time."""
    a = t.assignments.c
    statement = (
        sa.select(a.id, a.series_id, a.mask_id, a.valid_from_us, a.valid_to_us)
        .where(a.series_id.in_(series_ids), _open(t.assignments))
        .order_by(a.valid_from_us)
    )
    return [_assignment(row) for row in connection.execute(statement)]


def assignments_within(connection: Connection, series: int, interval: Validity) -> list[Assignment]:
    """Current assignments of a series that touch an interval, in the order of time.

    The greatest `from` up to the interval's start is one step in the index, however many there are.
    """
    a = t.assignments.c
    current = sa.select(a.id, a.series_id, a.mask_id, a.valid_from_us, a.valid_to_us).where(
        a.series_id == series, _open(t.assignments)
    )
    at_start = current.where(a.valid_from_us <= interval.start_us).order_by(a.valid_from_us.desc()).limit(1)
    later = current.where(a.valid_from_us > interval.start_us, a.valid_from_us < interval.end_us)
    rows = [*connection.execute(at_start), *connection.execute(later.order_by(a.valid_from_us))]
    return [found for row in rows if (found := _assignment(row)).validity.overlaps(interval)]


def _assignment(row: Any) -> Assignment:
    return Assignment(row.id, row.series_id, row.mask_id, Validity(row.valid_from_us, row.valid_to_us))


def was_ever_assigned(connection: Connection, mask_id: int) -> bool:
    a = t.assignments.c
    return connection.execute(sa.select(a.id).where(a.mask_id == mask_id).limit(1)).first() is not None


def close_assignments(connection: Connection, ids: Sequence[int], tx: int) -> None:
    if ids:
        _close(connection, t.assignments, tx, t.assignments.c.id.in_(ids))


def add_assignment(connection: Connection, series: int, mask_id: int, validity: Validity, tx: int) -> None:
    connection.execute(
        t.assignments.insert().values(
            series_id=series,
            mask_id=mask_id,
            valid_from_us=validity.start_us,
            valid_to_us=validity.end_us,
            opened_tx=tx,
        )
    )


# --- helpers ----------------------------------------------------------------------------


def _insert_id(connection: Connection, table: sa.Table, **values: Any) -> int:
    key = connection.execute(table.insert().values(**values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def _chunks(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK))
