"""Whatever changes behind the registry's back is found, and mended where that can be proven."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from hotpix_registry.cameras import CameraProfile, Sections
from hotpix_registry.catalogue import checking, opening, schema
from hotpix_registry.catalogue import engine as databases
from hotpix_registry.domain import Defect, Recipe, Rule, digest
from hotpix_registry.errors import FrameChanged, HotpixError, IntegrityError, UsageError
from hotpix_registry.registry import Registry
from tests.small_camera import write_campaign
from tests.test_portability import damage, damage_row, sql, tallies
from tests.told import Story

LIMIT = Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with two masks; never to be changed."""
    folder = tmp_path_factory.mktemp("good")
    with Registry(str(folder / "registry.sqlite")) as registry:
        fill(registry, folder / "darks")
        registry.backup(folder / "good.sqlite")
    return folder / "good.sqlite"


@pytest.fixture
def darks(told: Callable[[Story], Path]) -> Path:
    """The folder of the darks that the registry of the test knows."""
    return told(fill)


@pytest.fixture
def kept(darks: Path, database: str) -> Iterator[Registry]:
    """A registry with two certified masks."""
    with Registry(database) as registry:
        yield registry


def fill(registry: Registry, folder: Path) -> None:
    write_campaign(folder / "2021")
    write_campaign(folder / "2022", start=datetime(2022, 3, 4, 22))
    registry.ingest(folder, recursive=True)
    registry.build("smallcam-48", nights=("2021-01-01", "2021-12-31"), recipe=LIMIT)
    registry.build("smallcam-48", nights=("2022-01-01", "2022-12-31"), recipe=LIMIT)


def test_a_registry_as_it_was_written_is_clean(kept: Registry) -> None:
    kept.mask("smallcam-48", "2021-03-04").path.exists()
    found = kept.verify()
    assert found.findings == []
    assert found.checked["masks"] == 2
    assert found.checked["frames"] == 22
    assert found.checked["cached files"] == 1


def _fix_first(registry: Registry) -> list[int]:
    return registry.fix(["1"], {"n_combined": 2}, reason="mistyped")


@pytest.mark.parametrize(
    ("table", "values", "where", "ask"),
    [
        ("profiles", {"body": {"name": 3}}, "profile 1", lambda r: r.mask("smallcam-48", "2021-03-04")),
        ("profiles", {"body": [1]}, "profile 1", lambda r: r.cameras()),
        ("frames", {"header": b"no header"}, "frame 1", _fix_first),
        ("masks", {"numbers": b"no numbers"}, "mask 1", lambda r: r.mask_numbers(1)),
    ],
)
def test_a_damaged_row_is_one_sentence_wherever_it_is_met(
    kept: Registry,
    database: str,
    table: str,
    values: dict[str, Any],
    where: str,
    ask: Callable[[Registry], Any],
) -> None:
    damage_row(database, schema.metadata.tables[table], 1, values)
    with Registry(database) as opened:
        with pytest.raises(IntegrityError, match=r"is damaged\. .*`hotpix-registry verify`"):
            ask(opened)
        findings = [f for f in opened.verify(fix=True).amiss if f.where.startswith(where)]
    assert len(findings) == 1
    assert "Restore a backup: `hotpix-registry import BACKUP --database NEW`" in findings[0].cure


def test_an_infinite_number_is_no_profile_of_a_camera() -> None:
    stored = json.dumps(CameraProfile(name="aspen", detector=Sections(gain_e_per_adu=1.5)).as_dict())
    assert CameraProfile.from_dict(json.loads(stored)).detector.gain_e_per_adu == 1.5
    with pytest.raises(IntegrityError, match="profile of a camera"):
        CameraProfile.from_dict(json.loads(stored.replace("1.5", "1e999")))


def test_a_damaged_mask_says_how_it_is_mended(kept: Registry, database: str) -> None:
    damage(database, 2)
    with pytest.raises(IntegrityError, match="`hotpix-registry verify --fix`"):
        kept.mask_file(2)


@pytest.mark.parametrize("at", [0, 5, 700, -1])
def test_a_damaged_mask_is_found_and_made_again_from_its_darks(
    kept: Registry, database: str, at: int
) -> None:
    before, file = tallies(database), kept.mask_file(2)
    damage(database, 2, at=at)
    (finding,) = kept.verify().findings
    assert (finding.kind, finding.where) == ("mask", "mask 2")
    with pytest.raises(IntegrityError):
        kept.mask_file(2)
    assert kept.verify(fix=True).amiss == []
    assert kept.mask_file(2) == file
    assert kept.verify().findings == []
    after = tallies(database)
    assert {name for name in after if after[name] != before[name]} == {"transactions"}


def test_the_guard_is_back_after_a_mask_was_mended(kept: Registry, database: str) -> None:
    damage(database, 1)
    kept.verify(fix=True)
    with pytest.raises(sa.exc.DBAPIError, match="never changed"), sql(database) as connection:
        connection.execute(schema.masks.update().values(blob=b"x"))


def test_a_mask_whose_darks_are_gone_is_taken_from_a_backup(
    kept: Registry, darks: Path, database: str, tmp_path: Path
) -> None:
    kept.backup(tmp_path / "saved.sqlite")
    shutil.rmtree(darks / "2022")
    damage(database, 2)
    before = tallies(database)
    found = kept.verify(frames=False, fix=True)
    (finding,) = found.amiss
    assert "has vanished" in finding.cure
    assert "import BACKUP" in finding.cure
    assert tallies(database) == before
    assert kept.verify(frames=False, fix=True, backup=tmp_path / "saved.sqlite").amiss == []
    assert kept.verify(frames=False).findings == []


def test_a_damaged_backup_mends_nothing(kept: Registry, darks: Path, database: str, tmp_path: Path) -> None:
    kept.backup(tmp_path / "saved.sqlite")
    shutil.rmtree(darks)
    damage(database, 2)
    damage(str(tmp_path / "saved.sqlite"), 2, at=900)
    (finding,) = kept.verify(frames=False, fix=True, backup=tmp_path / "saved.sqlite").amiss
    assert "no whole copy" in finding.cure


def test_a_build_that_takes_in_defects_is_made_again_with_those_of_its_time(
    kept: Registry, database: str, tmp_path: Path
) -> None:
    box = Defect(x0=9, y0=9, width=2, height=2, reason="seen", first_night=None, last_night=None)
    (defect_id,) = kept.add_defects("smallcam-48", [box], reason="seen")
    (built, _) = kept.build("smallcam-48", recipe=LIMIT)
    kept.remove_defects("smallcam-48", [defect_id], reason="it was dust")
    damage(database, built.mask_id)
    assert kept.verify(fix=True).amiss == []


def test_frames_that_vanish_or_change_are_named(kept: Registry, darks: Path) -> None:
    folder = darks / "2021"
    (folder / "bias_01.fits").unlink()
    changed = folder / "bias_02.fits"
    content, times = bytearray(changed.read_bytes()), changed.stat()
    content[-1] ^= 1
    changed.write_bytes(content)
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    with (folder / "bias_03.fits").open("ab") as longer:
        longer.write(b"\0")
    problems = [finding.problem for finding in kept.verify().findings]
    assert problems[0] == "the file is gone"
    assert problems[1] == "the file's bytes have changed since its ingest"
    assert problems[2] == "the file has 11521 bytes, and had 11520 at its ingest"
    # sizes and times do not tell of one changed byte
    assert len(kept.verify(quick=True).findings) == 2
    assert kept.verify(frames=False).findings == []
    assert len(kept.verify(fix=True).amiss) == 3


def test_a_place_that_is_gone_is_forgotten_when_the_frame_is_whole_elsewhere(
    kept: Registry, darks: Path, tmp_path: Path
) -> None:
    shutil.copytree(darks / "2021", tmp_path / "second")
    kept.ingest(tmp_path / "second")
    shutil.rmtree(tmp_path / "second")
    found = kept.verify()
    assert {finding.kind for finding in found.findings} == {"location"}
    assert len(found.findings) == 11
    assert kept.verify(fix=True).amiss == []
    assert kept.verify().findings == []
    assert all(len(frame.paths) == 1 for frame in kept.frames())


def test_a_damaged_cached_file_is_made_again(kept: Registry) -> None:
    path = kept.mask("smallcam-48", "2021-03-04").path
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"x")
    other = path.parent.parent / "00" / f"{'0' * 64}.fits"
    other.parent.mkdir()
    other.write_bytes(b"of another registry")
    assert [finding.kind for finding in kept.verify().findings] == ["cache", "cache"]
    assert kept.verify(fix=True).amiss == []
    assert path.read_bytes() == good
    assert not other.exists()


def test_an_export_is_looked_at_without_the_frames_and_never_mended(
    kept: Registry, darks: Path, tmp_path: Path
) -> None:
    kept.export(tmp_path / "copy.sqlite")
    shutil.rmtree(darks)
    damage_export(tmp_path / "copy.sqlite", 1)
    with Registry(str(tmp_path / "copy.sqlite")) as copy:
        assert [finding.kind for finding in copy.verify().findings] == ["mask"]
        assert len(copy.verify(frames=True).findings) == 23
        with pytest.raises(UsageError, match="Export it anew"):
            copy.verify(fix=True)


def damage_export(path: Path, mask_id: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        (guard,) = connection.execute(
            "SELECT sql FROM sqlite_master WHERE name = 'guard_masks_update'"
        ).fetchone()
        connection.execute("DROP TRIGGER guard_masks_update")
        connection.execute("UPDATE masks SET blob = x'00' WHERE id = ?", (mask_id,))
        connection.execute(guard)


BROKEN = {
    "UPDATE assignments SET valid_to_us = NULL WHERE closed_tx IS NULL": "overlap in series 1",
    "UPDATE assignments SET closed_tx = 1 WHERE id = 1": "closed before it was opened",
    "UPDATE assignments SET series_id = 2 WHERE id = 1": "its mask 1 is of another series",
    "UPDATE masks SET version = 7 WHERE id = 2": "do not count from 1 to 7",
    "UPDATE masks SET flagged = 1 WHERE id = 2": "that its row tells",
    "UPDATE masks SET numbers = blob WHERE id = 2": "the numbers of its pictures",
    "UPDATE transactions SET at_us = 1 WHERE tx = 2": "before that of the transaction before it",
    "UPDATE profiles SET digest = 'x' WHERE id = 1": "does not have its digest",
    "UPDATE series SET configuration_digest = 'x' WHERE id = 1": "does not have its digest",
    "UPDATE frames SET header = blob FROM masks WHERE frames.id = 1 AND masks.id = 1": "header cannot",
    "INSERT INTO events (id, camera_id, at_us, kind, note, opened_tx)"
    " VALUES (1, 1, 1641000000000000, 'warmup', '', 1)": "crosses the warmup of event 1",
}


@pytest.fixture
def two_series(kept: Registry, database: str) -> Registry:
    with sql(database) as connection:
        empty = {"configuration": {}, "configuration_digest": digest({})}
        connection.execute(
            schema.series.insert().values(id=2, camera_id=1, set_point_key="none", created_tx=1, **empty)
        )
    return kept


def test_a_series_without_masks_breaks_no_promise(two_series: Registry) -> None:
    assert two_series.verify(frames=False).findings == []


@pytest.mark.parametrize("statement", BROKEN)
def test_a_broken_promise_is_found_by_an_independent_look(
    two_series: Registry, database: str, statement: str
) -> None:
    without_guards(database, statement)
    findings = two_series.verify(frames=False).findings
    problems = [finding.problem for finding in findings if finding.kind != "schema"]
    assert len(problems) >= 1
    assert any(BROKEN[statement] in problem for problem in problems), problems


def without_guards(database: str, statement: str) -> None:
    """Change a row as only somebody can who has taken the guards away."""
    with sql(database) as connection:
        if connection.dialect.name == "sqlite":
            names = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            for name in connection.exec_driver_sql(names).scalars().all():
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
        else:
            connection.exec_driver_sql("ALTER TABLE assignments DROP CONSTRAINT assignments_overlap")
            for table in schema.metadata.sorted_tables:
                connection.exec_driver_sql(f"ALTER TABLE {table.name} DISABLE TRIGGER USER")
        connection.exec_driver_sql(statement)


def test_a_reference_to_nothing_is_found(good: Path, tmp_path: Path) -> None:
    shutil.copy(good, tmp_path / "copy.sqlite")
    with closing(sqlite3.connect(tmp_path / "copy.sqlite")) as connection, connection:
        connection.execute("INSERT INTO locations VALUES (999, 777, '/a', 1, 1, 1, NULL)")
    with Registry(str(tmp_path / "copy.sqlite")) as copy:
        found = [(f.where, f.problem) for f in copy.verify(frames=False).findings]
    assert ("locations 999", "its frame_id refers to no row of frames") in found


def test_a_lost_guard_is_found(kept: Registry, database: str) -> None:
    with sql(database) as connection:
        on = "" if connection.dialect.name == "sqlite" else " ON masks"
        connection.exec_driver_sql(f"DROP TRIGGER guard_masks_delete{on}")
    (finding,) = kept.verify().findings
    assert finding.problem == "the guard guard_masks_delete is missing"


@pytest.mark.parametrize(
    ("rows", "overlapping"),
    [
        ([(1, 10, 20, 1, None), (2, 20, None, 1, None)], []),
        ([(1, 10, 21, 1, None), (2, 20, None, 1, None)], [(1, 2)]),
        ([(1, 10, None, 1, 2), (2, 10, 20, 2, None), (3, 20, None, 2, None)], []),
        ([(1, 10, None, 1, 3), (2, 10, 20, 2, None)], [(1, 2)]),
        ([(1, 10, None, 1, 3), (2, 10, 20, 2, 3), (3, 5, None, 3, None)], [(1, 2)]),
        ([(1, 10, 20, 1, None), (2, 10, 20, 1, None)], [(1, 2)]),
        ([(1, 10, 40, 1, None), (2, 20, 30, 1, None)], [(1, 2)]),
    ],
)
def test_overlaps_are_found_in_the_whole_history(
    rows: list[tuple[int, int, int | None, int, int | None]], overlapping: list[tuple[int, int]]
) -> None:
    assert list(checking._overlapping(rows)) == overlapping


def test_any_changed_byte_of_a_stored_mask_is_found(good: Path, tmp_path: Path) -> None:
    """Single bytes of the SQLite file itself, as a failing disk changes them."""
    whole = good.read_bytes()
    with closing(sqlite3.connect(good)) as connection:
        (blob,) = connection.execute("SELECT blob FROM masks WHERE id = 2").fetchone()
    draw = random.Random(11)
    for number in range(15):
        # a piece of the blob that lies in one page, wherever that is
        start = draw.randrange(len(blob) - 24)
        place = whole.find(blob[start : start + 24])
        if place < 0:
            continue
        bad = bytearray(whole)
        bad[place + draw.randrange(24)] ^= 1 << draw.randrange(8)
        path = tmp_path / f"{number}.sqlite"
        path.write_bytes(bad)
        with Registry(str(path), create=False) as registry:
            assert "mask 2" in {finding.where for finding in registry.verify(frames=False).findings}
            with pytest.raises(IntegrityError):
                registry.mask_file(2)


def test_a_changed_byte_anywhere_is_no_traceback(good: Path, tmp_path: Path) -> None:
    whole = good.read_bytes()
    draw = random.Random(3)
    unseen = 0
    for number in range(60):
        bad = bytearray(whole)
        for _ in range(64):
            bad[draw.randrange(100, len(bad))] ^= 0xFF
        path = tmp_path / f"{number}.sqlite"
        path.write_bytes(bad)
        try:
            with Registry(str(path), create=False) as registry:
                unseen += not registry.verify(frames=False).findings
        except HotpixError as error:
            assert error.exit_code in (5, 6)
    assert unseen == 0


def test_a_frame_that_changed_makes_no_mask(kept: Registry, darks: Path, database: str) -> None:
    write_campaign(darks / "2022", start=datetime(2022, 3, 4, 23))
    damage(database, 2)
    before = tallies(database)
    found = kept.verify(fix=True)
    assert "mask" in {finding.kind for finding in found.amiss}
    assert tallies(database) == before
    with pytest.raises(FrameChanged):
        kept.build("smallcam-48", recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=5.0))


def test_verifying_writes_nothing(kept: Registry, database: str) -> None:
    before = tallies(database)
    kept.verify()
    kept.verify(fix=True)
    assert tallies(database) == before
    engine = databases.connect(databases.parse_url(database))
    assert opening.check(engine) == []
    engine.dispose()
