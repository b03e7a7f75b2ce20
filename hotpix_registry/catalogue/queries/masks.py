"""Statements about masks: versions, inputs, and the dates that they hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import schema as t
from hotpix_registry.catalogue.queries.common import close, insert_id, is_open
from hotpix_registry.domain import Validity

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
        .where(a.series_id.in_(series_ids), is_open(t.assignments))
        .order_by(a.valid_from_us)
    )
    return [_assignment(row) for row in connection.execute(statement)]


def assignments_within(connection: Connection, series: int, interval: Validity) -> list[Assignment]:
    """Current assignments of a series that touch an interval, in the order of time.

    The greatest `from` up to the interval's start is one step in the index, however many there are.
    """
    a = t.assignments.c
    current = sa.select(a.id, a.series_id, a.mask_id, a.valid_from_us, a.valid_to_us).where(
        a.series_id == series, is_open(t.assignments)
    )
    at_start = current.where(a.valid_from_us <= interval.start_us).order_by(a.valid_from_us.desc()).limit(1)
    later = current.where(a.valid_from_us > interval.start_us, a.valid_from_us < interval.end_us)
    rows = [*connection.execute(at_start), *connection.execute(later.order_by(a.valid_from_us))]
    return [found for row in rows if (found := _assignment(row)).validity.overlaps(interval)]


def _assignment(row: Any) -> Assignment:
    return Assignment(row.id, row.series_id, row.mask_id, Validity(row.valid_from_us, row.valid_to_us))


def newer_candidates(connection: Connection, series: int, version: int) -> list[int]:
    """Later versions of a series that never held any date."""
    m, a = t.masks.c, t.assignments.c
    held = sa.exists().where(a.mask_id == m.id)
    statement = sa.select(m.id).where(m.series_id == series, m.version > version, ~held).order_by(m.version)
    return list(connection.execute(statement).scalars())


def was_ever_assigned(connection: Connection, mask_id: int) -> bool:
    a = t.assignments.c
    return connection.execute(sa.select(a.id).where(a.mask_id == mask_id).limit(1)).first() is not None


def close_assignments(connection: Connection, ids: Sequence[int], tx: int) -> None:
    if ids:
        close(connection, t.assignments, tx, t.assignments.c.id.in_(ids))


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
