"""Opening a database: addresses, connections, transactions, schema."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url

from hotpix_registry.catalogue import schema
from hotpix_registry.catalogue.failures import ADDRESSES, BUSY_TIMEOUT_S, describe, translated
from hotpix_registry.catalogue.replicas import Replicated, newest_tx, replicated
from hotpix_registry.errors import (
    Conflict,
    DatabaseUnavailable,
    NoRegistry,
    SchemaError,
    UsageError,
)
from hotpix_registry.files import network_file_system
from hotpix_registry.settings import data_dir

if TYPE_CHECKING:
    from alembic.config import Config

log = logging.getLogger(__name__)

APPLICATION_ID = 0x486F7470  # "Hotp": what `file` and `PRAGMA application_id` show of our SQLite files
REGISTRY, WHOLE_COPY, PART_COPY, MIRROR = 0, 1, 2, 3
"""What `PRAGMA user_version` says: a registry that goes on, an export of one or of a part of one, or a copy
that follows its source."""
_ADVISORY_LOCK = 0x486F7470
_REPLICA_CONNECT_TIMEOUT_S = 3


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
    with _transaction(engine) as connection:
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
    with _transaction(engine) as connection:
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
def _transaction(engine: Engine) -> Iterator[Connection]:
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
    new_id = _add_id(connection, from_tx=(last or 0) + 1)
    if marked:
        mark_copy(connection, 0)
    return new_id


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


# --- schema -------------------------------------------------------------------


def open_database(url: URL, *, create: bool, statement_s: float | None = None) -> Engine:
    """An engine on a registry of this version's schema.

    A database without any table becomes a registry when `create` is true, for which `statement_s` does not
    hold.

    Raises
    ------
    SchemaError
        Nothing is there, something else is there, or the schema is another version's.
    DatabaseUnavailable
        The database does not answer.
    """
    engine = connect(url, statement_s=statement_s)
    try:
        _open(engine, create=create)
    except BaseException:
        engine.dispose()
        raise
    return engine


def open_replica(primary: Engine, url: URL, *, statement_s: float | None = None) -> Replicated:
    """A database with a replica of it, from which look-ups are read.

    A replica that does not answer, or has not come that far, is waited for: the primary is read till then.

    Raises
    ------
    UsageError
        It is none of that database.
    """
    if "sqlite" in (primary.dialect.name, url.drivername):
        raise UsageError(
            "Only a PostgreSQL registry has a replica that is read from, on PostgreSQL too.",
            next_step="Unset HOTPIX_DATABASE_READ_URL; `hotpix-registry sync` keeps a copy in SQLite.",
        )
    if "connect_timeout" not in url.query:  # there is the primary to be asked
        url = url.update_query_dict({"connect_timeout": str(_REPLICA_CONNECT_TIMEOUT_S)})
    replica = connect(url, statement_s=statement_s)
    both = Replicated(primary, replica, described=describe(replica), revision=current_revision(primary) or "")
    try:
        both.prove()
    except BaseException:
        both.close()
        raise
    return both


def refuse_programs(url: URL) -> None:
    """Refuse an SQLite file that holds more than rows: reading a view may compute for ever.

    Raises
    ------
    SchemaError
    """
    engine = connect(url)
    try:
        with reading(engine) as connection:
            name = connection.exec_driver_sql(
                "SELECT name FROM sqlite_master WHERE type = 'view' OR sql LIKE 'CREATE VIRTUAL%'"
            ).scalar()
    finally:
        engine.dispose()
    if name is not None:
        raise SchemaError(
            f"{url.database} is no registry: its {name} is no table.",
            next_step="Ask whoever made it for an export.",
        )


def _open(engine: Engine, *, create: bool) -> None:
    found = current_revision(engine)
    if found is None and create:
        upgrade(engine)
    elif found != schema.REVISION:
        raise _wrong_revision(engine, found)


def _wrong_revision(engine: Engine, found: str | None) -> SchemaError:
    where = describe(engine)
    if found is None:
        return NoRegistry(
            f"There is no registry at {where} yet.",
            next_step="`hotpix-registry ingest` makes one; --database names another.",
        )
    if found in known_revisions():
        return SchemaError(
            f"The registry {where} has the older schema {found}.",
            next_step="Run `hotpix-registry db upgrade`.",
        )
    return SchemaError(
        f"The registry {where} has schema {found}, which this version does not know.",
        next_step="Upgrade hotpix-registry.",
    )


def current_revision(engine: Engine) -> str | None:
    """The schema's revision; None for a database without any table, or a file that is not there.

    Raises
    ------
    SchemaError
        The database holds tables of something else.
    """
    if engine.dialect.name == "sqlite":
        path = Path(str(engine.url.database))
        if os.path.isdir(path):
            raise SchemaError(f"{path} is a folder.", next_step="Name the registry's file with --database.")
        if not os.path.exists(path):
            return None
    with reading(engine) as connection:
        if engine.dialect.name == "sqlite":
            tables = (
                connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")
                .scalars()
                .all()
            )
        else:
            tables = sa.inspect(connection).get_table_names()
        if not tables:
            return None
        if "registries" in tables and "alembic_version" in tables:
            found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
            if found is not None:
                return str(found)
    raise SchemaError(
        f"{describe(engine)} is a database of something else.", next_step="Choose another with --database."
    )


def known_revisions() -> list[str]:
    """Revisions from the first to the newest."""
    from alembic.script import ScriptDirectory

    return [script.revision for script in ScriptDirectory.from_config(_alembic()).walk_revisions()][::-1]


def upgrade(engine: Engine, *, to: str = "head", then: Callable[[Connection], None] | None = None) -> None:
    """Bring a database to the newest schema, or to that of a revision, in one transaction.

    `then` fills a new one within the same transaction; by default it gets an id.

    Raises
    ------
    SchemaError
        It holds something else, or a schema that this version does not know; nothing is changed.
    """
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine, Path(str(engine.url.database)))
    found = current_revision(engine)
    if found is not None and found not in known_revisions():
        raise _wrong_revision(engine, found)
    with _transaction(engine) as connection:
        if to == "head" and _is_empty_sqlite(connection):
            for statement in _sqlite_schema():
                connection.exec_driver_sql(statement)
            connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (schema.REVISION,))
        else:
            _migrate(connection, to)
        (then or identify)(connection)


def _migrate(connection: Connection, to: str) -> None:
    from alembic import command

    config = _alembic()
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def _is_empty_sqlite(connection: Connection) -> bool:
    if connection.dialect.name != "sqlite":
        return False
    return connection.exec_driver_sql("SELECT 1 FROM sqlite_master").first() is None


@functools.cache
def _sqlite_schema() -> tuple[str, ...]:
    """The schema that the migrations make of an empty SQLite file: they take a tenth of a second."""
    memory = sa.create_engine("sqlite://")
    with memory.begin() as connection:
        _migrate(connection, "head")
        made = connection.exec_driver_sql(
            "SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid"
        ).scalars()
        statements = tuple(map(str, made))
    memory.dispose()
    return statements


def _prepare_sqlite(engine: Engine, path: Path) -> None:
    try:
        if path.exists() and path.stat().st_size and current_revision(engine) is not None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise DatabaseUnavailable(
            f"No registry can be made at {path}: {error.strerror}.",
            next_step="Name another file with --database.",
        ) from error
    try:
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    except sqlite3.Error as error:
        raise DatabaseUnavailable(
            f"The registry {path} cannot be opened: {error}.", next_step="Name another file with --database."
        ) from error
    try:
        with translated(engine):
            mode = "WAL" if network_file_system(path) is None else "DELETE"
            if connection.execute("PRAGMA journal_mode").fetchone() != (mode.lower(),):
                connection.execute(f"PRAGMA journal_mode = {mode}")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    except sqlite3.DatabaseError as error:
        raise SchemaError(
            f"{path} cannot become a registry: {error}.", next_step="Name another file with --database."
        ) from error
    finally:
        connection.close()


def identify(connection: Connection) -> None:
    """Give a registry that has no id yet a new one."""
    if connection.execute(sa.select(schema.registries.c.registry_id)).first() is None:
        # an older schema, which a test makes, has no column from_tx yet
        _add_id(connection)


def _add_id(connection: Connection, **values: int) -> str:
    registry_id = secrets.token_hex(4)
    values["created_us"] = time.time_ns() // 1000
    connection.execute(schema.registries.insert().values(registry_id=registry_id, **values))
    return registry_id


def _alembic() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(data_dir("migrations")))
    return config


def check(engine: Engine) -> list[str]:
    """What is amiss with the schema itself: differing tables, missing guards; empty when all is well."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    schema.spell_out_indexes(engine.dialect.name)
    with reading(engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        amiss = [
            f"the schema differs: {difference!r}" for difference in compare_metadata(context, schema.metadata)
        ]
        if engine.dialect.name == "sqlite":
            found = set(
                connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars()
            )
        else:
            statement = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'"
            found = set(connection.exec_driver_sql(statement).scalars())
    amiss += [f"the guard {name} is missing" for name in sorted(schema.guards(engine.dialect.name) - found)]
    return amiss
