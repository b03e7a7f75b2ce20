"""Statements about masks: versions, inputs, and the dates that they hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import schema as t
from hotpix_registry.catalogue.prompt import Driver, Prepared, many_rows
from hotpix_registry.catalogue.queries.common import chunks, close, holds, insert_id, is_open
from hotpix_registry.instants import Validity

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


_MASK = sa.select(*_summary_columns).where(t.masks.c.id == sa.bindparam("mask_id"))


def mask(connection: Connection, mask_id: int) -> MaskRow | None:
    row = connection.execute(_MASK, {"mask_id": mask_id}).first()
    return None if row is None else MaskRow(*row)


def mask_by_build_key(connection: Connection, build_key: str) -> MaskRow | None:
    row = connection.execute(sa.select(*_summary_columns).where(t.masks.c.build_key == build_key)).first()
    return None if row is None else MaskRow(*row)


def build_keys(connection: Connection, camera_id: int) -> dict[str, int]:
    """Build key → mask, of all masks of a camera."""
    of_camera = sa.select(t.series.c.id).where(t.series.c.camera_id == camera_id)
    statement = sa.select(t.masks.c.build_key, t.masks.c.id).where(t.masks.c.series_id.in_(of_camera))
    return {row.build_key: row.id for row in connection.execute(statement)}


def masks(
    connection: Connection,
    camera_id: int | None = None,
    *,
    series_id: int | None = None,
    at: int | None = None,
    after: tuple[int, int] | None = None,
    limit: int | None = None,
) -> list[MaskRow]:
    """Mask versions of a camera, of a series or of all, as far as they were there at a transaction.

    Parameters
    ----------
    after
        only what follows this (series id, version)
    """
    statement = sa.select(*_summary_columns).order_by(t.masks.c.series_id, t.masks.c.version).limit(limit)
    if after is not None:
        statement = statement.where(sa.tuple_(t.masks.c.series_id, t.masks.c.version) > after)
    if camera_id is not None:
        statement = statement.join(t.series).where(t.series.c.camera_id == camera_id)
    if series_id is not None:
        statement = statement.where(t.masks.c.series_id == series_id)
    if at is not None:
        statement = statement.where(t.masks.c.created_tx <= at)
    return [MaskRow(*row) for row in connection.execute(statement)]


def masks_by_series(connection: Connection) -> dict[int, int]:
    """Series → how many mask versions it has."""
    m = t.masks.c
    statement = sa.select(m.series_id, sa.func.count()).group_by(m.series_id)
    return {row[0]: row[1] for row in connection.execute(statement)}


def version_before(connection: Connection, mask_id: int) -> int | None:
    """The id of the version before a mask in its series."""
    own, m = t.masks.alias("own").c, t.masks.c
    statement = sa.select(m.id).join_from(t.masks, own.id.table, own.series_id == m.series_id)
    statement = statement.where(own.id == mask_id, m.version < own.version).order_by(m.version.desc())
    return connection.execute(statement.limit(1)).scalar()


def add_mask(connection: Connection, values: Mapping[str, Any]) -> tuple[int, int]:
    """Store a mask as the next version of its series; returns (id, version)."""
    m = t.masks.c
    newest = connection.execute(
        sa.select(sa.func.max(m.version)).where(m.series_id == values["series_id"])
    ).scalar()
    version = (newest or 0) + 1
    return insert_id(connection, t.masks, version=version, **values), version


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
            p.body.label("profile"),
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


def masks_of_frame(connection: Connection, frame_id: int) -> list[tuple[int, str]]:
    """(mask id, role) of the masks that a frame went into."""
    c = t.mask_inputs.c
    statement = sa.select(c.mask_id, c.role).where(c.frame_id == frame_id).order_by(c.mask_id)
    return [(row.mask_id, row.role) for row in connection.execute(statement)]


def mask_blob(connection: Connection, mask_id: int) -> tuple[str, bytes, str, str]:
    """(encoding, blob, blob_sha256, sha256) of a stored mask."""
    m = t.masks.c
    row = connection.execute(
        sa.select(m.encoding, m.blob, m.blob_sha256, m.sha256).where(m.id == mask_id)
    ).one()
    return row.encoding, bytes(row.blob), row.blob_sha256, row.sha256


def mask_numbers(connection: Connection, mask_id: int) -> bytes:
    return bytes(connection.execute(sa.select(t.masks.c.numbers).where(t.masks.c.id == mask_id)).scalar_one())


def inputs_span(connection: Connection, mask_ids: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Mask → start of the first and of the last exposure that are its own; none for masks without darks."""
    i, r = t.mask_inputs.c, t.readings.c
    found: dict[int, tuple[int, int]] = {}
    for chunk in chunks(mask_ids):
        statement = (
            sa.select(i.mask_id, sa.func.min(r.start_us), sa.func.max(r.start_us))
            .join_from(t.mask_inputs, t.readings, r.frame_id == i.frame_id)
            .where(i.mask_id.in_(chunk), i.role == "dark", is_open(t.readings))
            .group_by(i.mask_id)
        )
        found |= {row[0]: (row[1], row[2]) for row in connection.execute(statement)}
    return found


# --- assignments ------------------------------------------------------------------------


class Assignment(NamedTuple):
    """A mask's interval in its series, and the transactions between which it held."""

    id: int
    series_id: int
    mask_id: int
    validity: Validity
    opened_tx: int
    closed_tx: int | None


_assignment_columns = [
    t.assignments.c[name]
    for name in ("id", "series_id", "mask_id", "valid_from_us", "valid_to_us", "opened_tx", "closed_tx")
]


def assignments(
    connection: Connection, series_ids: Sequence[int], *, at: int | None = None
) -> list[Assignment]:
    """Assignments of some series as they are, or were at a transaction, in the order of time."""
    a = t.assignments.c
    statement = (
        sa.select(*_assignment_columns)
        .where(a.series_id.in_(series_ids), holds(t.assignments, at))
        .order_by(a.valid_from_us)
    )
    return [_assignment(row) for row in connection.execute(statement)]


def intervals_of(
    connection: Connection, mask_ids: Sequence[int], *, at: int | None = None
) -> dict[int, list[tuple[int, int | None]]]:
    """Mask → the bounds of each interval that it holds, or held at a transaction, in the order of time.

    A mask may hold hundreds, and a list has hundreds of masks, so that they come as plain numbers.
    """
    a = t.assignments.c
    statement = (
        sa.select(a.mask_id, a.valid_from_us, a.valid_to_us)
        .where(holds(t.assignments, at))
        .order_by(a.mask_id, a.valid_from_us)
    )
    found: dict[int, list[tuple[int, int | None]]] = {}
    for chunk in chunks(mask_ids):
        for mask_id, start_us, end_us in many_rows(connection, statement.where(a.mask_id.in_(chunk))):
            found.setdefault(mask_id, []).append((start_us, end_us))
    return found


def assignment_history(
    connection: Connection,
    series_ids: Sequence[int] | None = None,
    *,
    mask_id: int | None = None,
    after: int = 0,
    limit: int | None = None,
) -> list[Assignment]:
    """Every assignment that some series, a mask, or all ever had, in the order of writing.

    Parameters
    ----------
    after
        only those with a greater id
    """
    a = t.assignments.c
    statement = sa.select(*_assignment_columns).where(a.id > after).order_by(a.id).limit(limit)
    if series_ids is not None:
        statement = statement.where(a.series_id.in_(series_ids))
    if mask_id is not None:
        statement = statement.where(a.mask_id == mask_id)
    return [_assignment(row) for row in connection.execute(statement)]


def assignments_of(connection: Connection, tx: int) -> list[Assignment]:
    """The assignments that a transaction opened or closed, in the order of writing."""
    a = t.assignments.c
    statement = sa.select(*_assignment_columns).where((a.opened_tx == tx) | (a.closed_tx == tx))
    return [_assignment(row) for row in connection.execute(statement.order_by(a.id))]


def _within(at: Any) -> Prepared:
    """The newest transaction, and with it the assignments of a series that may touch an interval.

    The greatest `from` up to the interval's start is one step in the index, however many there are.
    """
    a, newest = t.assignments.c, t.transactions.alias("newest").c
    start_us, end_us = (sa.bindparam(name, type_=sa.BigInteger()) for name in ("start_us", "end_us"))
    of_series = sa.and_(a.series_id == sa.bindparam("series"), holds(t.assignments, at))
    at_start = sa.select(sa.func.max(a.valid_from_us)).where(of_series, a.valid_from_us <= start_us)
    first_us = sa.func.coalesce(at_start.correlate(None).scalar_subquery(), start_us)
    touching = sa.and_(of_series, a.valid_from_us >= first_us, a.valid_from_us < end_us)
    return Prepared(
        sa.select(newest.tx, *_assignment_columns)
        .select_from(newest.tx.table.outerjoin(t.assignments, touching))
        .where(newest.tx == sa.select(sa.func.max(t.transactions.c.tx)).scalar_subquery())
    )


_WITHIN_NOW, _WITHIN_THEN = _within(None), _within(sa.bindparam("at"))


def assignments_within(
    driver: Driver, series: int, interval: Validity, at: int | None = None
) -> tuple[int, list[Assignment]]:
    """The newest transaction, and the assignments of a series that touch an interval, in the order of time.

    One statement, so that both are of one state even outside of a transaction.
    """
    bound = {"series": series, "start_us": interval.start_us, "end_us": interval.end_us}
    rows = _WITHIN_NOW.rows(driver, **bound) if at is None else _WITHIN_THEN.rows(driver, at=at, **bound)
    found = [_assignment(row[1:]) for row in rows if row[1] is not None]
    if len(found) > 1:
        found.sort(key=lambda assignment: assignment.validity.start_us)
    return rows[0][0] if rows else 0, [one for one in found if one.validity.overlaps(interval)]


def assignments_before(
    connection: Connection, series: int, instant_us: int, *, limit: int, at: int | None = None
) -> list[Assignment]:
    """Assignments of a series that begin before an instant, the nearest first."""
    a = t.assignments.c
    current = sa.select(*_assignment_columns).where(a.series_id == series, holds(t.assignments, at))
    nearest = current.where(a.valid_from_us < instant_us).order_by(a.valid_from_us.desc()).limit(limit)
    return [_assignment(row) for row in connection.execute(nearest)]


def assignments_after(
    connection: Connection, series: int, instant_us: int, *, limit: int, at: int | None = None
) -> list[Assignment]:
    """Assignments of a series that begin after an instant, the nearest first."""
    a = t.assignments.c
    current = sa.select(*_assignment_columns).where(a.series_id == series, holds(t.assignments, at))
    nearest = current.where(a.valid_from_us > instant_us).order_by(a.valid_from_us).limit(limit)
    return [_assignment(row) for row in connection.execute(nearest)]


def _assignment(row: Any) -> Assignment:
    number, series, mask_id, from_us, to_us, opened_tx, closed_tx = row
    return Assignment(number, series, mask_id, Validity(from_us, to_us), opened_tx, closed_tx)


def candidates(connection: Connection, series: int, *, at: int | None = None) -> list[tuple[int, int]]:
    """(version, id) of the masks of a series that never held any date and are not revoked."""
    m, a, r = t.masks.c, t.assignments.c, t.revocations.c
    held = sa.select(a.id).where(a.mask_id == m.id)
    statement = sa.select(m.version, m.id).where(m.series_id == series).order_by(m.version)
    if at is not None:
        held = held.where(a.opened_tx <= at)
        statement = statement.where(m.created_tx <= at)
    revoked = sa.exists().where(r.mask_id == m.id, holds(t.revocations, at))
    return [(row.version, row.id) for row in connection.execute(statement.where(~held.exists(), ~revoked))]


def withdrawals(connection: Connection, mask_ids: Sequence[int], *, at: int | None = None) -> dict[int, str]:
    """Those of some masks that ever lost dates → the act that last took some."""
    a, x = t.assignments.c, t.transactions.c
    statement = (
        sa.select(a.mask_id, x.action)
        .join_from(t.assignments, t.transactions, x.tx == a.closed_tx)
        .order_by(a.closed_tx)
    )
    if at is not None:
        statement = statement.where(a.closed_tx <= at)
    return {
        row.mask_id: row.action
        for chunk in chunks(mask_ids)
        for row in connection.execute(statement.where(a.mask_id.in_(chunk)))
    }


def last_change(connection: Connection, series_id: int, camera_id: int) -> int:
    """The newest transaction that touched a series' masks, dates or revocations, or its camera's events."""
    a, m, r, e = t.assignments.c, t.masks.c, t.revocations.c, t.events.c
    of_series = sa.select(m.id).where(m.series_id == series_id)
    sources = [
        sa.select(sa.func.max(a.opened_tx)).where(a.series_id == series_id),
        sa.select(sa.func.max(a.closed_tx)).where(a.series_id == series_id),
        sa.select(sa.func.max(m.created_tx)).where(m.series_id == series_id),
        sa.select(sa.func.max(r.opened_tx)).where(r.mask_id.in_(of_series)),
        sa.select(sa.func.max(r.closed_tx)).where(r.mask_id.in_(of_series)),
        sa.select(sa.func.max(e.opened_tx)).where(e.camera_id == camera_id),
        sa.select(sa.func.max(e.closed_tx)).where(e.camera_id == camera_id),
    ]
    return max(connection.execute(source).scalar() or 0 for source in sources)


def close_assignments(connection: Connection, ids: Sequence[int], tx: int) -> None:
    if ids:
        close(connection, t.assignments, tx, t.assignments.c.id.in_(ids))


def add_assignment(connection: Connection, series: int, mask_id: int, validity: Validity, tx: int) -> None:
    insert_id(
        connection,
        t.assignments,
        series_id=series,
        mask_id=mask_id,
        valid_from_us=validity.start_us,
        valid_to_us=validity.end_us,
        opened_tx=tx,
    )


# --- revocations ------------------------------------------------------------------------


class Revocation(NamedTuple):
    """Why a mask is unusable, and since when."""

    mask_id: int
    reason: str
    opened_tx: int
    at_us: int
    actor: str


def revocations(
    connection: Connection, mask_ids: Sequence[int] | None, *, at: int | None = None
) -> dict[int, Revocation]:
    """Those of some masks, or of all, that are revoked, or were at a transaction."""
    r, x = t.revocations.c, t.transactions.c
    found: dict[int, Revocation] = {}
    revoked = (
        sa.select(r.mask_id, r.reason, r.opened_tx, x.at_us, x.actor)
        .join(t.transactions, x.tx == r.opened_tx)
        .where(holds(t.revocations, at))
    )
    for chunk in (None,) if mask_ids is None else chunks(mask_ids):
        statement = revoked if chunk is None else revoked.where(r.mask_id.in_(chunk))
        found |= {row.mask_id: Revocation(*row) for row in connection.execute(statement)}
    return found


class RevocationPast(NamedTuple):
    """A revocation that is, or was and has been lifted."""

    id: int
    reason: str
    opened_tx: int
    closed_tx: int | None


def revocation_history(connection: Connection, mask_id: int) -> list[RevocationPast]:
    """Every revocation that a mask ever had, in the order of writing."""
    r = t.revocations.c
    statement = sa.select(r.id, r.reason, r.opened_tx, r.closed_tx).where(r.mask_id == mask_id).order_by(r.id)
    return [RevocationPast(*row) for row in connection.execute(statement)]


def add_revocation(connection: Connection, mask_id: int, reason: str, tx: int) -> None:
    insert_id(connection, t.revocations, mask_id=mask_id, reason=reason, opened_tx=tx)


def close_revocation(connection: Connection, mask_id: int, tx: int) -> None:
    close(connection, t.revocations, tx, t.revocations.c.mask_id == mask_id)
