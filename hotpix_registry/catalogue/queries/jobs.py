"""Statements about jobs: what a service was asked to do, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import schema as t
from hotpix_registry.catalogue.queries.common import camera_name, chunks, close, insert_id, is_open, last_tx


class JobRow(NamedTuple):
    """What was asked, by whom and when."""

    id: int
    kind: str
    camera_id: int | None
    camera: str | None
    request: dict[str, Any]
    created_us: int
    actor: str
    host: str
    software: str


class JobEvent(NamedTuple):
    """What was true of a job from a moment on."""

    id: int
    job_id: int
    at_us: int
    state: str
    body: dict[str, Any]


def now_us(connection: Connection) -> int:
    """The time of the database's own clock, which all that share it agree on."""
    if connection.dialect.name == "sqlite":  # all on one machine
        return time.time_ns() // 1000
    seconds = connection.execute(sa.select(sa.extract("epoch", sa.func.clock_timestamp()))).scalar_one()
    return int(seconds * 1_000_000)


def jobs(
    connection: Connection,
    *,
    job_id: int | None = None,
    unfinished: bool = False,
    before: int | None = None,
    limit: int | None = None,
) -> list[JobRow]:
    """Jobs, the newest first: one, those that wait or run, or a page of them all."""
    j, x = t.jobs.c, t.transactions.c
    statement = (
        sa.select(
            j.id,
            j.kind,
            j.camera_id,
            camera_name(j.camera_id),
            j.request,
            x.at_us,
            x.actor,
            x.host,
            x.software,
        )
        .join_from(t.jobs, t.transactions, x.tx == j.opened_tx)
        .order_by(j.id.desc())
        .limit(limit)
    )
    if job_id is not None:
        statement = statement.where(j.id == job_id)
    if before is not None:
        statement = statement.where(j.id < before)
    if unfinished:
        statement = statement.where(is_open(t.jobs))
    return [JobRow._make(row) for row in connection.execute(statement)]


def add_job(
    connection: Connection, kind: str, camera_id: int | None, request: Mapping[str, Any], tx: int
) -> int:
    return insert_id(connection, t.jobs, kind=kind, camera_id=camera_id, request=dict(request), opened_tx=tx)


def close_job(connection: Connection, job_id: int) -> None:
    """Let a job wait and run no more; what it wrote has transactions of its own."""
    close(connection, t.jobs, last_tx(connection), t.jobs.c.id == job_id)


_event_columns = [t.job_events.c[name] for name in JobEvent._fields]


def add_job_event(connection: Connection, job_id: int, state: str, body: Mapping[str, Any]) -> None:
    values = {"job_id": job_id, "at_us": now_us(connection), "state": state, "body": dict(body)}
    insert_id(connection, t.job_events, **values)


def job_events(
    connection: Connection, job_id: int, *, after: int = 0, limit: int | None = None
) -> list[JobEvent]:
    """What befell a job after an event, in its order."""
    e = t.job_events.c
    statement = sa.select(*_event_columns).where(e.job_id == job_id, e.id > after).order_by(e.id).limit(limit)
    return [JobEvent(*row) for row in connection.execute(statement)]


def last_job_events(
    connection: Connection, ids: Sequence[int], *, state: str | None = None, first: bool = False
) -> dict[int, JobEvent]:
    """Job → its newest event, or the first; of one state."""
    e = t.job_events.c
    found: dict[int, JobEvent] = {}
    for chunk in chunks(ids):
        one = sa.func.min(e.id) if first else sa.func.max(e.id)
        wanted = sa.select(one).where(e.job_id.in_(chunk)).group_by(e.job_id)
        if state is not None:
            wanted = wanted.where(e.state == state)
        for row in connection.execute(sa.select(*_event_columns).where(e.id.in_(wanted))):
            found[row.job_id] = JobEvent(*row)
    return found
