"""Claims: what a process is at, so that no other begins it; a claim is gone with whoever held it.

PostgreSQL keeps them as advisory locks of a session, SQLite as locks of the operating system on bytes of
an empty file beside the database. Neither needs to be cleaned up after a process that was killed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from hotpix_registry import settings
from hotpix_registry.catalogue.failures import translated
from hotpix_registry.files import storage_error

_FILE_BYTES = 1 << 30
"""a lock's place in the file; two keys at one place are worked on one after the other"""


class Claims(Protocol):
    """What this process has claimed; keys are hexadecimal digests. Threads of one process share them."""

    def take(self, key: str) -> bool:
        """Claim a key; False: another process has it."""
        ...

    def give_back(self, key: str) -> None: ...


@contextmanager
def claims(engine: Engine) -> Iterator[Claims]:
    """Claims on keys of a registry; they end with the block, or with the process.

    Raises
    ------
    StorageError
        No file can be made beside the SQLite database.
    """
    if engine.dialect.name == "sqlite":
        path = Path(str(engine.url.database) + "-claims")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise storage_error(path, error) from error
        try:
            yield _FileClaims(descriptor)
        finally:
            os.close(descriptor)
        return
    held = _SessionClaims(engine)
    try:
        yield held
    finally:
        held.close()


class _FileClaims:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def take(self, key: str) -> bool:
        return _lock(self._descriptor, int(key, 16) % _FILE_BYTES)

    def give_back(self, key: str) -> None:
        _unlock(self._descriptor, int(key, 16) % _FILE_BYTES)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, place: int) -> bool:
        os.lseek(descriptor, place, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int, place: int) -> None:
        os.lseek(descriptor, place, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int, place: int) -> bool:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int, place: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, place)


class _SessionClaims:
    """Locks of a session of its own; after the server was away they are taken anew."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._session: Connection | None = None
        self._held: set[str] = set()

    def take(self, key: str) -> bool:
        taken = self._ask(sa.func.pg_try_advisory_lock(_number(key)))
        if taken:
            self._held.add(key)
        return taken

    def give_back(self, key: str) -> None:
        self._held.discard(key)
        self._ask(sa.func.pg_advisory_unlock(_number(key)))

    def close(self) -> None:
        if self._session is not None:
            # what goes back into the pool keeps its locks
            self._session.invalidate()
            self._session.close()

    def _ask(self, function: sa.Function[bool]) -> bool:
        with translated(self._engine):
            try:
                return bool(self._open().scalar(sa.select(function)))
            except sa.exc.DBAPIError:
                with suppress(sa.exc.DBAPIError):
                    self.close()
                self._session = None
                raise

    def _open(self) -> Connection:
        if self._session is None:
            # a pooler leaves a session to whoever has a transaction open in it
            level = "READ COMMITTED" if settings.database_pooler() else "AUTOCOMMIT"
            session = self._engine.connect().execution_options(isolation_level=level)
            for key in self._held:  # one that somebody else has got meanwhile is built twice and stored once
                session.scalar(sa.select(sa.func.pg_try_advisory_lock(_number(key))))
            self._session = session
        return self._session


def _number(key: str) -> sa.BindParameter[int]:
    return sa.literal(int(key[:15], 16), sa.BigInteger)
