"""How PostgreSQL is connected to: how many connections, which time-outs, what stands in between."""

from __future__ import annotations

import select
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine

from hotpix_registry import settings

_CONNECT_TIMEOUT_S = 15
_KEPT_OPEN = 5
"""connections that a pool keeps when nobody uses them"""
POOL_WAIT_S = 10.0
"""for one of them to come back"""
_IDLE_S = 60.0
_HERE = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}
_THERE = {f"tcp_{name}": value for name, value in _HERE.items()}
"""A host that is gone is noticed within a minute at either end: it may hold the lock of all who write."""


def connect(url: URL, *, statement_s: float | None) -> Engine:
    """An engine whose transactions are snapshots; nothing is opened yet.

    Parameters
    ----------
    statement_s
        how long a statement may take; None: as long as it takes
    """
    pooled, bounds = settings.database_pooler(), _bounds(statement_s)
    given = {"connect_timeout": str(_CONNECT_TIMEOUT_S), **_HERE}
    given = {name: value for name, value in given.items() if name not in url.query}
    if not pooled:
        told = [f"-c {name}={value}" for name, value in (_THERE | bounds).items()]
        given["options"] = " ".join([*told, str(url.query.get("options", ""))]).strip()  # the user's win
    most = settings.database_connections() - prompt_connections()
    engine = sa.create_engine(
        url.update_query_dict(given),
        isolation_level="REPEATABLE READ",
        pool_pre_ping=True,
        pool_size=min(_KEPT_OPEN, most),
        max_overflow=max(0, most - _KEPT_OPEN),
        pool_timeout=POOL_WAIT_S,
        connect_args={"prepare_threshold": None} if pooled else {},
    )
    if pooled:
        event.listen(engine, "do_connect", _seated)
    if pooled and bounds:
        event.listen(engine, "begin", _bounding(bounds))
    return engine


def prompt_connections() -> int:
    """How many of a process's connections are for look-ups that need no transaction."""
    return max(1, settings.database_connections() // 3)


def _bounds(statement_s: float | None) -> dict[str, str]:
    """Time-outs for statements, and for transactions that wait for the next one, as the server calls them."""
    if statement_s is None:
        return {}
    return {
        "statement_timeout": f"{1000 * statement_s:.0f}ms",
        "idle_in_transaction_session_timeout": f"{1000 * max(_IDLE_S, 2 * statement_s):.0f}ms",
    }


def _seated(dialect: sa.Dialect, _record: Any, arguments: Any, named: Any) -> Any:
    """A connection for which the pooler has a session of the database.

    It lets everybody in, and whoever finds none free waits with his first statement, two minutes or for ever.
    """
    connection: Any = dialect.connect(*arguments, **named)
    line = connection.pgconn
    try:
        line.send_query(b"SELECT 1")
        while line.flush():
            select.select([], [line.socket], [], POOL_WAIT_S)
        if not select.select([line.socket], [], [], POOL_WAIT_S)[0]:
            raise dialect.loaded_dbapi.OperationalError(f"no session came free within {POOL_WAIT_S:g} s")
        told = b""
        while (result := line.get_result()) is not None:
            told = told or result.error_message
        if told:
            raise dialect.loaded_dbapi.OperationalError(told.decode(errors="replace").strip())
    except BaseException:
        connection.close()
        raise
    return connection


def _bounding(bounds: dict[str, str]) -> Any:
    """Time-outs of one transaction: a pooler hands sessions on, and takes no options for them."""

    def begin(connection: Connection) -> None:
        for name, value in bounds.items():
            connection.exec_driver_sql(f"SET LOCAL {name} = '{value}'")

    return begin
