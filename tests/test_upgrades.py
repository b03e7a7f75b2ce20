"""A registry that any earlier version wrote is upgraded, and answers as it did."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from hotpix_registry.catalogue import engine as databases
from hotpix_registry.catalogue import opening, schema
from hotpix_registry.registry import Registry
from tests.cli.conftest import Hotpix
from tests.upgrades import tell

KEPT = Path(tell.__file__).parent
REVISIONS = sorted(path.name.removesuffix(".sqlite.gz") for path in KEPT.glob("*.sqlite.gz"))


def test_a_registry_of_every_revision_is_kept() -> None:
    assert opening.known_revisions() == REVISIONS


def rows_of(path: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        for (name,) in connection.execute(names).fetchall():
            yield name, [dict(row) for row in connection.execute(f"SELECT * FROM {name}")]


def restore(path: Path, database: str, revision: str) -> None:
    """Put the rows of a file into PostgreSQL, as a version of that time would have written them."""
    engine = databases.connect(databases.parse_url(database))
    opening.upgrade(engine, to=revision, then=lambda _: None)
    old = sa.MetaData()
    old.reflect(engine)
    with databases.writing(engine) as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        for name, rows in rows_of(path):
            if name == "alembic_version" or not rows:
                continue
            table = old.tables[name]
            for row in rows:
                for column in table.columns:
                    if isinstance(column.type, sa.Boolean) and row[column.name] is not None:
                        row[column.name] = bool(row[column.name])
                    if isinstance(column.type, sa.JSON) and row[column.name] is not None:
                        row[column.name] = json.loads(row[column.name])
            connection.execute(table.insert(), rows)
            for column in table.primary_key:
                if column.identity is not None or column.autoincrement is True:
                    sequence = f"pg_get_serial_sequence('{name}', '{column.name}')"
                    newest = f"(SELECT max({column.name}) FROM {name})"
                    connection.exec_driver_sql(
                        f"SELECT setval({sequence}, {newest}) WHERE {sequence} IS NOT NULL"
                    )
    engine.dispose()


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_older_registry_answers_after_its_upgrade_as_it_did(
    empty_database: str, tmp_path: Path, revision: str
) -> None:
    path = tmp_path / "registry.sqlite"
    path.write_bytes(gzip.decompress((KEPT / f"{revision}.sqlite.gz").read_bytes()))
    if "://" in empty_database:
        restore(path, empty_database, revision)
    told = json.loads((KEPT / f"{revision}.json").read_text())
    Hotpix(tmp_path, empty_database)("db", "upgrade").ended_with(0, schema.REVISION)
    with Registry(empty_database) as registry:
        assert tell.answers(registry) == told["answers"]
        for answer in told["answers"].values():
            if "receipt" in answer:
                assert registry.replay(answer["receipt"]).answer.sha256 == answer["sha256"]
        dq = {str(mask["mask_id"]): registry.mask_dq(mask["mask_id"]).sum() for mask in registry.masks()}
        assert dq == told["dq"]
        assert registry.verify(frames=False).findings == []
        registry.exclude(["1"], reason="it goes on")
        assert registry.log()[-1]["reason"] == "it goes on"
