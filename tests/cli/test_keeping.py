"""Copies, backups, checks and moves, as a user meets them."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from hotpix_registry.errors import StorageError
from tests.cli.conftest import Hotpix
from tests.small_camera import write_campaign

LOOK_UP = ("mask", "--camera", "smallcam-48", "--date", "2021-03-04")


@pytest.mark.parametrize("way", ["export", "backup"])
def test_a_copy_answers_at_once_and_alone(stocked: Hotpix, way: str) -> None:
    done = stocked(way, "copy.sqlite").ended_with(0, "1 mask, 11 frames", "verified")
    assert done.out == "copy.sqlite\n"
    (stocked.cwd / "elsewhere").mkdir()
    shutil.move(stocked.cwd / "copy.sqlite", stocked.cwd / "elsewhere")
    here = stocked(*LOOK_UP, "--format", "json").json
    there = stocked.on(stocked.cwd / "elsewhere" / "copy.sqlite")(*LOOK_UP, "--format", "json").json
    assert there == here
    assert [path.name for path in (stocked.cwd / "elsewhere").iterdir()] == ["copy.sqlite"]


def test_a_copy_tells_machines_what_it_holds(stocked: Hotpix) -> None:
    told = stocked("export", "copy.sqlite", "--camera", "smallcam-48", "--format", "json").json
    assert told["rows"]["frames"] == 11
    assert told["path"] == "copy.sqlite"
    answer = stocked(*LOOK_UP, "--format", "json").json
    assert (told["registry_id"], told["tx"]) == (answer["registry_id"], answer["tx"])


def test_writing_to_an_export_is_told(stocked: Hotpix) -> None:
    stocked("export", "copy.sqlite")
    copy = stocked.on(stocked.cwd / "copy.sqlite")
    copy("frames", "exclude", "1", "--reason", "dew").ended_with(0, "registry of its own from now on")
    again = copy("frames", "include", "1", "--reason", "it dried").ended_with(0)
    assert "of its own" not in again.err


def test_a_copy_in_a_read_only_folder_answers(stranger: Hotpix, stocked: Hotpix) -> None:
    folder = stocked.cwd / "closed"
    folder.mkdir()
    stocked("export", "closed/copy.sqlite").ended_with(0)
    folder.chmod(0o555)
    copy = stranger.on(folder / "copy.sqlite")
    assert copy(*LOOK_UP).ended_with(0).out.endswith(".fits\n")
    copy("frames", "exclude", "1", "--reason", "x").refused(7, "read-only")
    folder.chmod(0o755)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("backup", "registry.sqlite", "--replace"), 2, "the registry itself"),
        (("backup", "there.txt"), 2, "--replace"),
        (("backup", "nowhere/copy.sqlite"), 1, "nowhere"),
        (("backup", "postgresql://me@host/name"), 2, "no file"),
        (("export", "copy.sqlite", "--camera", "smalcam"), 2, "Did you mean smallcam-48?"),
        (("export", "copy.sqlite", "--release", "2099A"), 2, "no release 2099A"),
        (("export", "copy.sqlite", "--release", "x", "--camera", "y"), 2, "Leave one out"),
    ],
)
def test_what_cannot_be_copied_is_one_sentence(
    stocked: Hotpix, arguments: tuple[str, ...], code: int, words: str
) -> None:
    (stocked.cwd / "there.txt").write_text("dear")
    before = sorted(stocked.cwd.iterdir())
    stocked(*arguments).refused(code, words)
    assert sorted(stocked.cwd.iterdir()) == before
    assert (stocked.cwd / "there.txt").read_text() == "dear"


@pytest.mark.parametrize("way", ["export", "backup"])
def test_a_full_disk_leaves_the_last_copy(stocked: Hotpix, way: str) -> None:
    (stocked.cwd / "copy.sqlite").write_text("the last one")
    stocked.with_small_files(60_000)(way, "copy.sqlite", "--replace").ended_with(1, "copy.sqlite", "space")
    assert (stocked.cwd / "copy.sqlite").read_text() == "the last one"
    assert not list(stocked.cwd.glob(".copy*"))


@pytest.mark.parametrize("way", ["export", "backup"])
def test_a_disk_of_any_size_that_is_too_small_is_one_sentence(stocked: Hotpix, way: str) -> None:
    before = sorted(stocked.cwd.iterdir())
    for n_bytes in range(33_000, 229_000, 28_000):
        done = stocked.with_small_files(n_bytes)(way, "copy.sqlite")
        done.refused(1, "/copy.sqlite could not be written", "Free some space")
        assert sorted(stocked.cwd.iterdir()) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A disk of a given size in KiB; it can be resized."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options: str) -> bool:
        return subprocess.run(["mount", *options, folder], capture_output=True, check=False).returncode == 0

    if shutil.which("mount") is None or not mount("-t", "tmpfs", "-o", "size=8k", "tmpfs"):
        pytest.skip("this user may mount no disk")

    def resized(kib: int) -> Path:
        assert mount("-o", f"remount,size={kib}k")
        return folder

    yield resized
    subprocess.run(["umount", folder], check=True)


def test_wherever_a_disk_is_full_a_copy_is_one_sentence(
    stocked: Hotpix, small_disk: Callable[[int], Path]
) -> None:
    done: Counter[str] = Counter()
    with stocked.opened() as registry:
        ways: dict[str, Callable[[Path], object]] = {
            "export": registry.export,
            "part": partial(registry.export, camera="smallcam-48"),
            "backup": registry.backup,
        }
        for kib in range(8, 600, 16):
            disk = small_disk(kib)
            for way, write in ways.items():
                try:
                    write(disk / "copy.sqlite")
                    done[way] += 1
                    (disk / "copy.sqlite").unlink()
                except StorageError as error:
                    assert "/copy.sqlite could not be written" in str(error)
                assert not list(disk.iterdir())
    assert set(done) == set(ways)


def test_a_folder_that_vanishes_meanwhile_is_one_sentence(stocked: Hotpix) -> None:
    folder = stocked.cwd / "going"
    folder.mkdir()
    with (
        stocked.opened() as registry,
        pytest.raises(StorageError, match=r"copy\.sqlite could not be written: .* its folder is there"),
    ):
        registry.export(folder / "copy.sqlite", progress=lambda *_: shutil.rmtree(folder, True))
    assert not folder.exists()


@pytest.mark.parametrize("way", ["export", "backup"])
def test_a_name_that_cannot_be_is_one_sentence(stocked: Hotpix, way: str) -> None:
    stocked(way, "x" * 300 + ".sqlite").refused(1, "cannot be written: file name too long", "shorter name")


@pytest.mark.parametrize("way", ["export", "backup"])
def test_a_copy_that_is_killed_leaves_the_last_one(stocked: Hotpix, way: str) -> None:
    stocked(way, "copy.sqlite").ended_with(0)
    whole = (stocked.cwd / "copy.sqlite").read_bytes()
    draw = random.Random(4)
    interrupted = 0
    for _ in range(8):
        with stocked.start(way, "copy.sqlite", "--replace") as process:
            until = time.monotonic() + 20
            while not list(stocked.cwd.glob(".copy.sqlite.*")) and time.monotonic() < until:
                if process.poll() is not None:
                    break
                time.sleep(0.002)
            time.sleep(draw.uniform(0, 0.15))
            process.kill()
            process.communicate(timeout=60)
        interrupted += process.returncode != 0
        with closing(sqlite3.connect(stocked.cwd / "copy.sqlite")) as connection:
            assert connection.execute("SELECT count(*) FROM masks").fetchone() == (1,)
    assert interrupted
    assert len((stocked.cwd / "copy.sqlite").read_bytes()) == len(whole)
    stocked(way, "copy.sqlite", "--replace").ended_with(0)


def test_a_copy_of_another_schema_is_refused(stocked: Hotpix) -> None:
    stocked("export", "copy.sqlite")
    with closing(sqlite3.connect(stocked.cwd / "copy.sqlite")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '20990101_0001'")
    stocked.on(stocked.cwd / "copy.sqlite")(*LOOK_UP).refused(6, "Upgrade hotpix-registry")


def test_postgresql_is_copied_into_one_file(hotpix: Hotpix, postgresql_url: str) -> None:
    served = hotpix.on(postgresql_url)
    write_campaign(served.cwd / "darks")
    served.ingest("darks")
    served("build", "--camera", "smallcam-48", "--rule", "limit", "--limit", "4").ended_with(0)
    for way in ("export", "backup"):
        served(way, f"{way}.sqlite").ended_with(0, "1 mask, 11 frames")
        copy = served.on(Path(served.cwd / f"{way}.sqlite"))
        assert copy(*LOOK_UP, "--format", "json").json == served(*LOOK_UP, "--format", "json").json
        copy("db", "check").ended_with(0)


def test_import_takes_a_registry_by_its_content(stocked: Hotpix) -> None:
    stocked("export", "copy.sqlite")
    (stocked.cwd / "copy.sqlite").rename(stocked.cwd / "copy.fits")
    new = stocked.on(stocked.cwd / "new.sqlite")
    new("import", "copy.fits").ended_with(0, "1 mask, 11 frames")
    assert new(*LOOK_UP, "--format", "json").json == stocked(*LOOK_UP, "--format", "json").json
    new("import", "copy.fits").ended_with(0, "new: nothing", "11 frames")


def test_import_into_a_registry_tells_what_was_new(stocked: Hotpix, tmp_path: Path) -> None:
    other = stocked.on(tmp_path / "other.sqlite")
    write_campaign(other.cwd / "elsewhere", header={"INSTRUME": "Othercam"})
    other.ingest("elsewhere")
    done = other("import", "registry.sqlite", "--certify").ended_with(0, "new: 1 camera, 11 frames")
    assert "Mask 1, version 1, certified (there mask 1, version 1)" in done.out
    assert other(*LOOK_UP).ended_with(0).out.endswith(".fits\n")
    report = other("import", "registry.sqlite", "--format", "json").json
    assert report["new"] == {"frames": 0}
    assert report["known"]["masks"] == 1


def test_an_import_that_cannot_be_is_one_sentence(stocked: Hotpix) -> None:
    stocked("export", "copy.sqlite")
    stocked("import", "copy.sqlite", "--camera", "x").refused(2, "Leave out --camera")
    stocked("import", "registry.sqlite").refused(2, "the registry itself")
    with closing(sqlite3.connect(stocked.cwd / "other.sqlite")) as connection:
        connection.execute("CREATE TABLE stars (name TEXT)")
    stocked("import", "other.sqlite").refused(6, "something else")
    with closing(sqlite3.connect(stocked.cwd / "copy.sqlite")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '20990101_0001'")
    stocked("import", "copy.sqlite").refused(6, "20990101_0001", "Upgrade hotpix-registry")
    stocked.on(stocked.cwd / "new.sqlite")("import", "copy.sqlite").refused(6, "Upgrade hotpix-registry")
    assert not (stocked.cwd / "new.sqlite").exists()


def test_verify_is_one_sentence_when_all_is_well(stocked: Hotpix) -> None:
    done = stocked("verify").ended_with(0, "as it was written", "1 mask,", "1 series", "11 frames")
    assert done.out == ""
    assert stocked("verify", "--format", "json").json["clean"] is True


def test_verify_names_what_is_amiss_and_mends_it(stocked: Hotpix) -> None:
    path = Path(stocked(*LOOK_UP).out.strip())
    path.write_bytes(b"?")
    done = stocked("verify").ended_with(5, "1 thing amiss")
    assert done.out.startswith(f"{path}: the cached file does not have its digest.")
    (finding,) = stocked("verify", "--format", "json").ended_with(5).json["findings"]
    assert finding["kind"] == "cache"
    assert stocked("verify", "--fix").ended_with(0).out.endswith("Mended.\n")
    stocked("verify").ended_with(0)


def test_verify_says_which_frames_are_gone(stocked: Hotpix, stock: Path) -> None:
    shutil.copytree(stock / "darks", stocked.cwd / "darks")
    own = stocked.on(stocked.cwd / "own.sqlite")
    own.ingest("darks")
    (own.cwd / "darks" / "bias_01.fits").unlink()
    done = own("verify").ended_with(5)
    assert "bias_01.fits: the file is gone. Bring it back" in done.out
    own("verify", "--no-frames").ended_with(0)
    own("verify", "--from", "own.sqlite").refused(2, "--fix")
    own("verify", "--fix", "--from", "nothing").refused(2, "no backup")
    own("verify", "--fix").ended_with(5)


def test_relocate_lists_what_it_did_not_find(hotpix: Hotpix) -> None:
    write_campaign(hotpix.cwd / "darks")
    hotpix.ingest("darks")
    (hotpix.cwd / "darks").rename(hotpix.cwd / "archive")
    (hotpix.cwd / "archive" / "bias_01.fits").unlink()
    hotpix("relocate", "darks", "archive", "--dry-run").ended_with(8, "10 frames would be")
    done = hotpix("relocate", "darks", "archive").ended_with(8, "10 frames are", "1 frame not found")
    assert done.out.endswith("bias_01.fits: it is not there\n")
    told = hotpix("relocate", "darks", "archive", "--format", "json").ended_with(8).json
    assert [len(told["moved"]), len(told["unmatched"])] == [0, 1]
    hotpix("relocate", "nowhere", "archive").refused(2, "No frame lies under nowhere")
    hotpix("relocate", "darks", "gone").refused(2, "is no folder")
