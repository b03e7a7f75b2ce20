"""What all statements share: transactions, rows that are open, ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import schema as t

_CHUNK = 500
"""Bind parameters per statement: SQLite once allowed 999."""


def registry_id(connection: Connection) -> str:
    """The name under which this registry gives receipts now."""
    return registry_ids(connection)[-1].registry_id


class RegistryId(NamedTuple):
    """A name under which a registry went, and the transactions whose receipts bear it."""

    registry_id: str
    from_tx: int
    to_tx: int
    """inclusive; of the current name, the newest transaction"""


def registry_ids(connection: Connection) -> list[RegistryId]:
    """Whose receipts this registry can replay, oldest first: its own, and of those it was copied from."""
    r, newest = t.registries.c, last_tx(connection)
    rows = connection.execute(
        # a copy that was opened for writing and has no transaction of its own yet still goes by its old name
        sa.select(r.registry_id, r.from_tx).where(r.from_tx <= newest).order_by(r.from_tx, r.created_us)
    ).all()
    ends = [row.from_tx - 1 for row in rows[1:]] + [newest]
    return [RegistryId(row.registry_id, row.from_tx, end) for row, end in zip(rows, ends, strict=True)]


_LAST_TX = sa.select(sa.func.coalesce(sa.func.max(t.transactions.c.tx), 0))


def last_tx(connection: Connection) -> int:
    """The newest transaction's number; 0 when nothing has been written."""
    return int(connection.execute(_LAST_TX).scalar_one())


def tx_at(connection: Connection, instant_us: int) -> int:
    """The newest transaction that an instant had seen; 0 for one before all."""
    x = t.transactions.c
    newest = sa.select(x.tx).where(x.at_us <= instant_us).order_by(x.at_us.desc(), x.tx.desc()).limit(1)
    found = connection.execute(newest).scalar()
    return int(found or 0)


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


def is_open(table: sa.Table) -> sa.ColumnElement[bool]:
    """Rows that hold now."""
    return table.c.closed_tx.is_(None)


def holds(table: sa.Table, at: int | None) -> sa.ColumnElement[bool]:
    """Rows that held at a transaction, its own acts included; None: that hold now."""
    if at is None:
        return is_open(table)
    c = table.c
    return sa.and_(c.opened_tx <= at, sa.or_(c.closed_tx.is_(None), c.closed_tx > at))


def close(connection: Connection, table: sa.Table, tx: int, *where: sa.ColumnElement[bool]) -> None:
    """Set `closed_tx`, the one change that a row admits."""
    connection.execute(table.update().where(is_open(table), *where).values(closed_tx=tx))


def camera_name(camera_id: sa.ColumnElement[Any]) -> sa.Label[str]:
    """A camera's name; that of one merged into another is the last it had."""
    n = t.camera_names.c
    newest = sa.select(n.name).where(n.camera_id == camera_id, n.is_alias.is_(sa.false()))
    return newest.order_by(n.opened_tx.desc()).limit(1).scalar_subquery().label("name")


def insert_id(connection: Connection, table: sa.Table, **values: Any) -> int:
    """Insert a row and return its id, which follows the greatest that was ever given."""
    if connection.dialect.name == "postgresql":  # whose sequences lose a number to each act that is refused
        values["id"] = last_id(connection, table) + 1
    return int(connection.execute(table.insert().values(**values).returning(table.c.id)).scalar_one())


def insert_rows(connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows in their order, under the ids that `insert_id` would give them."""
    if rows:
        last = last_id(connection, table)
        connection.execute(table.insert(), [{**row, "id": last + i} for i, row in enumerate(rows, start=1)])


def last_id(connection: Connection, table: sa.Table) -> int:
    """The greatest id that was ever given in a table, here or in the registry that this was copied from."""
    given = sa.select(sa.func.coalesce(sa.func.max(table.c.id), 0))
    if connection.dialect.name == "postgresql":
        sequence: sa.ColumnElement[str] = sa.literal_column(
            f"pg_get_serial_sequence('{table.name}', 'id')::regclass"
        )
        copied = sa.func.coalesce(sa.func.pg_sequence_last_value(sequence), 0)
    else:
        counted = sa.table("sqlite_sequence", sa.column("name"), sa.column("seq"))
        copied = sa.func.coalesce(
            sa.select(counted.c.seq).where(counted.c.name == table.name).scalar_subquery(), 0
        )
    row = connection.execute(sa.select(given.scalar_subquery(), copied)).one()
    return max(map(int, row))


def chunks(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK))
