"""Statements about the history of a registry: epoch events, releases, transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import schema as t
from hotpix_registry.catalogue.queries.common import chunks, close, holds, insert_id

# --- epoch events -----------------------------------------------------------------------


class Event(NamedTuple):
    """What ended the life of a camera's earlier masks."""

    id: int
    camera_id: int
    at_us: int
    kind: str
    note: str
    opened_tx: int


def events(connection: Connection, camera_id: int, *, at: int | None = None) -> list[Event]:
    """A camera's epoch events in the order of time, as they are or were at a transaction."""
    e = t.events.c
    statement = (
        sa.select(e.id, e.camera_id, e.at_us, e.kind, e.note, e.opened_tx)
        .where(e.camera_id == camera_id, holds(t.events, at))
        .order_by(e.at_us, e.id)
    )
    return [Event(*row) for row in connection.execute(statement)]


def event_instants(connection: Connection, *, at: int | None = None) -> dict[int, list[int]]:
    """Series → the instants of its camera's epoch events; series without any are left out."""
    e, s = t.events.c, t.series.c
    statement = sa.select(s.id, e.at_us).join(t.series, s.camera_id == e.camera_id).where(holds(t.events, at))
    found: dict[int, list[int]] = {}
    for series_id, at_us in connection.execute(statement.order_by(e.at_us)):
        found.setdefault(series_id, []).append(at_us)
    return found


def add_event(connection: Connection, camera_id: int, at_us: int, kind: str, note: str, tx: int) -> int:
    return insert_id(
        connection, t.events, camera_id=camera_id, at_us=at_us, kind=kind, note=note, opened_tx=tx
    )


def close_event(connection: Connection, event_id: int, tx: int) -> None:
    close(connection, t.events, tx, t.events.c.id == event_id)


# --- releases ---------------------------------------------------------------------------


class Release(NamedTuple):
    """A name for a transaction number."""

    name: str
    at_tx: int
    note: str
    at_us: int
    """when that transaction was"""
    created_us: int


def releases(connection: Connection) -> list[Release]:
    """Releases in the order of what they froze."""
    r = t.releases.c
    frozen, made = t.transactions.alias("frozen").c, t.transactions.alias("made").c
    statement = (
        sa.select(r.name, r.at_tx, r.note, frozen.at_us, made.at_us.label("created_us"))
        .join_from(t.releases, frozen.tx.table, frozen.tx == r.at_tx)
        .join(made.tx.table, made.tx == r.created_tx)
        .order_by(r.at_tx, r.created_tx)
    )
    return [Release(*row) for row in connection.execute(statement)]


def add_release(connection: Connection, name: str, at_tx: int, note: str, tx: int) -> None:
    connection.execute(t.releases.insert().values(name=name, at_tx=at_tx, note=note, created_tx=tx))


# --- transactions -----------------------------------------------------------------------


class Transaction(NamedTuple):
    """An act that wrote something: who, when, where, with which software, and why."""

    tx: int
    at_us: int
    actor: str
    host: str
    software: str
    action: str
    reason: str | None


_transaction_columns = [t.transactions.c[name] for name in Transaction._fields]


def transactions(
    connection: Connection,
    *,
    numbers: Sequence[int] | None = None,
    newest: int | None = None,
    before: int | None = None,
) -> list[Transaction]:
    """Transactions in their order: those of some numbers, or the newest ones, of all or before one."""
    x = t.transactions.c
    statement = sa.select(*_transaction_columns).order_by(x.tx.desc()).limit(newest)
    if before is not None:
        statement = statement.where(x.tx < before)
    parts = (None,) if numbers is None else chunks(numbers)
    rows = [
        Transaction(*row)
        for part in parts
        for row in connection.execute(statement if part is None else statement.where(x.tx.in_(part)))
    ]
    return sorted(rows)


def touched(connection: Connection, first_tx: int, last_tx: int | None = None) -> dict[int, list[str]]:
    """Transaction from a number on, up to another → what it wrote about masks, events, releases, access."""
    a, m, v, e, r = t.assignments.c, t.masks.c, t.revocations.c, t.events.c, t.releases.c
    k, j = t.tokens.c, t.jobs.c
    statements: list[tuple[str, sa.Select[Any]]] = [
        ("built mask {}", sa.select(m.created_tx, m.id).where(m.created_tx >= first_tx)),
        ("gave dates to mask {}", sa.select(a.opened_tx, a.mask_id).where(a.opened_tx >= first_tx)),
        ("took dates from mask {}", sa.select(a.closed_tx, a.mask_id).where(a.closed_tx >= first_tx)),
        ("revoked mask {}", sa.select(v.opened_tx, v.mask_id).where(v.opened_tx >= first_tx)),
        (
            "lifted the revocation of mask {}",
            sa.select(v.closed_tx, v.mask_id).where(v.closed_tx >= first_tx),
        ),
        ("added event {}", sa.select(e.opened_tx, e.id).where(e.opened_tx >= first_tx)),
        ("removed event {}", sa.select(e.closed_tx, e.id).where(e.closed_tx >= first_tx)),
        ("froze release {}", sa.select(r.created_tx, r.name).where(r.created_tx >= first_tx)),
        ("created token {}", sa.select(k.opened_tx, k.name).where(k.opened_tx >= first_tx)),
        ("revoked token {}", sa.select(k.closed_tx, k.name).where(k.closed_tx >= first_tx)),
        ("queued job {}", sa.select(j.opened_tx, j.id).where(j.opened_tx >= first_tx)),
    ]
    told: dict[int, list[str]] = {}
    for words, statement in statements:
        if last_tx is not None:
            statement = statement.where(statement.selected_columns[0] <= last_tx)
        for tx, subject in connection.execute(statement.distinct().order_by(*statement.selected_columns)):
            told.setdefault(tx, []).append(words.format(subject))
    return told
