"""An archive that moved: frames looked for in their new folder, and believed by their bytes alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue import schema as t
from hotpix_registry.catalogue.engine import reading, writing
from hotpix_registry.catalogue.queries import Act
from hotpix_registry.errors import UsageError
from hotpix_registry.registry.ingest import sha256_of

Progress = Callable[[int, int], None]

_BATCH = 200
_BATCH_SECONDS = 5.0


@dataclass(slots=True)
class Relocation:
    """What was found in the new folder, and what was not."""

    moved: list[tuple[str, str]] = field(default_factory=list)
    """(old path, new path)"""
    unmatched: list[tuple[str, str, str]] = field(default_factory=list)
    """(old path, new path, why it is not that frame)"""
    dry_run: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "moved": [{"old": old, "new": new} for old, new in self.moved],
            "unmatched": [{"old": old, "new": new, "reason": why} for old, new, why in self.unmatched],
            "dry_run": self.dry_run,
        }


class _Place(NamedTuple):
    location_id: int
    frame_id: int
    old: str
    new: str
    size_bytes: int
    sha256: str


class _Found(NamedTuple):
    place: _Place
    size_bytes: int
    mtime_ns: int


def relocate(
    engine: Engine,
    act: Act,
    old: str,
    new: str,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Relocation:
    """Let the frames under one folder lie under another where the same bytes are there.

    Raises
    ------
    UsageError
        No frame lies under the old folder, or the new one is no folder.
    """
    new = os.path.abspath(new)
    if not os.path.isdir(new):
        raise UsageError(f"{new} is no folder.", next_step="Name the folder where the frames are now.")
    places = _places(engine, old, new)
    report = Relocation(dry_run=dry_run)
    waiting: list[_Found] = []
    begun = time.monotonic()
    for number, place in enumerate(places, 1):
        found = _look(place)
        if isinstance(found, str):
            report.unmatched.append((place.old, place.new, found))
        else:
            report.moved.append((place.old, place.new))
            waiting.append(found)
        if len(waiting) >= _BATCH or time.monotonic() - begun > _BATCH_SECONDS:
            _write(engine, act, waiting, f"{old} → {new}", dry_run)
            waiting, begun = [], time.monotonic()
        if progress is not None:
            progress(number, len(places))
    _write(engine, act, waiting, f"{old} → {new}", dry_run)
    return report


def _places(engine: Engine, old: str, new: str) -> list[_Place]:
    c, f = t.locations.c, t.frames.c
    statement = (
        sa.select(c.id, c.frame_id, c.path, f.size_bytes, f.sha256)
        .join(t.frames, f.id == c.frame_id)
        .where(c.closed_tx.is_(None))
        .order_by(c.path)
    )
    with reading(engine) as connection:
        rows = connection.execute(statement).all()
    # a registry that came from another system has that system's paths, which mean nothing here
    for folder in dict.fromkeys((old, os.path.abspath(old))):
        places = [
            _Place(row.id, row.frame_id, row.path, os.path.join(new, *rest), row.size_bytes, row.sha256)
            for row in rows
            if (rest := _below(row.path, folder))
        ]
        if places:
            return places
    nearest = next((row.path for row in rows), None)
    raise UsageError(
        f"No frame lies under {old}.",
        next_step=f"The first catalogued frame lies at {nearest}." if nearest else "No frame is catalogued.",
    )


def _below(path: str, folder: str) -> list[str]:
    """The parts of a path below a folder, in either system's writing; none when it is not below it."""
    folder = folder.rstrip("/\\")
    if not path.startswith(folder) or path[len(folder) : len(folder) + 1] not in ("/", "\\"):
        return []
    rest = path[len(folder) :]
    return [part for part in (rest.split("/") if rest[0] == "/" else rest.split("\\")) if part]


def _look(place: _Place) -> _Found | str:
    """The frame's file at its new place, or why what is there is not it."""
    path = Path(place.new)
    try:
        stat = path.stat()
        if not path.is_file():
            return "it is no file"
        if stat.st_size != place.size_bytes:
            return f"it has {stat.st_size} bytes instead of {place.size_bytes}"
        if sha256_of(place.new) != place.sha256:
            return "its bytes are others"
    except (FileNotFoundError, NotADirectoryError):
        return "it is not there"
    except OSError as error:
        return f"it cannot be read: {(error.strerror or str(error)).lower()}"
    return _Found(place, stat.st_size, stat.st_mtime_ns)


def _write(engine: Engine, act: Act, found: list[_Found], reason: str, dry_run: bool) -> None:
    if not found or dry_run:
        return
    with writing(engine) as connection:
        tx = queries.open_transaction(
            connection, act, "relocate", now_us=time.time_ns() // 1000, reason=reason
        )
        queries.close_locations(connection, [one.place.location_id for one in found], tx)
        for one in found:
            queries.put_location(
                connection,
                one.place.frame_id,
                one.place.new,
                size_bytes=one.size_bytes,
                mtime_ns=one.mtime_ns,
                tx=tx,
            )
