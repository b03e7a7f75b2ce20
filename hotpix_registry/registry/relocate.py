"""An archive that moved: frames looked for in their new folder, and believed by their bytes alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy.engine import Engine

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading, writing
from hotpix_registry.catalogue.queries import Act, Place
from hotpix_registry.errors import NoObject, UnreadableFrame, UsageError
from hotpix_registry.places import below, is_url, joined, marks, resolved
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


class _Found(NamedTuple):
    place: Place
    path: str
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

    Either may be a prefix of objects: `s3://bucket/darks`.

    Raises
    ------
    UsageError
        No frame lies under the old folder, or the new one is no folder.
    ObjectsUnavailable
        The store of the new place does not answer.
    """
    new = resolved(new)
    if not is_url(new) and not os.path.isdir(new):
        raise UsageError(f"{new} is no folder.", next_step="Name the folder where the frames are now.")
    places = _places(engine, old, new)
    report = Relocation(dry_run=dry_run)
    waiting: list[_Found] = []
    begun = time.monotonic()
    for number, (place, path) in enumerate(places, 1):
        found = _look(place, path)
        if isinstance(found, str):
            report.unmatched.append((place.path, path, found))
        else:
            report.moved.append((place.path, path))
            waiting.append(found)
        if len(waiting) >= _BATCH or time.monotonic() - begun > _BATCH_SECONDS:
            _write(engine, act, waiting, f"{old} → {new}", dry_run)
            waiting, begun = [], time.monotonic()
        if progress is not None:
            progress(number, len(places))
    _write(engine, act, waiting, f"{old} → {new}", dry_run)
    return report


def _places(engine: Engine, old: str, new: str) -> list[tuple[Place, str]]:
    """The places under the old folder, each with the path to look at."""
    with reading(engine) as connection:
        known = queries.places(connection)
    # a registry that came from another system has that system's paths, which mean nothing here
    for folder in dict.fromkeys((old, resolved(old))):
        found = [(p, joined(new, rest)) for p in known if (rest := below(p.path, folder))]
        if found:
            return found
    raise UsageError(
        f"No frame lies under {old}.",
        next_step=f"The first catalogued frame lies at {known[0].path}." if known else "None is catalogued.",
    )


def _look(place: Place, new: str) -> _Found | str:
    """The frame's file at its new place, or why what is there is not it."""
    try:
        now = marks(new)
        if not is_url(new) and not os.path.isfile(new):
            return "it is no file"
        if now.size_bytes != place.size_bytes:
            return f"it has {now.size_bytes} bytes instead of {place.size_bytes}"
        if sha256_of(new) != place.sha256:
            return "its bytes are others"
    except (FileNotFoundError, NotADirectoryError, NoObject):
        return "it is not there"
    except UnreadableFrame as error:
        return f"it cannot be read: {error.message}"
    except OSError as error:
        return f"it cannot be read: {(error.strerror or str(error)).lower()}"
    return _Found(place, new, now.size_bytes, now.mtime_ns)


def _write(engine: Engine, act: Act, found: list[_Found], reason: str, dry_run: bool) -> None:
    if not found or dry_run:
        return
    with writing(engine) as connection:
        tx = queries.open_transaction(
            connection, act, "relocate", now_us=time.time_ns() // 1000, reason=reason
        )
        queries.close_locations(connection, [one.place.location_id for one in found], tx)
        moved = [
            queries.Location(one.path, one.place.frame_id, one.size_bytes, one.mtime_ns) for one in found
        ]
        queries.put_locations(connection, moved, tx)
