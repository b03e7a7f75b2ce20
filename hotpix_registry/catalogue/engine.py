"""A database: its address, connections, transactions, and whose copy it is."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url

from hotpix_registry.catalogue import schema
from hotpix_registry.catalogue.failures import ADDRESSES, BUSY_TIMEOUT_S, describe, translated
from hotpix_registry.catalogue.replicas import Replicated, newest_tx, replicated
from hotpix_registry.errors import (
    Conflict,
    UsageError,
)
from hotpix_registry.files import network_file_system

log = logging.getLogger(__name__)

REGISTRY, WHOLE_COPY, PART_COPY, MIRROR = 0, 1, 2, 3
"""What `PRAGMA user_version` says: a registry that goes on, an export of one or of a part of one, or a copy
that follows its source."""
_ADVISORY_LOCK = 0x486F7470


def parse_url(text: str) -> URL:
    """Read a `--database`: a URL, or the path of an SQLite file."""
    if "://" not in text:
        return URL.create("sqlite", database=str(Path(text).expanduser()))
    try:
        url = make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise UsageError(f"'{_without_password(text)}' is no database URL.", next_step=ADDRESSES) from None
    if "@" in (url.host or ""):
        raise UsageError(
            f"'{_without_password(text)}' is no database URL: its password has an @.",
            next_step="Write %40 for it there, or put the password into ~/.pgpass.",
        )
    backend = url.drivername.partition("+")[0]
    if backend in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if backend == "sqlite":
        if not url.database or url.database == ":memory:":
            raise UsageError("A registry in memory would be lost at once.", next_step=ADDRESSES)
        return url.set(drivername="sqlite")
    raise UsageError(f"Databases of kind '{backend}' are not supported.", next_step=ADDRESSES)


def _without_password(text: str) -> str:
    # up to the last @, since a password may have one or a slash that is not escaped
    return re.sub(r"\?.*", "?***", re.sub(r"(://[^:/@]*):.*@", r"\1:***@", text))


def connect(url: URL, *, statement_s: float | None = None) -> Engine:
    """An engine whose transactions are snapshots; nothing is opened yet.

    Parameters
    ----------
    statement_s
        how long PostgreSQL may take to one statement; None: as long as it takes
    """
    if url.drivername == "sqlite":
        return _connect_sqlite(url)
    from hotpix_registry.catalogue import postgresql

    return postgresql.connect(url, statement_s=statement_s)


def _connect_sqlite(url: URL) -> Engine:
    path = Path(url.database or "").absolute()

    def open_file() -> sqlite3.Connection:
        connection = sqlite3.connect(
            sqlite_uri(path),
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,  # BEGIN is written by the listener below
            check_same_thread=False,
        )
        connection.execute("PRAGMA foreign_keys = ON")
        try:
            connection.execute("PRAGMA synchronous = FULL")  # the first to read the schema
        except UnicodeDecodeError:  # the message quotes what is no text any more
            raise sqlite3.DatabaseError("database schema is malformed") from None
        return connection

    engine = sa.create_engine(url.set(database=str(path)), creator=open_file, poolclass=sa.pool.QueuePool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # a deferred transaction that turns to writing fails with "database is locked" under load
        writing = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def sqlite_uri(path: Path) -> str:
    """How sqlite3 opens a file: to read and write where that is allowed, else to read."""
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return f"{path.as_uri()}?mode=rw"
    # in a folder that nobody can write, WAL's helper files cannot be made
    immutable = not path.with_name(path.name + "-wal").exists()
    return f"{path.as_uri()}?mode=ro" + ("&immutable=1" if immutable else "")


_shared: ContextVar[Connection | None] = ContextVar("shared", default=None)


Source = Engine | Replicated
"""what is read from"""


@contextmanager
def reading(source: Source) -> Iterator[Connection]:
    """A transaction that sees one state of the registry."""
    shared = _shared.get()
    if shared is not None and (
        source.is_read_by(shared.engine) if isinstance(source, Replicated) else shared.engine is source
    ):
        yield shared
        return
    if isinstance(source, Replicated):
        with translated(source.replica), source.connected() as replica:
            if replica is not None:
                yield replica
                return
        source = source.primary
    with translated(source), source.connect() as connection, connection.begin():
        if (also := replicated(source)) is not None:
            also.note(newest_tx(connection))
        yield connection


@contextmanager
def reading_once(source: Source) -> Iterator[Connection]:
    """As `reading`, and whatever is read within is read of the same state, by the same connection."""
    with reading(source) as connection:
        before = _shared.set(connection)
        try:
            yield connection
        finally:
            _shared.reset(before)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """The one writing transaction of the moment; committed at the end, rolled back on any error.

    An export becomes a registry of its own in its first one: it gets another id from there on, so that
    two copies that go different ways never give receipts under the same name.

    Raises
    ------
    Conflict
        It is a mirror.
    """
    if engine.dialect.name == "sqlite":
        _warn_of_network(str(engine.url.database))
    with transaction(engine) as connection:
        refuse_mirror(connection)
        new_id = become_own(connection)
        yield connection
        kept = connection.in_transaction()  # a dry run rolls back
        also = replicated(engine) if kept else None
        written_tx = 0 if also is None else newest_tx(connection)
    if also is not None:
        also.note(written_tx)
    if new_id is not None and kept:
        _prefer_wal(engine)
        log.warning(
            "%s was an exported copy; it is a registry of its own from now on, %s.", describe(engine), new_id
        )


@contextmanager
def following(engine: Engine) -> Iterator[Connection]:
    """As `writing`, on a mirror: what its source wrote is written there.

    Raises
    ------
    UsageError
        It is none.
    """
    with transaction(engine) as connection:
        if copy_mark(connection) != MIRROR:
            raise UsageError(
                f"{describe(engine)} is no mirror.", next_step="Name with --database a file that `sync` made."
            )
        yield connection


def refuse_mirror(connection: Connection) -> None:
    """Let nobody write to a mirror but its source.

    Raises
    ------
    Conflict
    """
    if copy_mark(connection) == MIRROR:
        raise Conflict(
            f"{describe(connection.engine)} is a mirror, which takes no writes of its own.",
            next_step="Write at its source and sync, or make a registry of its own of it with"
            " `hotpix-registry sync --detach`.",
        )


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    with translated(engine):
        if engine.dialect.name == "sqlite":
            with engine.connect().execution_options(writing=True) as connection, connection.begin():
                yield connection
            return
        # READ COMMITTED: a snapshot taken before the lock is granted would be stale
        fresh = engine.connect().execution_options(isolation_level="READ COMMITTED")
        with fresh as connection, connection.begin():
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
            yield connection


def copy_mark(connection: Connection) -> int:
    """0, or which kind of copy this file is: `WHOLE_COPY`, `PART_COPY` or `MIRROR`."""
    if connection.dialect.name != "sqlite":
        return 0
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def mark_copy(connection: Connection, kind: int) -> None:
    connection.exec_driver_sql(f"PRAGMA user_version = {kind:d}")  # lies outside the guarded tables


def become_own(connection: Connection, *, anyway: bool = False) -> str | None:
    """Give an export another id from its next transaction on, and take its mark away; the new id."""
    marked = copy_mark(connection)
    if not (marked or anyway):
        return None
    last = connection.execute(sa.select(sa.func.max(schema.transactions.c.tx))).scalar()
    new_id = add_id(connection, from_tx=(last or 0) + 1)
    if marked:
        mark_copy(connection, 0)
    return new_id


def add_id(connection: Connection, **values: int) -> str:
    registry_id = secrets.token_hex(4)
    values["created_us"] = time.time_ns() // 1000
    connection.execute(schema.registries.insert().values(registry_id=registry_id, **values))
    return registry_id


@functools.lru_cache
def _warn_of_network(path: str) -> None:
    if (kind := network_file_system(path)) is not None:
        log.warning(
            "%s lies on a network file system (%s), where SQLite cannot keep two machines from writing at"
            " once and spoiling it: write from one machine only, or move it to PostgreSQL"
            " (`hotpix-registry import %s --database postgresql://…`).",
            path,
            kind,
            Path(path).name,
        )


def _prefer_wal(engine: Engine) -> None:
    """Let readers and a writer get by, which a file made to be carried around does not need."""
    if network_file_system(str(engine.url.database)) is not None:  # WAL shares memory, as machines do not
        return
    with contextlib.suppress(sqlite3.Error):  # somebody reads it right now: it works as it is
        connection = sqlite3.connect(str(engine.url.database), timeout=1, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
