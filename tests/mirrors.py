"""What a mirror must hold: the rows of its source, as they were at the mirror's newest transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import copying, schema
from hotpix_registry.catalogue import engine as databases
from hotpix_registry.catalogue.engine import parse_url
from hotpix_registry.registry import Registry

EVER = 2**62


@contextmanager
def looking_at(database: str | Path) -> Iterator[Connection]:
    engine = databases.connect(parse_url(str(database)))
    try:
        with databases.reading(engine) as connection:
            yield connection
    finally:
        engine.dispose()


def rows(database: str | Path, until: int = EVER) -> dict[str, list[Any]]:
    """All rows that a registry had at a transaction, as they were then."""
    found: dict[str, list[Any]] = {}
    with looking_at(database) as connection:
        for table in copying.tables():
            kept = [row for batch in copying.rows(connection, table) for row in batch]
            if table is schema.mask_inputs:
                known = {row["id"] for row in found["masks"]}
                kept = [row for row in kept if row["mask_id"] in known]
            else:
                kept = [row for row in kept if row[copying.born(table).name] <= until]
            for row in kept:
                if (row.get("closed_tx") or 0) > until:
                    row["closed_tx"] = None
                row |= {n: hashlib.sha256(v).hexdigest() for n, v in row.items() if isinstance(v, bytes)}
            found[table.name] = kept
    return found


def newest(database: str | Path) -> int:
    with Registry(str(database)) as registry:
        return registry.state()[1]


def is_as_its_source_was(copy: Path, source: str | Path) -> bool:
    with Registry(str(copy)) as registry:
        assert registry.verify().findings == []
    return rows(copy) == rows(source, newest(copy))
