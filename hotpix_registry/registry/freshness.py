"""When a mirror was last brought up to date: a small file beside it, since that is no part of its history."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from hotpix_registry.files import write_atomic
from hotpix_registry.instants import iso

WARN_AFTER_H = 1.0
_US_PER_H = 3_600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """What is known of the last sync that came to its end."""

    source: str
    """what a person calls it; never with a password"""
    at_us: int
    """when the source was asked for what is new, and said that this is all"""
    warn_after_h: float

    @property
    def at(self) -> str:
        """That instant, to the second."""
        return iso(self.at_us // 1_000_000 * 1_000_000) or ""


class Age(NamedTuple):
    """What is said of how old a mirror is."""

    known: Freshness | None
    lag: str | None
    """A sentence when it is older than it may be.

    It stays the same until the next sync, so that answers with it can be kept as long.
    """


_held: ContextVar[Age | None] = ContextVar("held", default=None)


def age(database: Path) -> Age:
    """How old a mirror is; within `held_age` what was said at its beginning."""
    return _held.get() or _look(database)


@contextmanager
def held_age(database: Path) -> Iterator[None]:
    """Within, all that is said of a mirror's age is of one look at it."""
    before = _held.set(_look(database))
    try:
        yield
    finally:
        _held.reset(before)


def _look(database: Path) -> Age:
    known = read(database)
    return Age(known, _lag(known))


def read(database: Path) -> Freshness | None:
    """What is known; None where nothing is, or what is there cannot be read."""
    try:
        told = json.loads(_path(database).read_bytes())
        return Freshness(
            source=str(told["source"]), at_us=int(told["at_us"]), warn_after_h=float(told["warn_after_h"])
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write(database: Path, freshness: Freshness) -> None:
    """Keep it, whole or not at all.

    Raises
    ------
    StorageError
    """
    write_atomic(_path(database), json.dumps(asdict(freshness)).encode())


def forget(database: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        _path(database).unlink()


def _lag(known: Freshness | None) -> str | None:
    if known is None:
        return "This is a mirror, and it is not known when it was last brought up to date."
    age_us = time.time_ns() // 1000 - known.at_us
    if age_us <= known.warn_after_h * _US_PER_H:
        return None
    return (
        f"This mirror of {known.source} was last brought up to date at {known.at}, "
        f"over {known.warn_after_h:g} h ago."
    )


def _path(database: Path) -> Path:
    return database.with_name(f"{database.name}.synced")
