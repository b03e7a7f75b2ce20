"""Every promise of the database asked for again, by statements that know nothing of its guards."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from itertools import groupby

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import schema as t
from hotpix_registry.catalogue.engine import copy_mark

_FOR_EVER = 2**63 - 1


def broken_promises(connection: Connection) -> Iterator[tuple[str, str]]:
    """(where, what is wrong) for each row that should not be as it is."""
    yield from _pages(connection)
    yield from _references(connection)
    yield from _duplicates(connection)
    yield from _times(connection)
    yield from _overlaps(connection)
    yield from _strangers(connection)
    yield from _crossings(connection)
    yield from _versions(connection)


def _pages(connection: Connection) -> Iterator[tuple[str, str]]:
    """What SQLite finds in its own file."""
    if connection.dialect.name == "sqlite":
        for text in connection.exec_driver_sql("PRAGMA integrity_check").scalars():
            if text != "ok":
                yield "the file", text


def _references(connection: Connection) -> Iterator[tuple[str, str]]:
    for table in t.metadata.sorted_tables:
        for key in table.foreign_keys:
            other = key.column.table.alias()
            statement = (
                sa.select(*table.primary_key.columns)
                .select_from(table.outerjoin(other, other.c[key.column.name] == key.parent))
                .where(key.parent.is_not(None), other.c[key.column.name].is_(None))
            )
            for row in connection.execute(statement):
                yield _row(table, row), f"its {key.parent.name} refers to no row of {key.column.table.name}"


def _duplicates(connection: Connection) -> Iterator[tuple[str, str]]:
    for table in t.metadata.sorted_tables:
        keys = [(table.primary_key.columns, None)]
        keys += [(c.columns, None) for c in table.constraints if isinstance(c, sa.UniqueConstraint)]
        keys += [(i.columns, i.dialect_options["sqlite"]["where"]) for i in table.indexes if i.unique]
        for columns, where in keys:
            statement = sa.select(*columns).group_by(*columns).having(sa.func.count() > 1)
            for row in connection.execute(statement if where is None else statement.where(where)):
                values = ", ".join(f"{name} {value}" for name, value in row._mapping.items())
                yield table.name, f"more than one row{' holds' if where is not None else ''} with {values}"


def _times(connection: Connection) -> Iterator[tuple[str, str]]:
    x, a, r = t.transactions.c, t.assignments.c, t.releases.c
    before = sa.select(x.tx, x.at_us, sa.func.lag(x.at_us).over(order_by=x.tx).label("last_us")).subquery()
    for row in connection.execute(sa.select(before.c.tx).where(before.c.at_us < before.c.last_us)):
        yield f"transaction {row.tx}", "its time lies before that of the transaction before it"
    for table in t.CLOSING:
        c = table.c
        for row in connection.execute(sa.select(c.id).where(c.closed_tx < c.opened_tx)):
            yield _row(table, row), "it was closed before it was opened"
    for row in connection.execute(sa.select(a.id).where(a.valid_to_us <= a.valid_from_us)):
        yield _row(t.assignments, row), "its interval is empty"
    for row in connection.execute(sa.select(r.name).where(r.at_tx > r.created_tx)):
        yield f"release {row.name}", "it names a transaction that came after it"


def _overlaps(connection: Connection) -> Iterator[tuple[str, str]]:
    """Assignments of a series that held for the same instant at the same time, now or in the past.

    The whole history is played again: at each transaction, rows close and open, and each that opens is
    compared with its two neighbours.
    """
    a = t.assignments.c
    rows = connection.execute(
        sa.select(a.series_id, a.id, a.valid_from_us, a.valid_to_us, a.opened_tx, a.closed_tx)
        .where(a.closed_tx.is_(None) | (a.closed_tx > a.opened_tx))
        .order_by(a.series_id),
        execution_options={"yield_per": 10_000},
    )
    for series_id, group in groupby(rows, key=lambda row: row.series_id):
        for one, other in _overlapping((row.id, *row[2:]) for row in group):
            yield f"assignments {one} and {other}", f"they overlap in series {series_id}"


def _overlapping(
    rows: Iterable[tuple[int, int, int | None, int, int | None]],
) -> Iterator[tuple[int, int]]:
    acts: list[tuple[int, int, tuple[int, int, int]]] = []
    for row_id, start_us, end_us, opened_tx, closed_tx in rows:
        held = (start_us, row_id, _FOR_EVER if end_us is None else end_us)
        acts.append((opened_tx, 1, held))
        if closed_tx is not None:
            acts.append((closed_tx, 0, held))
    current: list[tuple[int, int, int]] = []
    for _, opens, held in sorted(acts):
        place = bisect_left(current, held)
        if not opens:
            del current[place]
            continue
        for neighbour in current[max(place - 1, 0) : place + 1]:
            if neighbour[0] < held[2] and held[0] < neighbour[2]:
                yield min(neighbour[1], held[1]), max(neighbour[1], held[1])
        insort(current, held)


def _strangers(connection: Connection) -> Iterator[tuple[str, str]]:
    a, m = t.assignments.c, t.masks.c
    statement = sa.select(a.id, a.mask_id).join(t.masks, m.id == a.mask_id).where(m.series_id != a.series_id)
    for row in connection.execute(statement):
        yield f"assignment {row.id}", f"its mask {row.mask_id} is of another series"


def _crossings(connection: Connection) -> Iterator[tuple[str, str]]:
    a, e, s = t.assignments.c, t.events.c, t.series.c
    statement = (
        sa.select(a.id, e.id.label("event_id"), e.kind)
        .join(t.series, s.id == a.series_id)
        .join(t.events, e.camera_id == s.camera_id)
        .where(
            a.closed_tx.is_(None),
            e.closed_tx.is_(None),
            a.valid_from_us < e.at_us,
            a.valid_to_us.is_(None) | (a.valid_to_us > e.at_us),
        )
    )
    for row in connection.execute(statement):
        yield f"assignment {row.id}", f"it crosses the {row.kind} of event {row.event_id}"


def _versions(connection: Connection) -> Iterator[tuple[str, str]]:
    """Versions count 1, 2, 3… in each series; a part of a registry may hold some of them."""
    m = t.masks.c
    ids = connection.execute(sa.select(sa.func.count()).select_from(t.registries)).scalar_one()
    if copy_mark(connection) or ids > 1:
        return
    number, newest = sa.func.count().label("number"), sa.func.max(m.version).label("newest")
    first = sa.func.min(m.version)
    statement = sa.select(m.series_id, number, newest).group_by(m.series_id)
    for row in connection.execute(statement.having((number != newest) | (first != 1))):
        yield f"series {row.series_id}", f"its {row.number} versions do not count from 1 to {row.newest}"


def _row(table: sa.Table, row: sa.Row[tuple[int]]) -> str:
    return f"{table.name} {', '.join(str(value) for value in row)}"


# --- repair -----------------------------------------------------------------------------


def restore_bytes(
    connection: Connection, mask_id: int, *, encoding: str, blob: bytes, blob_sha256: str
) -> None:
    """Put the bytes of a mask back, which the guard on its row forbids and this transaction alone may.

    The caller has verified that they unpack to the file with the sha256 that the row has recorded, so
    the row then says what it has always said. The guard is away only within the transaction: nobody
    else sees the table without it, and it returns with it or with its undoing.
    """
    change = t.masks.update().where(t.masks.c.id == mask_id)
    change = change.values(encoding=encoding, blob=blob, blob_sha256=blob_sha256)
    if connection.dialect.name == "sqlite":
        guard = connection.exec_driver_sql(
            "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = 'guard_masks_update'"
        ).scalar_one()
        connection.exec_driver_sql("DROP TRIGGER guard_masks_update")
        connection.execute(change)
        connection.exec_driver_sql(guard)
    else:
        connection.exec_driver_sql("ALTER TABLE masks DISABLE TRIGGER guard_masks_update")
        connection.execute(change)
        connection.exec_driver_sql("ALTER TABLE masks ENABLE TRIGGER guard_masks_update")
