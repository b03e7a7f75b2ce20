"""Answers that are kept as files beside those of the masks, for when the server cannot be reached."""

from __future__ import annotations

import contextlib
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from hotpix_registry import __version__
from hotpix_registry.domain import canonical_json
from hotpix_registry.errors import StorageError
from hotpix_registry.files import make_folder, write_atomic


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
        stored = json.loads(_path(folder, key).read_bytes())
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


def _path(folder: Path, key: str) -> Path:
    return folder / "answers" / key[:2] / f"{key}.json"
