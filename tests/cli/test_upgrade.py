"""An upgrade keeps a copy, and one that fails leaves the registry as it was."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from hotpix_registry.catalogue import engine as databases
from hotpix_registry.catalogue import opening, schema
from tests.cli.conftest import CHECKOUT, Hotpix

LOOK_UP = ("mask", "--camera", "smallcam-48", "--date", "2021-03-04")
FIRST = "20261123_0001"
BAD = """
from alembic import op

revision = "20990101_0001"
down_revision = "{newest}"
branch_labels = depends_on = None


def upgrade() -> None:
    op.execute("CREATE TABLE half_done (id INTEGER)")
    op.execute("INSERT INTO half_done VALUES (1)")
    {end}
"""


def older(path: Path) -> None:
    """A registry of the first schema."""
    engine = databases.connect(databases.parse_url(str(path)))
    opening.upgrade(engine, to=FIRST)
    engine.dispose()


def everything_in(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def test_an_older_registry_is_copied_before_it_is_upgraded(hotpix: Hotpix) -> None:
    path = hotpix.cwd / "registry.sqlite"
    older(path)
    before = everything_in(path)
    hotpix("db", "upgrade").ended_with(0, f"registry.sqlite.bak-{FIRST}", schema.REVISION)
    assert everything_in(hotpix.cwd / f"registry.sqlite.bak-{FIRST}") == before
    hotpix("verify").ended_with(0)
    hotpix("db", "upgrade").ended_with(0)
    assert sorted(p.name for p in hotpix.cwd.glob("*.sqlite*")) == [path.name, f"{path.name}.bak-{FIRST}"]


@pytest.mark.parametrize("revision", [FIRST, schema.REVISION])
def test_the_next_upgrade_sweeps_what_a_killed_one_left(hotpix: Hotpix, revision: str) -> None:
    older(hotpix.cwd / "registry.sqlite")
    if revision == schema.REVISION:
        hotpix("db", "upgrade").ended_with(0)
    left = hotpix.cwd / f".registry.sqlite.bak-{FIRST}.205183beb91daf3b.tmp"
    left.touch()
    hotpix("db", "upgrade").ended_with(0)
    assert left.exists(), "whoever writes it may be at work"
    os.utime(left, (0, 0))
    hotpix("db", "upgrade").ended_with(0)
    assert not left.exists()


def test_an_earlier_copy_is_kept_too(hotpix: Hotpix) -> None:
    older(hotpix.cwd / "registry.sqlite")
    (hotpix.cwd / f"registry.sqlite.bak-{FIRST}").write_text("dear")
    hotpix("db", "upgrade").ended_with(0, f"registry.sqlite.bak-{FIRST}-2")
    assert (hotpix.cwd / f"registry.sqlite.bak-{FIRST}").read_text() == "dear"


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [
        ('op.execute("INSERT INTO nowhere VALUES (1)")', 6, "is as it was"),
        ('raise RuntimeError("a mistake")', 1, "is as it was"),
    ],
)
def test_a_migration_that_fails_leaves_the_registry_working(
    stocked: Hotpix, empty_database: str, tmp_path: Path, end: str, code: int, words: str
) -> None:
    # the next version of the program, whose migration has a mistake in it
    for name in ("hotpix_registry", "migrations", "config"):
        shutil.copytree(CHECKOUT / name, tmp_path / "next" / name)
    bad = tmp_path / "next" / "migrations" / "versions" / "20990101_0001_bad.py"
    bad.write_text(BAD.format(newest=schema.REVISION, end=end))
    if "://" in empty_database:
        stocked("import", "registry.sqlite", "--database", empty_database).ended_with(0)
        stocked = stocked.on(empty_database)
    answer = stocked(*LOOK_UP, "--format", "json").json
    newer = replace(stocked, from_scratch=True).with_settings(PYTHONPATH=str(tmp_path / "next"))
    done = newer("db", "upgrade")
    assert done.code == code
    assert words in done.err
    assert (schema.REVISION in done.err) == ("://" not in empty_database)
    assert stocked(*LOOK_UP, "--format", "json").json == answer
    stocked("db", "check").ended_with(0)
    if "://" not in empty_database:
        assert "half_done" not in "".join(everything_in(stocked.cwd / "registry.sqlite"))
        copy = stocked.on(stocked.cwd / f"registry.sqlite.bak-{schema.REVISION}")
        assert copy(*LOOK_UP, "--format", "json").json == answer
