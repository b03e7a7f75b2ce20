"""Statements compiled once for all engines of a process.

SQLAlchemy keeps them for each engine, and a process of tests has thousands, which all ask the same: to
compile anew for each takes a sixth of the tests' time. Engines that would compile alike share what they have.
"""

from typing import Any

from sqlalchemy import util
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect


def _compiling(dialect: DefaultDialect) -> tuple[Any, ...]:
    """What a statement's text depends on."""
    escapes = getattr(dialect, "_backslash_escapes", None)
    return type(dialect), dialect.server_version_info, dialect.paramstyle, escapes


def _alike(one: DefaultDialect, other: object) -> bool:
    return one is other or (isinstance(other, DefaultDialect) and _compiling(one) == _compiling(other))


def share() -> None:
    DefaultDialect.__eq__ = _alike  # type: ignore[method-assign,assignment]
    DefaultDialect.__hash__ = lambda dialect: hash(type(dialect))  # type: ignore[method-assign]
    Engine._execution_options = util.immutabledict({"compiled_cache": util.LRUCache(3000)})
