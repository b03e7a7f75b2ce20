"""Opening a registry: its schema is made, recognised, refused, upgraded and checked."""

from __future__ import annotations

import functools
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine

from hotpix_registry.catalogue import schema
from hotpix_registry.catalogue.engine import add_id, connect, reading, transaction
from hotpix_registry.catalogue.failures import BUSY_TIMEOUT_S, describe, translated
from hotpix_registry.catalogue.replicas import Replicated
from hotpix_registry.errors import (
    DatabaseUnavailable,
    NoRegistry,
    SchemaError,
    UsageError,
)
from hotpix_registry.files import network_file_system
from hotpix_registry.settings import data_dir

if TYPE_CHECKING:
    from alembic.config import Config

APPLICATION_ID = 0x486F7470  # "Hotp": what `file` and `PRAGMA application_id` show of our SQLite files
_REPLICA_CONNECT_TIMEOUT_S = 3


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
    with transaction(engine) as connection:
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
        add_id(connection)


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
