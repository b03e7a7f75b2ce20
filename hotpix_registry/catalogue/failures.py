"""What a database says of its own state, as a sentence; and what a person calls it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from hotpix_registry.catalogue.prompt import failure
from hotpix_registry.errors import (
    DatabaseAway,
    DatabaseUnavailable,
    IntegrityError,
    SchemaError,
    StorageError,
    UsageError,
)

BUSY_TIMEOUT_S = 60
"""for the one who writes to an SQLite file"""
RESTORE = "Restore a backup: `hotpix-registry import BACKUP --database NEW`."
ADDRESSES = "Give a file, sqlite:///FILE or postgresql://USER@HOST/NAME."


@contextmanager
def translated(engine: Engine) -> Iterator[None]:
    """Turn what a database says of its own state into a sentence; bugs keep their traceback."""
    try:
        yield
    except sa.exc.TimeoutError as error:  # of the pool, whose connections are all in use
        raise DatabaseAway(
            f"The registry {describe(engine)} is read by as many as it takes.", next_step="Try again."
        ) from error
    except json.JSONDecodeError as error:  # of a column that should hold some
        raise IntegrityError(
            f"The registry {describe(engine)} is damaged: a row of it is no JSON.", next_step=RESTORE
        ) from error
    except (sa.exc.DBAPIError, sqlite3.Error, failure(engine)) as error:
        where, own = describe(engine), getattr(error, "orig", error)
        text = str(own).strip().partition("\n")[0]
        state = getattr(own, "sqlstate", None)
        if state in _CUT or "conflict with recovery" in text:
            raise DatabaseAway(
                f"The registry {where} was not waited for any longer: {text}.", next_step="Try again."
            ) from error
        if "readonly" in text or "read-only" in text:
            raise DatabaseUnavailable(
                f"The registry {where} is read-only.",
                next_step="Give yourself write permission, or use a copy.",
            ) from error
        if full := next((said for said in _FULL if said in text.lower()), None):
            raise StorageError(
                f"The registry {where} could not be written: {text}.",
                next_step="Free some space, see that its folder is there, and try again.",
                reason=full,
            ) from error
        if "malformed" in text or "Could not decode" in text:
            what = text.partition(" with text ")[0]
            raise IntegrityError(f"The registry {where} is damaged: {what}.", next_step=RESTORE) from error
        if "not a database" in text:
            raise SchemaError(
                f"{where} is no registry: {text}.", next_step="Choose another file with --database."
            ) from error
        if "permission denied" in text or "no schema has been selected" in text:
            raise DatabaseUnavailable(
                f"The registry {where} may not be used: {text}.",
                next_step="Ask its owner for the right, or use another role.",
            ) from error
        if "database is locked" in text:
            raise DatabaseAway(
                f"The registry {where} was busy for {BUSY_TIMEOUT_S} s.", next_step="Try again."
            ) from error
        if "unsupported startup parameter" in text:
            raise DatabaseUnavailable(
                f"The registry {where} lies behind a pooler that takes no options.",
                next_step="Set HOTPIX_DATABASE_POOLER=pgbouncer.",
            ) from error
        if "no session came free" in text or "query_wait_timeout" in text:
            raise DatabaseAway(
                f"The pooler before the registry {where} gives no session: {text}.",
                next_step="Use its transaction mode, or let default_pool_size be HOTPIX_DATABASE_CONNECTIONS"
                " times the processes that there are.",
            ) from error
        if "invalid connection option" in text:
            raise UsageError(
                f"The registry {where} cannot be reached: {text}.", next_step=ADDRESSES
            ) from error
        if _is_unreachable(engine, own):
            away = DatabaseUnavailable if engine.dialect.name == "sqlite" else DatabaseAway
            raise away(
                f"The registry {where} cannot be reached: {text}.",
                next_step="Check --database or HOTPIX_DATABASE_URL, and that the server runs.",
            ) from error
        raise


def _is_unreachable(engine: Engine, error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        return "unable to open database file" in str(error)
    state = getattr(error, "sqlstate", None)
    refused = ("08", "28", "3D", "53", "57")  # connection, log-in, no such database, resources, shut down
    return isinstance(error, engine.dialect.loaded_dbapi.OperationalError) and (
        state is None or state.startswith(refused)
    )


_CUT = ("57014", "55P03", "25P03")
"""by which PostgreSQL says that a statement, a wait for a lock or a transaction took longer than it may"""
_FULL = ("disk is full", "no space left", "disk i/o error")
_PLACE = ("host", "port", "dbname", "user")
"""what of a URL's query is no secret, and says where a database is"""


def describe(engine: Engine) -> str:
    """What a person calls this database; never with a password."""
    if engine.dialect.name == "sqlite":
        return str(engine.url.database)
    url = engine.url.set(query={key: engine.url.query[key] for key in _PLACE if key in engine.url.query})
    return url.render_as_string(hide_password=True).replace("+psycopg", "")
