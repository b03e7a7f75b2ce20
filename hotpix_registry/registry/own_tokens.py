"""Where tokens are kept: in the registry, but those of a mirror's own service in a file beside it.

What a mirror holds is its source's, transaction by transaction. The file beside it is a registry of its own,
of which nothing but tokens is used.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from sqlalchemy.engine import URL, Engine

from hotpix_registry.catalogue import engine as databases
from hotpix_registry.catalogue import opening, queries, schema
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.catalogue.queries import TokenRow


def opened(mirror: Path, *, create: bool) -> Engine | None:
    """The tokens of a mirror's own service; None where there are none, and none is to be made.

    Raises
    ------
    SchemaError, DatabaseUnavailable
    """
    path = _beside(mirror)
    if not (create or path.exists()):
        return None
    engine = databases.connect(URL.create("sqlite", database=str(path)))
    try:
        found = opening.current_revision(engine)
        if create or found is not None:
            if found != schema.REVISION:
                opening.upgrade(engine)
            return engine
    except BaseException:
        engine.dispose()
        raise
    engine.dispose()
    return None


def in_force(mirror: Path) -> list[TokenRow]:
    """Those that have not been revoked."""
    engine = opened(mirror, create=False)
    if engine is None:
        return []
    try:
        with reading(engine) as connection:
            return [row for row in queries.tokens(connection) if row.revoked_us is None]
    finally:
        engine.dispose()


def forget(mirror: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            _beside(mirror).with_name(_beside(mirror).name + ending).unlink()


def _beside(mirror: Path) -> Path:
    return mirror.with_name(f"{mirror.name}.tokens")
