"""Rows from one registry into an empty one, whatever the tables are: with their ids, on either engine.

A copy keeps ids and transaction numbers, so receipts, releases and questions about the past get the
same answers from it. Rows go in the order of foreign keys and, within a table, of the primary key, so
that every guard of the database passes them as it passed the originals.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from hotpix_registry.catalogue import schema as t
from hotpix_registry.catalogue.engine import sqlite_uri
from hotpix_registry.catalogue.queries.common import chunks

Progress = Callable[[str, int, int], None]

_ROWS = 2000
_ROWS_WITH_BLOBS = 4
"""Rows at a time; a mask is up to some MB."""


_BORN = ("opened_tx", "created_tx", "tx", "from_tx")


class Tally(NamedTuple):
    """How many rows of a table there are, and the digest of all that they hold."""

    rows: int
    sha256: str


def tables() -> list[sa.Table]:
    """The tables that make a registry, each after those that it refers to.

    A cache is none of them, and tokens and jobs belong to a service: they never leave with a copy.
    """
    left_out = (t.passed_over, *t.OF_THE_SERVICE)
    return [table for table in t.metadata.sorted_tables if table not in left_out]


def born(table: sa.Table) -> sa.Column[Any]:
    """The column with the transaction that inserted a row."""
    return next(table.c[name] for name in _BORN if name in table.c)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which rows go along: those of some cameras, series, frames, masks and profiles.

    Of any other table, the rows go along whose references all do.
    """

    ids: Mapping[str, Collection[int]] = field(default_factory=dict)
    """table → ids; a table that is not named is taken whole"""
    until_tx: int | None = None
    """a transaction: the copy is the registry as it stood then"""
    release: str | None = None
    """the one release that goes along"""

    def takes(self, table: sa.Table, row: Mapping[str, Any]) -> bool:
        for name, referred in _references(table):
            wanted = self.ids.get(referred)
            if wanted is not None and row[name] is not None and row[name] not in wanted:
                return False
        if self.until_tx is None:
            return True
        if table is t.releases:
            return bool(row["name"] == self.release)
        born = next((row[name] for name in _BORN if name in row), 0)
        # of the masks' own profiles also those that were history by then
        in_force = table is t.profiles or row.get("closed_tx") is None or row["closed_tx"] > self.until_tx
        return bool(born <= self.until_tx and in_force)

    def as_it_was(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row without what befell it after the transaction."""
        if self.until_tx is not None:
            if (row.get("closed_tx") or 0) > self.until_tx:
                row["closed_tx"] = None
            if row.get("created_tx", 0) > self.until_tx:  # a release that was named later
                row["created_tx"] = self.until_tx
        return row


WHOLE = Part()


@lru_cache
def _references(table: sa.Table) -> tuple[tuple[str, str], ...]:
    """(column, table whose ids it holds)."""
    own = [("id", table.name)] if "id" in table.columns else []
    return (*own, *((key.parent.name, key.column.table.name) for key in table.foreign_keys))


def rows(connection: Connection, table: sa.Table, part: Part = WHOLE) -> Iterator[list[dict[str, Any]]]:
    """The rows of a table in the order of its primary key, in batches of bounded size."""
    with_blobs = any(isinstance(column.type, sa.LargeBinary) for column in table.columns)
    size = _ROWS_WITH_BLOBS if table is t.masks else _ROWS // 10 if with_blobs else _ROWS
    statement = sa.select(table).order_by(*table.primary_key.columns)
    wanted = part.ids.get(table.name)
    statements = (
        [statement]
        if wanted is None
        else [statement.where(table.c.id.in_(chunk)) for chunk in chunks(sorted(wanted))]
    )
    for one in statements:
        found = connection.execute(one, execution_options={"yield_per": size})
        for batch in found.mappings().partitions():
            taken = [part.as_it_was(row) for row in map(dict[str, Any], batch) if part.takes(table, row)]
            if taken:
                yield taken


def rows_where(connection: Connection, table: sa.Table, **values: Any) -> list[dict[str, Any]]:
    """The rows with these values in the order of the primary key; None is null."""
    statement = sa.select(table).order_by(*table.primary_key.columns)
    for name, value in values.items():
        statement = statement.where(table.c[name].is_(None) if value is None else table.c[name] == value)
    return [dict(row) for row in connection.execute(statement).mappings()]


def counts(connection: Connection) -> dict[str, int]:
    """Table → number of its rows."""
    number = sa.func.count()
    return {
        table.name: int(connection.execute(sa.select(number).select_from(table)).scalar_one())
        for table in tables()
    }


def copy(
    source: Connection, target: Connection, part: Part = WHOLE, progress: Progress | None = None
) -> dict[str, Tally]:
    """Write a registry's rows into one that has tables and nothing else; what was written of each table."""
    written = {}
    for table in tables():
        total = source.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        tally = _Tally()
        for batch in rows(source, table, part):
            target.execute(table.insert(), batch)
            tally.add(batch)
            if progress is not None:
                progress(table.name, tally.rows, total)
        written[table.name] = tally.done()
    _count_on(source, target)
    return written


def _count_on(source: Connection, target: Connection) -> None:
    """Let new ids begin after all that were ever given, also to rows that are not copied."""
    for table in tables():
        if not table.dialect_options["sqlite"]["autoincrement"]:
            continue
        newest = source.execute(sa.select(sa.func.max(table.c.id))).scalar()
        if newest is None:
            continue
        if target.dialect.name == "postgresql":
            statement = sa.text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :newest)")
            target.execute(statement, {"name": table.name, "newest": newest})
            continue
        values = {"name": table.name, "newest": newest}
        target.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = :name"), values)
        target.execute(sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :newest)"), values)


def tallies(connection: Connection, part: Part = WHOLE) -> dict[str, Tally]:
    """Number and digest of the rows of each table: equal for equal registries on either engine."""
    found = {}
    for table in tables():
        tally = _Tally()
        for batch in rows(connection, table, part):
            tally.add(batch)
        found[table.name] = tally.done()
    return found


class _Tally:
    def __init__(self) -> None:
        self.rows, self._sha256 = 0, hashlib.sha256()

    def add(self, batch: list[dict[str, Any]]) -> None:
        self.rows += len(batch)
        for row in batch:
            self._sha256.update(repr([_plain(value) for value in row.values()]).encode())

    def done(self) -> Tally:
        return Tally(self.rows, self._sha256.hexdigest())


def _plain(value: Any) -> Any:
    """A value as it is on either engine: of a JSON number SQLite keeps no `.0`."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes | memoryview) else value


def damaged_masks(connection: Connection) -> list[int]:
    """Masks whose stored bytes no longer have their digest."""
    m = t.masks.c
    found = connection.execute(
        sa.select(m.id, m.blob, m.blob_sha256).order_by(m.id),
        execution_options={"yield_per": _ROWS_WITH_BLOBS},
    )
    return [row.id for row in found if hashlib.sha256(row.blob).hexdigest() != row.blob_sha256]


def copy_pages(source: Engine, target: Path) -> None:
    """Copy an SQLite file, writers or not: what it held at one moment."""
    path = Path(str(source.url.database))
    with closing(sqlite3.connect(sqlite_uri(path), uri=True)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)  # all pages in one step: steps begin anew whenever somebody writes


# --- parts ------------------------------------------------------------------------------


def of_camera(connection: Connection, camera_id: int) -> Part:
    """One camera with all that was ever known of it."""
    series = _ids(connection, sa.select(t.series.c.id).where(t.series.c.camera_id == camera_id))
    masks = _ids(connection, sa.select(t.masks.c.id).join(t.series).where(t.series.c.camera_id == camera_id))
    r = t.readings.c
    frames = _ids(connection, sa.select(r.frame_id).where(r.camera_id == camera_id))
    return _closed(connection, {camera_id}, series, masks, frames)


def of_release(connection: Connection, name: str) -> Part | None:
    """What a release answers with: the masks that held dates at its transaction; None: no such release."""
    at_tx = connection.execute(sa.select(t.releases.c.at_tx).where(t.releases.c.name == name)).scalar()
    if at_tx is None:
        return None
    a = t.assignments.c
    held = sa.select(a.mask_id, a.series_id).where(
        a.opened_tx <= at_tx, a.closed_tx.is_(None) | (a.closed_tx > at_tx)
    )
    found = connection.execute(held).all()
    masks, series = {row.mask_id for row in found}, {row.series_id for row in found}
    cameras = set(_looked_up(connection, t.series.c.camera_id, t.series.c.id, series))
    part = _closed(connection, cameras, series, masks, set())
    return Part(ids=part.ids, until_tx=at_tx, release=name)


def _closed(
    connection: Connection, cameras: set[int], series: set[int], masks: set[int], frames: set[int]
) -> Part:
    """Add what the rows refer to: inputs and twins, and the cameras, series and profiles of these."""
    inputs = set(_looked_up(connection, t.mask_inputs.c.frame_id, t.mask_inputs.c.mask_id, masks))
    frames = frames | inputs
    frames |= set(_looked_up(connection, t.readings.c.twin_of, t.readings.c.frame_id, frames)) - {None}
    others = _looked_up(connection, t.readings.c.camera_id, t.readings.c.frame_id, inputs)
    cameras = cameras | set(others)
    series = series | (
        set(_looked_up(connection, t.readings.c.series_id, t.readings.c.frame_id, inputs)) - {None}
    )
    cameras |= set(_looked_up(connection, t.series.c.camera_id, t.series.c.id, series))
    profiles = set(_looked_up(connection, t.masks.c.profile_id, t.masks.c.id, masks))
    cameras |= set(_looked_up(connection, t.profiles.c.camera_id, t.profiles.c.id, profiles)) - {None}
    profiles |= set(_looked_up(connection, t.profiles.c.id, t.profiles.c.camera_id, cameras))
    p = t.profiles.c
    profiles |= _ids(connection, sa.select(p.id).where(p.camera_id.is_(None)))
    ids = {"cameras": cameras, "series": series, "masks": masks, "frames": frames, "profiles": profiles}
    return Part(ids=ids)


def _ids(connection: Connection, statement: sa.Select[Any]) -> set[int]:
    return set(connection.execute(statement).scalars())


def _looked_up(
    connection: Connection, column: sa.Column[Any], key: sa.Column[Any], ids: Collection[int]
) -> Iterator[Any]:
    for chunk in chunks(sorted(ids)):
        yield from connection.execute(sa.select(column).where(key.in_(chunk)).distinct()).scalars()
