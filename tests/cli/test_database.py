"""Databases that are not there, not ours, not reachable, not writable: one sentence, one code."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from hotpix_registry.catalogue import schema
from tests.cli.conftest import CHECKOUT, Hotpix
from tests.small_camera import write_campaign, write_frame

LOOK_UP = ("mask", "--camera", "smallcam-48", "--date", "2021-03-04")


def set_revision(path: Path, revision: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.close()


def everything_in(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        dump = list(connection.iterdump())
    connection.close()
    return dump


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("oracle://host/name", 2, "oracle"),
        ("postgresql://localhost:port/name", 2, "no database URL"),
        ("sqlite://", 2, "memory"),
        ("postgresql://me:secret@localhost:1/name", 7, "cannot be reached"),
        ("nowhere/registry.sqlite", 6, "no registry at"),
        ("folder", 6, "is a folder"),
        ("text.txt", 6, "no registry"),
        ("other.sqlite", 6, "something else"),
    ],
)
def test_a_database_that_is_no_registry_is_one_sentence(
    hotpix: Hotpix, url: str, code: int, words: str
) -> None:
    (hotpix.cwd / "folder").mkdir()
    (hotpix.cwd / "text.txt").write_text("no database\n" * 500)
    with sqlite3.connect(hotpix.cwd / "other.sqlite") as connection:
        connection.execute("CREATE TABLE stars (name TEXT)")
    connection.close()
    done = hotpix(*LOOK_UP, "--database", url).refused(code, words)
    assert "secret" not in done.err


def test_upgrade_does_not_touch_a_database_of_something_else(hotpix: Hotpix) -> None:
    other = hotpix.cwd / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE stars (name TEXT)")
    connection.close()
    before = other.read_bytes()
    hotpix.on(other)("db", "upgrade").refused(6, "something else")
    assert other.read_bytes() == before
    assert [path.name for path in hotpix.cwd.iterdir()] == ["other.sqlite"]


def test_an_older_and_a_newer_schema_are_told_apart(stocked: Hotpix) -> None:
    path = stocked.cwd / "registry.sqlite"
    set_revision(path, "20990101_0001")
    before = everything_in(path)
    stocked(*LOOK_UP).refused(6, "20990101_0001", "Upgrade hotpix-registry")
    stocked("ingest", ".").refused(6, "20990101_0001")
    stocked("db", "upgrade").refused(6, "20990101_0001")
    assert everything_in(path) == before


def test_the_schema_is_shown_checked_and_made(hotpix: Hotpix, stocked: Hotpix, empty_database: str) -> None:
    fresh = hotpix.on(empty_database if "://" in empty_database else hotpix.cwd / "fresh.sqlite")
    assert fresh("db", "current").ended_with(0).out == "none\n"
    fresh("db", "upgrade").ended_with(0, schema.REVISION)
    fresh("db", "check").ended_with(0, "as it should be")
    assert fresh("db", "current").ended_with(0).out == f"{schema.REVISION}\n"


def test_a_guard_that_was_taken_away_is_noticed(stocked: Hotpix) -> None:
    with sqlite3.connect(stocked.cwd / "registry.sqlite") as connection:
        connection.execute("DROP TRIGGER guard_masks_update")
    connection.close()
    stocked("db", "check").refused(6, "guard_masks_update")


def test_a_read_only_registry_answers_and_refuses_to_be_written(stranger: Hotpix, stocked: Hotpix) -> None:
    path = stocked.cwd / "registry.sqlite"
    write_frame(stocked.cwd / "more.fits", exptime_s=99)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    path.chmod(0o444)
    assert stranger(*LOOK_UP).ended_with(0).out.endswith(".fits\n")
    stranger("ingest", "more.fits").refused(7, "read-only")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def test_a_registry_in_a_read_only_folder_answers(stranger: Hotpix, stock: Path) -> None:
    folder = stranger.cwd / "closed"
    folder.mkdir()
    (folder / "registry.sqlite").write_bytes((stock / "registry.sqlite").read_bytes())
    folder.chmod(0o555)
    closed = stranger.on(folder / "registry.sqlite")
    assert closed(*LOOK_UP).ended_with(0).out.endswith(".fits\n")
    closed("frames", "exclude", "1", "--reason", "x").refused(7, "read-only")
    stranger.on(folder / "new.sqlite")("ingest", ".").refused(7, "new.sqlite")
    folder.chmod(0o755)


def test_a_full_disk_under_the_registry_leaves_it_as_it_was(stocked: Hotpix) -> None:
    write_campaign(stocked.cwd / "more", darks={99.0: 20}, biases=0)
    full = stocked.with_small_files(40_000)
    full("ingest", "more").refused(1, "registry.sqlite", "space")
    assert len(stocked.frames()) == 11
    stocked("db", "check").ended_with(0)
    assert stocked.ingest("more")["accepted"] == 20


def test_a_role_without_rights_is_one_sentence(hotpix: Hotpix, postgresql_url: str) -> None:
    url = sa.make_url(postgresql_url)
    admin = sa.create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        if not connection.exec_driver_sql("SELECT 1 FROM pg_roles WHERE rolname = 'guest'").first():
            connection.exec_driver_sql("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    admin.dispose()
    guest = url.set(username="guest", password="guest").render_as_string(hide_password=False)
    write_frame(hotpix.cwd / "dark.fits")
    hotpix.on(guest)("ingest", "dark.fits").refused(7, "permission denied")


def test_settings_that_cannot_be_used_are_one_sentence(stranger: Hotpix) -> None:
    settings = stranger.cwd / "hotpix.toml"
    settings.write_text('database = "x"\n')
    stranger(*LOOK_UP).ended_with(6)  # the environment names the registry, the file is not read
    nowhere = stranger.with_settings(HOTPIX_DATABASE_URL="")
    nowhere(*LOOK_UP).refused(2, "hotpix.toml", "'database'", "database_url")
    settings.chmod(0)
    nowhere(*LOOK_UP).refused(2, "hotpix.toml", "cannot be read")
    settings.chmod(0o644)
    nowhere.with_settings(HOTPIX_CONFIG="gone.toml")(*LOOK_UP).refused(2, "gone.toml")


def test_the_cache_of_the_settings_file_is_used(stocked: Hotpix) -> None:
    (stocked.cwd / "hotpix.toml").write_text('database_url = "registry.sqlite"\ncache_dir = "masks"\n')
    settled = stocked.with_settings(HOTPIX_DATABASE_URL="", HOTPIX_CACHE_DIR="")
    assert settled(*LOOK_UP).ended_with(0).out.startswith("masks")


def test_a_user_without_a_name_can_write(hotpix: Hotpix) -> None:
    """In containers, users are often mere numbers."""
    write_frame(hotpix.cwd / "dark.fits")
    script = (
        "import os, sys\n"
        "import hotpix_registry.registry.facade.opened as opened\n"
        "os.seteuid(54321) if os.geteuid() == 0 else sys.exit(77)\n"
        "os.setresuid(54321, 54321, -1)\n"
        "print(opened.act().actor)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("LOGNAME", "USER", "LNAME", "USERNAME")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("only root can become another user")
    assert done.stdout == "uid 54321\n", done.stderr
