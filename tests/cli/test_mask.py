"""The right mask, its path and nothing else; and a sentence when there is none."""

from __future__ import annotations

import os
import sqlite3
import stat
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from hotpix_registry.domain import Recipe, Rule
from tests.cli.conftest import Hotpix
from tests.small_camera import hot_pixels, write_campaign

MASK = ("mask", "--camera", "smallcam-48")
LOOK_UP = (*MASK, "--date", "2021-03-04")
ANSWER_KEYS = {
    "mask_id",
    "version",
    "sha256",
    "series",
    "valid_from",
    "valid_to",
    "temperature_difference_c",
    "age_days",
    "stale",
    "extrapolated",
    "status",
    "receipt",
    "path",
}


def test_the_answer_has_its_path_its_keys_and_its_warnings(stocked: Hotpix) -> None:
    done = stocked(*LOOK_UP).ended_with(0, "Warning: Camera smallcam-48 is provisional")
    path = Path(done.out.removesuffix("\n"))
    assert path.is_file()
    assert done.out == f"{path}\n"
    more = stocked(*LOOK_UP, "--temperature", "-10.4", "--exposure", "300", "--format", "json")
    answer = more.ended_with(0, "300 s lies outside those tested (30 to 120 s)").json
    assert answer.keys() >= ANSWER_KEYS
    assert (answer["mask_id"], answer["temperature_difference_c"]) == (1, -0.4)
    assert answer["path"] == str(path)
    assert "2021-03-04T22:00:00Z" in stocked("show", "1").ended_with(0).out


def test_a_mask_is_written_whole_in_the_format_asked_for(stocked: Hotpix) -> None:
    assert stocked(*LOOK_UP, "-o", "mask.fits").ended_with(0).out == "mask.fits\n"
    with fits.open(stocked.cwd / "mask.fits") as hdus:
        assert np.array_equal(hdus[0].data.astype(bool), hot_pixels())
    stocked(*LOOK_UP, "-o", "mask.npy", "--format", "npy").ended_with(0)
    assert np.array_equal(np.load(stocked.cwd / "mask.npy"), hot_pixels())
    piped = stocked(*LOOK_UP, "--format", "fits").ended_with(0)
    assert piped.out.startswith("SIMPLE  =")
    assert not list(stocked.cwd.glob(".*"))


def test_a_device_is_written_to_and_not_replaced(stocked: Hotpix) -> None:
    os.mkfifo(stocked.cwd / "pipe.fits")
    with stocked.start(*LOOK_UP, "-o", "pipe.fits") as process:
        received = (stocked.cwd / "pipe.fits").read_bytes()
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert received.startswith(b"SIMPLE  =")
    assert stat.S_ISFIFO((stocked.cwd / "pipe.fits").stat().st_mode)


@pytest.mark.parametrize(
    ("question", "code", "words"),
    [
        (("--date", "2031-02-30"), 2, "'2031-02-30' cannot be read as a date"),
        (("--date", "yesterday"), 2, "'yesterday' is not a date"),
        (("--date", "2021-03-04T22:00:00"), 2, "add Z"),
        (("--date", "2021-03-04", "--temperature", "nan"), 2, "no temperature"),
        (("--date", "2021-03-04", "--exposure", "-5"), 2, "no exposure time"),
        (("--date", "0001-01-05"), 3, "--fallback nearest"),
        (("--date", "2021-03-04", "--temperature", "-30"), 3, "-10"),
    ],
)
def test_a_question_without_an_answer_is_one_sentence(
    stocked: Hotpix, question: tuple[str, ...], code: int, words: str
) -> None:
    stocked(*MASK, *question).refused(code, words)


def test_a_mistyped_camera_is_corrected(stocked: Hotpix) -> None:
    done = stocked("mask", "--camera", "smallcam", "--date", "2021-03-04")
    done.refused(2, "no camera smallcam", "Did you mean smallcam-48?")


def test_the_ends_of_the_calendar_are_no_crash(stocked: Hotpix) -> None:
    stocked(*MASK, "--date", "9999-12-27").ended_with(0, "older than the date")
    stocked(*MASK, "--date", "0001-01-05", "--fallback", "nearest").ended_with(0, "the nearest one")


def test_an_empty_registry_says_what_to_run(hotpix: Hotpix) -> None:
    hotpix(*LOOK_UP).refused(6, "no registry", "ingest")
    write_campaign(hotpix.cwd / "darks", darks={30: 1}, biases=0)
    hotpix.ingest("darks")
    hotpix(*LOOK_UP).refused(3, "1 catalogued frame", "hotpix-registry build --camera smallcam-48")


def test_several_series_and_several_masks_of_a_night_are_ambiguous(hotpix: Hotpix) -> None:
    write_campaign(hotpix.cwd / "march", biases=0)
    write_campaign(hotpix.cwd / "april", start=datetime(2021, 4, 4, 22), biases=0)
    cold = {"SET-TEMP": -20.0, "CCD-TEMP": -20.0}
    write_campaign(hotpix.cwd / "cold", start=datetime(2021, 3, 5, 1), biases=0, header=cold)
    hotpix.ingest("march", "april")
    with hotpix.opened() as registry:
        registry.build("smallcam-48", recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
    # without a longitude the bare date of the first night touches the mask before it
    done = hotpix(*MASK, "--date", "2021-04-03").refused(4, "mask 1", "mask 2", "Give a time")
    assert "2021-04-04T00:00:00Z" in done.err
    hotpix(*MASK, "--date", "2021-04-03T22:00:00Z").ended_with(0)
    hotpix.ingest("cold")
    with hotpix.opened() as registry:
        registry.build("smallcam-48", recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
    hotpix(*LOOK_UP).refused(4, "-10 °C", "-20 °C", "--temperature")
    hotpix(*LOOK_UP, "--temperature", "-20.5").ended_with(0)


def test_a_full_disk_leaves_the_old_file_or_none(stocked: Hotpix) -> None:
    old = stocked.cwd / "mask.fits"
    old.write_text("the old one")
    full = stocked.with_small_files(33_000)  # SQLite needs 32 KiB to read
    full(*LOOK_UP, "-o", "mask.fits").refused_after_warnings(1, "mask.fits cannot be written")
    full(*LOOK_UP).refused_after_warnings(1, "cannot be written")
    assert old.read_text() == "the old one"
    assert {path.name for path in stocked.cwd.rglob("*") if path.is_file()} <= {
        "mask.fits",
        "registry.sqlite",
        "registry.sqlite-wal",
        "registry.sqlite-shm",
    }


def test_a_place_that_cannot_be_written_is_one_sentence(stranger: Hotpix, stocked: Hotpix) -> None:
    (stocked.cwd / "closed").mkdir(mode=0o555)
    (stocked.cwd / "file").touch()
    stranger(*LOOK_UP, "-o", "closed/mask.fits").refused_after_warnings(1, "closed/mask.fits", "permission")
    stranger(*LOOK_UP, "-o", "gone/mask.fits").refused_after_warnings(1, "Create the folder")
    stranger(*LOOK_UP, "-o", "closed").refused_after_warnings(1, "is a folder")
    cacheless = stranger.with_settings(HOTPIX_CACHE_DIR="file")
    cacheless(*LOOK_UP).refused_after_warnings(1, "a file where a folder is needed")
    cacheless(*LOOK_UP, "-o", "mask.fits").ended_with(0)
    assert list((stocked.cwd / "closed").iterdir()) == []


def test_a_damaged_cache_is_repaired_and_a_damaged_registry_is_told(stocked: Hotpix) -> None:
    path = Path(stocked(*LOOK_UP).out.strip())
    good = path.read_bytes()
    path.write_bytes(good[:-1000])
    assert Path(stocked(*LOOK_UP).ended_with(0).out.strip()).read_bytes() == good
    with sqlite3.connect(stocked.cwd / "registry.sqlite") as connection:
        connection.execute("DROP TRIGGER guard_masks_update")
        connection.execute("UPDATE masks SET blob = CAST(substr(blob, 1, 99) || randomblob(999) AS BLOB)")
    connection.close()
    path.unlink()
    stocked(*LOOK_UP, "-o", "mask.fits").refused_after_warnings(5, "damaged")
    assert not (stocked.cwd / "mask.fits").exists()


def test_masks_and_show_can_be_read_by_machines(stocked: Hotpix) -> None:
    (listed,) = stocked("masks", "--format", "json").ended_with(0).json
    assert listed["valid"][0]["to"] is None
    assert listed["flagged"] == hot_pixels().sum()
    assert stocked("masks", "--format", "csv").csv[0]["mask_id"] == "1"
    table = Table.read(stocked("masks", "--format", "ecsv").ended_with(0).out, format="ascii.ecsv")
    assert list(table["mask_id"]) == [1]
    shown = stocked("show", "1", "--format", "json").ended_with(0).json
    assert len(shown["inputs"]) == 11
    assert {"recipe", "software", "host", "built", "profile_digest"} <= shown.keys()
    for mask_id in ("99", "99999999999999999999"):
        stocked("show", mask_id).refused(2, f"no mask {mask_id}")


def test_the_pictures_go_where_they_are_told(stocked: Hotpix) -> None:
    done = stocked("plot", "1", "-o", "plots").ended_with(0)
    pictures = [stocked.cwd / line for line in done.out.splitlines()]
    assert len(pictures) >= 3
    assert all(picture.stat().st_size > 5000 for picture in pictures)
    (stocked.cwd / "file").touch()
    stocked("plot", "1", "-o", "file").refused(1, "file")


def test_an_imported_mask_is_told_what_frames_it_is_for(stocked: Hotpix) -> None:
    np.save(stocked.cwd / "cmos.npy", np.eye(48, 64, dtype=bool))
    taken_in = (
        "import",
        "cmos.npy",
        "--camera",
        "smallcam-48",
        "--from",
        "2021-03-04",
        "--temperature",
        "-10",
    )
    done = stocked(*taken_in, "--gain-setting", "100", "--row-order", "top-down").ended_with(0)
    assert "version 1 of smallcam-48 at -10 °C, bin 1x1, gain 100, top-down, certified" in done.out
    asked = ("mask", "--camera", "smallcam-48", "--date", "2021-03-04")
    stocked(*asked, "--gain-setting", "100").ended_with(0)
    stocked(*asked, "--gain-setting", "101").refused_after_warnings(3)
    for option, text in (
        ("--row-order", "upwards"),
        ("--bayer", "XYZZ"),
        ("--binning", "0x1"),
        ("--sub-frame", "0,0,0,9"),
        ("--gain-setting", "nan"),
    ):
        stocked(*taken_in, option, text).refused(2, f"'{text}' does not fit {option}")
    stocked("import", "registry.sqlite", "--row-order", "TOP-DOWN").refused(2, "Leave out --row-order")
