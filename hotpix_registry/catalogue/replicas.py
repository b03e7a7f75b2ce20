"""Reading from a replica of the database, and never anything older than what was told before.

A replica follows its primary a little later. What is read through `Replicated` comes from the replica as long
as that knows the newest transaction that this process, or whoever asks now, has heard of; else, and where the
replica is away, from the primary.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from hotpix_registry.catalogue import schema
from hotpix_registry.catalogue.prompt import failure
from hotpix_registry.errors import DatabaseUnavailable, UsageError

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_S = 15.0
"""how long a replica that was away, or not as it must be, is left in peace"""

heard_of: ContextVar[int] = ContextVar("heard_of", default=0)
"""the newest transaction that whoever asks knows of"""
_at_primary: ContextVar[bool] = ContextVar("at_primary", default=False)


@contextmanager
def at_primary() -> Iterator[None]:
    """What is read within is read at the primary."""
    before = _at_primary.set(True)
    try:
        yield
    finally:
        _at_primary.reset(before)


_of: dict[Engine, Replicated] = {}


def replicated(primary: Engine) -> Replicated | None:
    """The replica that is read instead of a database, if there is one."""
    return _of.get(primary)


class Replicated:
    """A database and a replica of it.

    Parameters
    ----------
    described
        what a person calls the replica
    revision
        the schema that it must have
    """

    def __init__(self, primary: Engine, replica: Engine, *, described: str, revision: str) -> None:
        self.primary, self.replica = primary, replica
        self._described, self._revision = described, revision
        self._lock = Lock()
        self._told_tx = 0
        self._is_proven = False
        self._known_id: str | None = None
        self._not_before = 0.0
        self._amiss = ""
        event.listen(replica, "connect", self._is_new)
        _of[primary] = self

    def close(self) -> None:
        self.replica.dispose()
        _of.pop(self.primary, None)

    def _is_new(self, *_: object) -> None:
        self._is_proven = False  # behind the same address another server may answer

    def is_read_by(self, engine: Engine) -> bool:
        """Whether a transaction of an engine will do for what is read now."""
        return engine is self.primary or (engine is self.replica and not _at_primary.get())

    @property
    def dialect(self) -> sa.Dialect:
        return self.primary.dialect

    @property
    def least_tx(self) -> int:
        """The transaction that whatever is read now must know."""
        return max(self._told_tx, heard_of.get())

    def note(self, tx: int) -> None:
        """A transaction has been told, or written, here."""
        with self._lock:
            self._told_tx = max(self._told_tx, tx)

    @property
    def is_usable(self) -> bool:
        """Whether the replica is worth asking."""
        return not _at_primary.get() and time.monotonic() >= self._not_before

    @property
    def is_proven(self) -> bool:
        """Whether it has been seen to follow the primary, and is worth asking."""
        return self._is_proven and self.is_usable

    def prove(self) -> None:
        """Look whether the replica follows the primary.

        Raises
        ------
        UsageError
            It is a database of something else, of another registry, or of another past.
        """
        with self._connected() as connection:
            if connection is not None:
                self._prove(connection)

    @contextmanager
    def connected(self) -> Iterator[Connection | None]:
        """A transaction of the replica that knows all that it must; None where there is none."""
        with self._connected() as connection:
            if connection is not None and self._knows_enough(connection):
                yield connection
            else:
                yield None

    @contextmanager
    def _connected(self) -> Iterator[Connection | None]:
        connection = self._begun() if self.is_usable else None
        if connection is None:
            yield None
            return
        try:
            yield connection
        finally:
            connection.close()

    def _begun(self) -> Connection | None:
        try:
            connection = self.replica.connect()
        except sa.exc.TimeoutError:  # as many read there as it takes
            return None
        except (sa.exc.DBAPIError, failure(self.replica)) as error:
            self.leave(str(getattr(error, "orig", error)).strip().partition("\n")[0])
            return None
        connection.begin()
        return connection

    def _knows_enough(self, connection: Connection) -> bool:
        try:
            if not self._is_proven:
                self._prove(connection)
            tx = newest_tx(connection)
        except UsageError as error:
            self.leave(error.message)
            return False
        except sa.exc.DBAPIError as error:
            self.leave(str(error.orig).strip().partition("\n")[0])
            return False
        if not self._is_proven or tx < self.least_tx:
            return False
        self.note(tx)
        return True

    def _prove(self, connection: Connection) -> None:
        if not sa.inspect(connection).has_table("alembic_version"):
            return self.leave("it has no registry yet")
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        if found != self._revision:
            return self.leave(f"it has the schema {found}, and not yet {self._revision}")
        first_id = _first_id(connection)
        try:
            with self.primary.connect() as primary:
                self._compare(connection, first_id, primary)
        except (sa.exc.DBAPIError, failure(self.primary)):
            if (
                first_id is None or first_id != self._known_id
            ):  # else the primary is away, and it was proven before
                raise
        self._known_id = first_id
        if self._amiss:
            log.warning("%s is read from again.", self._described)
        self._is_proven, self._amiss = True, ""

    def _compare(self, connection: Connection, first_id: str | None, primary: Connection) -> None:
        if first_id != _first_id(primary):
            raise UsageError(
                f"{self._described} is no replica: it holds another registry.",
                next_step="Correct HOTPIX_DATABASE_READ_URL, or unset it.",
            )
        newest = _act(connection, newest_tx(connection))
        if newest is not None and _act(primary, newest[0]) != newest:
            raise UsageError(
                f"{self._described} is no replica: its transaction {newest[0]} is another one.",
                next_step="Make it anew from the primary, or unset HOTPIX_DATABASE_READ_URL.",
            )

    def leave(self, why: str) -> None:
        """Read at the primary for a while, and say so once."""
        self._is_proven, self._not_before = False, time.monotonic() + RETRY_S
        if why != self._amiss:
            self._amiss = why
            log.warning("%s is not read from for now (%s); the primary is.", self._described, why)


def newest_tx(connection: Connection) -> int:
    x = schema.transactions.c.tx
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(x), 0))).scalar_one())


def _first_id(connection: Connection) -> str | None:
    r = schema.registries.c
    found = connection.execute(sa.select(r.registry_id).order_by(r.from_tx, r.created_us).limit(1)).scalar()
    return None if found is None else str(found)


def _act(connection: Connection, tx: int) -> tuple[int, int, str] | None:
    x = schema.transactions.c
    row = connection.execute(sa.select(x.tx, x.at_us, x.actor).where(x.tx == tx)).first()
    return None if row is None else (row.tx, row.at_us, row.actor)


def retried(source: Engine | Replicated, ask: Callable[[], T]) -> T:
    """What is asked for; asked again at the primary where the replica does not have it, or went away."""
    if not isinstance(source, Replicated) or not source.is_usable:
        return ask()
    try:
        return ask()
    except (LookupError, UsageError, DatabaseUnavailable):
        with at_primary():
            return ask()
