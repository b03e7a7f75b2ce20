"""Answers that are kept as files beside those of the masks, for when the server cannot be reached.

There are never many more than `MOST_KEPT`: those go first that were not given for longest. Keys are digests,
so that their folders fill alike, and each is bounded by itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from hotpix_registry import __version__
from hotpix_registry.domain import canonical_json
from hotpix_registry.errors import StorageError
from hotpix_registry.files import make_folder, write_atomic

MOST_KEPT = 51_200
"""some 200 MB on a disk with blocks of 4 KB; a night of frames has hundreds"""
_MOST_IN_FOLDER = MOST_KEPT // 256
_TOUCHED_EVERY_S = 3600.0
"""how exactly it is known when an answer was given last"""


class Kept(NamedTuple):
    """What a server answered once."""

    told: dict[str, Any]
    etag: str | None
    at: str
    """when, UTC"""


def key_of(server: str, question: Any) -> str:
    """What an answer is kept under: server, question and version of this program, by digest."""
    return hashlib.sha256(canonical_json([__version__, server, question]).encode()).hexdigest()


def find(folder: Path, key: str) -> Kept | None:
    """The answer that was kept last; what is no whole answer counts as none."""
    try:
        path = _path(folder, key)
        stored = json.loads(path.read_bytes())
        if time.time() - path.stat().st_mtime > _TOUCHED_EVERY_S:
            with contextlib.suppress(OSError):  # a cache that cannot be written is read all the same
                os.utime(path)
        if stored["key"] == key and isinstance(stored["told"], dict):
            return Kept(stored["told"], stored["etag"], stored["at"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def keep(folder: Path, key: str, told: dict[str, Any], etag: str | None = None) -> None:
    """Write an answer whole or not at all; a cache that cannot be written keeps nothing."""
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    content = json.dumps({"key": key, "at": at, "etag": etag, "told": told}).encode()
    path = _path(folder, key)
    with contextlib.suppress(StorageError):
        make_folder(path.parent)
        write_atomic(path, content, lasting=False)
        _sweep(path.parent)


def _sweep(folder: Path) -> None:
    """Remove what was not given for longest, and an eighth more, so that it is not done each time."""
    with contextlib.suppress(OSError):
        found = os.listdir(folder)
        if len(found) <= _MOST_IN_FOLDER:
            return
        paths = sorted((folder / name for name in found), key=_last_given)
        for path in paths[: len(found) - _MOST_IN_FOLDER * 7 // 8]:
            with contextlib.suppress(OSError):  # another process sweeps at the same time
                path.unlink()


def _last_given(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _path(folder: Path, key: str) -> Path:
    return folder / "answers" / key[:2] / f"{key}.json"
