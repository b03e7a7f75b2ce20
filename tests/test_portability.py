"""A registry carried elsewhere answers the same, and two copies never speak under one name."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import copying, opening, queries, schema
from hotpix_registry.catalogue import engine as databases
from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.errors import IntegrityError, StorageError, UnknownCamera, UnknownId, UsageError
from hotpix_registry.registry import Registry
from tests.small_camera import write_campaign
from tests.told import Story

LIMIT = Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0)
OTHER = {"INSTRUME": "Othercam 9", "SERIAL": "17"}


@contextmanager
def sql(database: str) -> Iterator[Connection]:
    """A connection for what a test does by hand."""
    engine = databases.connect(databases.parse_url(database))
    try:
        with databases.writing(engine) as connection:
            yield connection
    finally:
        engine.dispose()


def act(connection: Connection, what: str) -> int:
    return queries.open_transaction(connection, queries.Act("ann", "dome", "test"), what, now_us=1)


@pytest.fixture
def lived(told: Callable[[Story], Path], database: str) -> Iterator[Registry]:
    """A registry with rows in every table, some of them closed.

    Release 2021B stands between the masks 1 and 2 of smallcam-48; mask 3 is of the other camera.
    """
    told(live)
    with Registry(database) as registry:
        yield registry


def live(registry: Registry, darks: Path) -> None:
    """Two campaigns of smallcam-48, a year apart, and one of another camera, and all that is done to them."""
    write_campaign(darks / "2021")
    write_campaign(darks / "2022", start=datetime(2022, 3, 4, 22))
    write_campaign(darks / "other", start=datetime(2022, 6, 4, 22), header=OTHER)
    registry.ingest(darks / "2021")
    registry.build("smallcam-48", recipe=LIMIT)
    with databases.writing(registry._engine) as connection:
        tx = act(connection, "release create")
        connection.execute(schema.releases.insert().values(name="2021B", at_tx=tx, note="", created_tx=tx))
    registry.ingest(darks / "2022")
    registry.build("smallcam-48", nights=("2022-01-01", "2022-12-31"), recipe=LIMIT)
    registry.certify(2)
    registry.ingest(darks / "other")
    registry.build("othercam-9", recipe=LIMIT)
    registry.exclude(["1"], reason="a light leak")
    registry.include(["1"], reason="it was none")
    registry.confirm_camera("smallcam-48")
    registry.alias_camera("smallcam-48", "little")
    with databases.writing(registry._engine) as connection:
        tx = act(connection, "by hand")
        camera = {"camera_id": 1, "opened_tx": tx}
        connection.execute(schema.events.insert().values(at_us=5, kind="warmup", note="", **camera))
        connection.execute(schema.revocations.insert().values(mask_id=1, reason="bad", opened_tx=tx))
        box = {"x0": 3, "y0": 4, "width": 1, "height": 1, "reason": "seen"}
        connection.execute(schema.defects.insert().values(**camera, **box))


def tallies(database: str | Path) -> dict[str, copying.Tally]:
    engine = databases.connect(databases.parse_url(str(database)))
    with databases.reading(engine) as connection:
        found = copying.tallies(connection)
    engine.dispose()
    return found


def registry_ids(database: str | Path) -> list[tuple[str, int, int]]:
    engine = databases.connect(databases.parse_url(str(database)))
    with databases.reading(engine) as connection:
        found = [tuple(one) for one in queries.registry_ids(connection)]
    engine.dispose()
    return found


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_as_it_should_be(path: Path) -> bool:
    """Tables and guards are those of this version."""
    engine = databases.connect(databases.parse_url(str(path)))
    amiss = opening.check(engine)
    engine.dispose()
    return amiss == []


@pytest.mark.parametrize("way", ["export", "backup"])
def test_a_copy_has_the_same_rows_and_the_guards(
    lived: Registry, database: str, tmp_path: Path, way: str
) -> None:
    copied = getattr(lived, way)(tmp_path / "copy.sqlite")
    here, there = tallies(database), tallies(tmp_path / "copy.sqlite")
    assert here == there
    assert copied.rows == {name: tally.rows for name, tally in here.items()}
    assert all(copied.rows.values())
    assert is_as_it_should_be(tmp_path / "copy.sqlite")
    assert sorted(path.name for path in tmp_path.glob("*copy*")) == ["copy.sqlite"]


def test_an_export_gives_the_same_answer_and_receipt_without_the_darks(
    lived: Registry, tmp_path: Path
) -> None:
    lived.export(tmp_path / "copy.sqlite")
    before = sha256(tmp_path / "copy.sqlite")
    with Registry(str(tmp_path / "copy.sqlite"), create=False) as copy:
        for date in ("2021-03-04", "2022-03-04"):
            answer = lived.mask("smallcam-48", date, allow_revoked=True).answer
            assert copy.mask("smallcam-48", date, allow_revoked=True).answer == answer
            assert copy.replay(answer.receipt).answer.sha256 == answer.sha256
        assert copy.mask_file(2) == lived.mask_file(2)
        assert copy.show(2) == lived.show(2)
    assert sha256(tmp_path / "copy.sqlite") == before


def test_a_correction_by_a_whole_number_is_copied(lived: Registry, database: str, tmp_path: Path) -> None:
    lived.fix(["3"], {"exptime_s": 60.0}, reason="the shutter stuck")
    lived.export(tmp_path / "copy.sqlite")
    assert tallies(tmp_path / "copy.sqlite") == tallies(database)


def test_an_export_that_is_written_to_becomes_a_registry_of_its_own(
    lived: Registry, database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lived.export(tmp_path / "copy.sqlite")
    ((original, _, last),) = registry_ids(database)
    receipt = lived.mask("smallcam-48", "2022-03-04").answer.receipt
    with Registry(str(tmp_path / "copy.sqlite")) as copy:
        assert copy.mask("smallcam-48", "2022-03-04").answer.receipt == receipt
        copy.exclude(["2"], reason="dew")
        answer = copy.mask("smallcam-48", "2022-03-04").answer
        assert copy.replay(receipt).answer.receipt == receipt
        assert copy.replay(answer.receipt).answer == answer
    assert "registry of its own" in caplog.text
    (old, own) = registry_ids(tmp_path / "copy.sqlite")
    assert old == (original, 0, last)
    assert own[1:] == (last + 1, last + 1)
    assert answer.registry_id == own[0] != original
    assert registry_ids(database) == [(original, 0, last)]
    caplog.clear()
    with Registry(str(tmp_path / "copy.sqlite")) as copy:
        copy.include(["2"], reason="it dried")
    assert caplog.text == ""
    assert len(registry_ids(tmp_path / "copy.sqlite")) == 2


def test_an_export_stays_one_when_writing_fails(lived: Registry, tmp_path: Path) -> None:
    lived.export(tmp_path / "copy.sqlite")
    with Registry(str(tmp_path / "copy.sqlite")) as copy, pytest.raises(UnknownId):
        copy.exclude(["999"], reason="none such")
    assert len(registry_ids(tmp_path / "copy.sqlite")) == 1
    assert mark_of(tmp_path / "copy.sqlite") == databases.WHOLE_COPY


def test_a_dry_run_on_an_export_leaves_it_one(lived: Registry, tmp_path: Path) -> None:
    write_campaign(tmp_path / "new", start=datetime(2023, 1, 1, 22))
    lived.export(tmp_path / "copy.sqlite")
    with Registry(str(tmp_path / "copy.sqlite")) as copy:
        assert copy.ingest(tmp_path / "new", dry_run=True).accepted == 11
    assert mark_of(tmp_path / "copy.sqlite") == databases.WHOLE_COPY


def mark_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_a_backup_goes_on_as_the_same_registry(lived: Registry, database: str, tmp_path: Path) -> None:
    lived.backup(tmp_path / "saved.sqlite")
    with Registry(str(tmp_path / "saved.sqlite")) as restored:
        restored.exclude(["2"], reason="dew")
    ((original, _, last),) = registry_ids(database)
    assert registry_ids(tmp_path / "saved.sqlite") == [(original, 0, last + 1)]


def test_ids_that_the_original_gave_are_not_given_again(lived: Registry, tmp_path: Path) -> None:
    lived.export(tmp_path / "part.sqlite", camera="smallcam-48")
    write_campaign(tmp_path / "new", start=datetime(2023, 3, 4, 22))
    with Registry(str(tmp_path / "part.sqlite")) as part:
        part.ingest(tmp_path / "new")
        assert min(frame.frame_id for frame in part.frames(nights=("2023-01-01", "2023-12-31"))) == 34
        (built,) = part.build("smallcam-48", nights=("2023-01-01", "2023-12-31"), recipe=LIMIT)
    assert built.mask_id == 4


def test_one_camera_goes_with_all_that_is_known_of_it(lived: Registry, tmp_path: Path) -> None:
    copied = lived.export(tmp_path / "part.sqlite", camera="little")
    assert copied.rows["frames"] == 22
    assert copied.rows["masks"] == 2
    assert copied.rows["cameras"] == copied.rows["events"] == copied.rows["defects"] == 1
    with Registry(str(tmp_path / "part.sqlite"), create=False) as part:
        assert [camera.name for camera in part.cameras()] == ["smallcam-48"]
        for date in ("2021-03-04", "2022-03-04"):
            answer = lived.mask("smallcam-48", date, allow_revoked=True).answer
            assert part.mask("smallcam-48", date, allow_revoked=True).answer == answer
        with pytest.raises(UnknownCamera):
            part.mask("othercam-9", "2022-06-04")


def test_a_release_goes_as_it_stood(lived: Registry, database: str, tmp_path: Path) -> None:
    copied = lived.export(tmp_path / "part.sqlite", release="2021B")
    assert copied.rows["masks"] == 1
    assert copied.rows["frames"] == 11
    assert copied.rows["revocations"] == copied.rows["events"] == 0
    assert copied.rows["releases"] == 1
    with Registry(str(tmp_path / "part.sqlite"), create=False) as part:
        # the mask of 2022 was not there yet
        answer = part.mask("smallcam-48", "2022-03-04").answer
    assert answer.mask_id == 1
    assert answer.valid_to is None
    assert answer.tx == copied.tx == 3
    assert is_as_it_should_be(tmp_path / "part.sqlite")


def test_a_release_that_was_named_later_goes_as_it_stood(
    lived: Registry, database: str, tmp_path: Path
) -> None:
    with sql(database) as connection:
        tx = act(connection, "release create")
        connection.execute(schema.releases.insert().values(name="late", at_tx=2, note="", created_tx=tx))
    lived.export(tmp_path / "part.sqlite", release="late")
    with Registry(str(tmp_path / "part.sqlite"), create=False) as part:
        answer = part.mask("smallcam-48", "2022-03-04").answer
    # a receipt under a later number would claim what the original does not answer then
    assert (answer.mask_id, answer.tx) == (1, 2)


def test_what_cannot_be_exported_is_one_sentence(lived: Registry, database: str, tmp_path: Path) -> None:
    target = tmp_path / "copy.sqlite"
    with pytest.raises(UnknownCamera, match="Did you mean smallcam-48"):
        lived.export(target, camera="smalcam-48")
    with pytest.raises(UnknownId, match="no release 2099A"):
        lived.export(target, release="2099A")
    with pytest.raises(UsageError, match="no file"):
        lived.export("postgresql://me@host/name")
    with pytest.raises(StorageError, match="nowhere"):
        lived.backup(tmp_path / "nowhere" / "copy.sqlite")
    with pytest.raises(StorageError, match="is a directory"):
        lived.backup(tmp_path, replace=True)
    if "://" not in database:
        with pytest.raises(UsageError, match="the registry itself"):
            lived.backup(database, replace=True)
    assert not list(tmp_path.glob("*copy*"))


def test_a_file_that_is_there_is_replaced_only_when_that_is_asked_for(
    lived: Registry, tmp_path: Path
) -> None:
    target = tmp_path / "copy.sqlite"
    target.write_text("something dear")
    with pytest.raises(UsageError, match="--replace"):
        lived.backup(target)
    assert target.read_text() == "something dear"
    lived.backup(target, replace=True)
    assert is_as_it_should_be(target)


def test_what_killed_copies_of_other_names_left_is_swept_after_a_day(lived: Registry, tmp_path: Path) -> None:
    """A backup that bears its night in its name is never made again under that name."""
    yesterday = f".registry-2021-03-04.sqlite.{'0' * 16}.tmp"
    of_yesterday = [tmp_path / name for name in (yesterday, f"{yesterday}-wal", f"{yesterday}-shm")]
    at_work, foreign = tmp_path / f".other.sqlite.{'1' * 16}.tmp", tmp_path / ".notes.tmp"
    for path in (*of_yesterday, at_work, foreign):
        path.write_bytes(b"half a copy")
    for path in (*of_yesterday, foreign):
        os.utime(path, (0, 0))
    lived.backup(tmp_path / "registry-2021-03-05.sqlite")
    assert [path.exists() for path in (*of_yesterday, at_work, foreign)] == [False, False, False, True, True]


def test_a_file_that_is_in_use_is_not_replaced(lived: Registry, tmp_path: Path) -> None:
    target = tmp_path / "copy.sqlite"
    lived.backup(target)
    with Registry(str(target)) as used:
        used.exclude(["2"], reason="dew")
        with pytest.raises(UsageError, match="in use"):
            lived.backup(target, replace=True)


@pytest.mark.parametrize("way", ["export", "backup"])
def test_a_damaged_registry_is_not_copied(lived: Registry, database: str, tmp_path: Path, way: str) -> None:
    damage(database, 2)
    target = tmp_path / "copy.sqlite"
    target.write_text("the last good one")
    with pytest.raises(IntegrityError, match=r"mask 2 .* damaged"):
        getattr(lived, way)(target, replace=True)
    assert target.read_text() == "the last good one"


def damage(database: str, mask_id: int, column: str = "blob", at: int = -1) -> None:
    """Change one byte behind the back of the guards, as a failing disk does."""
    with sql(database) as connection:
        m = schema.masks.c
        stored = bytearray(connection.execute(sa.select(m[column]).where(m.id == mask_id)).scalar_one())
    stored[at] ^= 1
    damage_row(database, schema.masks, mask_id, {column: bytes(stored)})


def damage_row(database: str, table: sa.Table, row_id: int, values: dict[str, Any]) -> None:
    """Write over a row behind the back of the guards."""
    with sql(database) as connection:
        change = table.update().where(table.c.id == row_id).values(values)
        if connection.dialect.name == "sqlite":
            triggers = connection.execute(
                sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :name"),
                {"name": table.name},
            ).all()
            for trigger in triggers:
                connection.exec_driver_sql(f"DROP TRIGGER {trigger.name}")
            connection.execute(change)
            for trigger in triggers:
                connection.exec_driver_sql(trigger.sql)
        else:
            connection.exec_driver_sql(f"ALTER TABLE {table.name} DISABLE TRIGGER USER")
            connection.execute(change)
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ENABLE TRIGGER USER")


def test_a_backup_under_writers_is_one_moment(lived: Registry, database: str, tmp_path: Path) -> None:
    begun, stop = threading.Event(), threading.Event()

    def write() -> None:
        with Registry(database) as registry:
            while not stop.is_set():
                registry.exclude(["5"], reason="dew")
                begun.set()

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    begun.wait(60)
    try:
        for number in range(5):
            lived.backup(tmp_path / f"{number}.sqlite")
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    seen = []
    for number in range(5):
        with closing(sqlite3.connect(tmp_path / f"{number}.sqlite")) as connection:
            (tx, last_override) = connection.execute(
                "SELECT (SELECT max(tx) FROM transactions), (SELECT max(opened_tx) FROM overrides)"
            ).fetchone()
            (current,) = connection.execute(
                "SELECT count(*) FROM overrides WHERE frame_id = 5 AND closed_tx IS NULL"
            ).fetchone()
        assert tx == last_override
        assert current == 1
        seen.append(tx)
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]
