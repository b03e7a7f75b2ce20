"""Statements that a driver runs by itself: for what every look-up asks, where each microsecond counts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Semaphore
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

T = TypeVar("T")


class Driver(NamedTuple):
    """A connection as its driver made it."""

    connection: Any
    """sqlite3.Connection or psycopg.Connection"""
    dialect: sa.Dialect

    @classmethod
    def of(cls, connection: Connection) -> Driver:
        """That beneath a connection of SQLAlchemy, whose transaction it shares."""
        return cls(connection.connection.driver_connection, connection.dialect)

    @property
    def writing(self) -> sa.Dialect:
        """The dialect in which statements are written for `connection.execute` with names."""
        made: Any = type(self.dialect)
        written: sa.Dialect = made(paramstyle="named" if self.dialect.name == "sqlite" else "pyformat")
        return written


class Prepared:
    """A statement that SQLAlchemy writes out once, and whose rows come as the driver gives them.

    That is right for numbers and texts, and takes a tenth of SQLAlchemy's own time.
    """

    def __init__(self, statement: sa.Select[Any]) -> None:
        self._statement = statement
        self._texts: dict[str, str] = {}

    def rows(self, driver: Driver, **values: Any) -> list[Any]:
        connection, dialect = driver
        text = self._texts.get(dialect.name)
        if text is None:
            text = self._texts[dialect.name] = str(self._statement.compile(dialect=driver.writing))
        return list(connection.execute(text, values).fetchall())


def many_rows(connection: Connection, statement: sa.Select[Any]) -> list[Any]:
    """The rows of a statement as the driver gives them, for when there are tens of thousands.

    That is right for numbers and texts, as in `Prepared`.
    """
    driver = Driver.of(connection)
    written = statement.compile(dialect=driver.writing, compile_kwargs={"render_postcompile": True})
    return list(driver.connection.execute(str(written), written.params).fetchall())


class NoneFree(Exception):
    """As many ask at once as may."""


class Prompt:
    """Queries of one statement with no transaction around them: one round trip, one state of the registry.

    Its connections are its own, as many as threads ask at once, or as it may have. Where one fails, or there
    are no more, whoever asked asks again within a transaction: that finds out whether the database is there,
    and says so.
    """

    def __init__(self, engine: Engine, *, most: int | None = None) -> None:
        self._engine = engine
        self._idle: deque[Driver] = deque()
        self._free = None if most is None else Semaphore(most)
        self.failures: tuple[type[Exception], ...] = (
            sa.exc.DBAPIError,
            sa.exc.TimeoutError,  # of the pool, by which connections are made
            failure(engine),
            NoneFree,
        )

    def ask(self, query: Callable[..., T], *arguments: Any) -> T:
        """What a query says, given a driver and its arguments; raises one of `failures`."""
        try:
            driver = self._idle.pop()
        except IndexError:
            driver = self._connect()
        try:
            found = query(driver, *arguments)
        except BaseException:
            driver.connection.close()
            self._give_back()
            raise
        self._idle.append(driver)
        return found

    def _connect(self) -> Driver:
        if self._free is not None and not self._free.acquire(blocking=False):
            raise NoneFree
        try:
            pooled = self._engine.raw_connection()
            driver = Driver(pooled.driver_connection, self._engine.dialect)
            pooled.detach()
            self._engine.dialect.set_isolation_level(driver.connection, "AUTOCOMMIT")
        except BaseException:
            self._give_back()
            raise
        return driver

    def _give_back(self) -> None:
        if self._free is not None:
            self._free.release()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().connection.close()
            self._give_back()


def failure(engine: Engine) -> type[Exception]:
    """What a driver raises when its database refuses or is not there."""
    error: type[Exception] = engine.dialect.loaded_dbapi.Error
    return error
