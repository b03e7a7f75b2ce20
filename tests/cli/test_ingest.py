"""Frames in: every file ends in exactly one of four, and running it again changes nothing."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import os
import re
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits
from astropy.table import Table

from hotpix_registry.catalogue.engine import writing
from hotpix_registry.domain import Kind
from hotpix_registry.errors import UsageError
from hotpix_registry.fits.streams import PlainBytes
from hotpix_registry.registry import batch
from hotpix_registry.registry import ingest as ingesting
from tests.cli.conftest import Hotpix
from tests.fits import header_texts as texts
from tests.small_camera import SHAPE, pixels, write_campaign, write_frame


def counts(report: dict[str, Any]) -> tuple[int, int, int, int]:
    """(accepted, known, skipped, rejected)"""
    return report["accepted"], report["known"], report["skipped"], len(report["rejected"])


def ingest(hotpix: Hotpix, *arguments: str | Path, stdin: str = "") -> dict[str, Any]:
    report: dict[str, Any] = hotpix("ingest", *arguments, "--format", "json", stdin=stdin).ended_with(0).json
    return report


def reason(report: dict[str, Any], name: str) -> str:
    (found,) = [r["reason"] for r in report["rejected"] if Path(r["path"]).name == name]
    return str(found)


def write_spoiled(folder: Path) -> None:
    """One of every kind of file that nobody wants to meet."""
    good = write_frame(folder / "good.fits").read_bytes()
    (folder / "cut_in_pixels.fits").write_bytes(good[:-2880])
    (folder / "cut_in_header.fits").write_bytes(good[:1000])
    (folder / "cut.fits.gz").write_bytes(gzip.compress(good)[:-40])
    (folder / "empty.fits").touch()
    (folder / "text.fits").write_text("SIMPLY not FITS\n" * 300)
    (folder / "readme.txt").write_text("no frame at all")
    os.mkfifo(folder / "pipe.fits")
    (folder / "nowhere.fits").symlink_to(folder / "gone.fits")
    (folder / "folder.fits").mkdir()
    write_frame(folder / "light.fits", header={"IMAGETYP": "Light Frame"})
    write_frame(folder / "mask.fits", header={"IMAGETYP": "dark mask"})
    write_frame(folder / "darkflat.fits", header={"IMAGETYP": "Dark Flat"})
    for name, value in {"nan": "NaN", "negative": -60.0, "endless": "1E400", "words": "one minute"}.items():
        write_frame(folder / f"{name}.fits", header={"EXPTIME": value})
    write_frame(folder / "timeless.fits", header={"EXPTIME": None})
    write_frame(folder / "undated.fits", header={"DATE-OBS": None})
    write_frame(folder / "misdated.fits", header={"DATE-OBS": "2021-13-45T99:00:00"})
    write_frame(folder / "anonymous.fits", header={"INSTRUME": "ASCOM Camera"})
    image = fits.ImageHDU(pixels(60, 1))
    fits.HDUList([fits.PrimaryHDU(header=fits.getheader(folder / "good.fits")), image, image]).writeto(
        folder / "mosaic.fits"
    )


REJECTED = {
    "cut_in_pixels.fits": "truncated",
    "cut_in_header.fits": "truncated",
    "cut.fits.gz": "truncated",
    "empty.fits": "zero bytes",
    "text.fits": "no FITS file",
    "pipe.fits": "pipe",
    "nowhere.fits": "No such file",
    "nan.fits": "NaN",
    "negative.fits": "-60",
    "endless.fits": "EXPTIME",
    "words.fits": "one minute",
    "timeless.fits": "no exposure time",
    "undated.fits": "no date",
    "misdated.fits": "2021-13-45",
    "anonymous.fits": "--camera",
    "mosaic.fits": "mosaic",
}


def test_every_spoiled_file_is_named_with_its_reason_and_the_good_one_goes_in(hotpix: Hotpix) -> None:
    write_spoiled(hotpix.cwd / "night")
    report = ingest(hotpix, "night")
    assert {Path(r["path"]).name for r in report["rejected"]} == set(REJECTED)
    for name, words in REJECTED.items():
        assert words in reason(report, name), reason(report, name)
        assert "Traceback" not in reason(report, name)
    assert counts(report) == (1, 0, 4, len(REJECTED))
    assert report["skipped_by_type"].keys() == {
        "Light Frame",
        "dark mask",
        "Dark Flat",
        "no FITS file by its name",
    }
    listed = hotpix("frames", "--rejected", "--format", "json").ended_with(0).json
    assert {Path(row["path"]).name for row in listed} == set(REJECTED)
    # the second time the good one is known, and the count of files is the same
    assert counts(hotpix.ingest("night")) == (0, 1, 4, len(REJECTED))


def test_a_rejected_file_fails_the_command_only_when_asked(hotpix: Hotpix) -> None:
    write_frame(hotpix.cwd / "night" / "good.fits")
    (hotpix.cwd / "night" / "empty.fits").touch()
    done = hotpix("ingest", "night", "--fail-on-rejected").ended_with(8, "empty.fits", "zero bytes")
    assert "accepted" in done.out
    assert len(hotpix.frames()) == 1


def test_darks_from_before_the_service_of_their_camera_are_one_rejection(hotpix: Hotpix) -> None:
    for day in (1, 2, 3, 9):
        start = datetime(2021, 3, day, 22)
        write_campaign(hotpix.cwd / f"night{day}", start=start, darks={30: 2, 120: 1}, biases=0)
    hotpix.ingest("night9")
    profile = '[camera]\nname = "smallcam-48"\n[match]\ninstruments = ["Smallcam 48"]\n'
    (hotpix.cwd / "camera.toml").write_text(profile + "[service]\nfrom = 2021-03-09\n")
    hotpix("cameras", "apply", "camera.toml").ended_with(0)
    done = hotpix("ingest", "-r", ".").ended_with(0)
    assert done.err.count("Rejected") == 1
    assert (
        "Rejected 9: It was taken in the nights 2021-03-01 to 2021-03-03, outside the service of camera "
        "smallcam-48 (2021-03-09 to …). Correct the header's date or the camera's [service]." in done.err
    )
    assert "… and 4 more" in done.err
    listed = hotpix("frames", "--rejected", "--format", "json").ended_with(0).json
    assert [row["reason"][:42] for row in listed[::4]] == [
        "It was taken in the night 2021-03-01, outs",
        "It was taken in the night 2021-03-02, outs",
        "It was taken in the night 2021-03-03, outs",
    ]
    survey = hotpix("survey", "-r", ".", "--profile", "camera.toml").ended_with(0)
    assert "9 files: It was taken in the nights 2021-03-01 to 2021-03-03, outside" in survey.out


def test_folders_globs_lists_and_standard_input_name_files(hotpix: Hotpix) -> None:
    write_campaign(hotpix.cwd / "top", darks={30: 1}, biases=0)
    write_campaign(hotpix.cwd / "top" / "below", darks={40: 1}, biases=0)
    write_campaign(hotpix.cwd / "glob", darks={50: 2}, biases=0)
    write_campaign(hotpix.cwd / "list", darks={60: 2}, biases=0)
    write_campaign(hotpix.cwd / "stdin", darks={70: 2}, biases=0)
    listed = hotpix.cwd / "list.txt"
    listed.write_text("# darks\nlist/dark_60s_01.fits\n\nlist/gone.fits\nlist/dark_60s_02.fits\n")
    assert counts(hotpix.ingest("top")) == (1, 0, 0, 0)
    assert counts(hotpix.ingest("glob/*.fits", "glob/dark_50s_01.fits")) == (2, 0, 0, 0)
    report = ingest(hotpix, f"@{listed}", "-r", "top")
    assert counts(report) == (3, 1, 0, 1)
    assert "No such file" in reason(report, "gone.fits")
    report = ingest(hotpix, "-", stdin="stdin/dark_70s_01.fits\nstdin/gone.fits\nstdin/dark_70s_02.fits\n")
    assert counts(report) == (2, 0, 0, 1)
    assert "No such file" in reason(report, "gone.fits")


def test_what_names_nothing_is_a_usage_error(hotpix: Hotpix) -> None:
    hotpix("ingest").refused(2, "-r DARKS")
    hotpix("ingest", "nothing-here").refused(2, "nothing-here")
    hotpix("frames").refused(6, "no registry")
    for argument in ("nothing-here/*.fits", "@nothing.txt"):
        with hotpix.opened() as registry, pytest.raises(UsageError, match=re.escape(argument.lstrip("@"))):
            registry.ingest(argument)


def test_a_dry_run_leaves_no_trace(hotpix: Hotpix) -> None:
    write_campaign(hotpix.cwd / "night", darks={30: 2}, biases=1)
    report = ingest(hotpix, "night", "--dry-run")
    assert counts(report) == (3, 0, 0, 0)
    assert report["dry_run"] is True
    assert [path.name for path in hotpix.cwd.iterdir()] == ["night"]
    assert counts(hotpix.ingest("night")) == (3, 0, 0, 0)
    write_frame(hotpix.cwd / "night" / "more.fits", exptime_s=99)
    assert counts(ingest(hotpix, "night", "--dry-run")) == (1, 3, 0, 0)
    assert len(hotpix.frames()) == 3


def test_a_dry_run_waits_for_no_writer_and_foresees_copies_and_twins(hotpix: Hotpix) -> None:
    write_frame(hotpix.cwd / "first.fits")
    hotpix.ingest("first.fits")
    frame = write_frame(hotpix.cwd / "night" / "a.fits", exptime_s=99)
    shutil.copy(frame, hotpix.cwd / "night" / "b.fits")
    (hotpix.cwd / "night" / "c.fits.gz").write_bytes(gzip.compress(frame.read_bytes()))
    write_frame(hotpix.cwd / "night" / "d.fits", header={"OBSERVER": "somebody else"})
    with hotpix.opened() as registry, writing(registry._engine):
        report = ingest(hotpix, "night", "--dry-run")
    assert counts(report) == (3, 1, 0, 0)
    (by_file, by_number) = report["notices"]
    assert "c.fits.gz is the same exposure as a file before it" in by_file
    assert "d.fits is the same exposure as frame 1" in by_number
    assert len(hotpix.frames()) == 1


def test_batches_of_any_size_make_the_same_catalogue(hotpix: Hotpix, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = hotpix.cwd / "night"
    write_campaign(folder, darks={30: 3, 60: 3}, biases=3)
    shutil.copy(folder / "dark_30s_01.fits", folder / "copy.fits")
    (folder / "dark_60s_01.fits.gz").write_bytes(gzip.compress((folder / "dark_60s_01.fits").read_bytes()))
    (folder / "empty.fits").touch()
    monkeypatch.setattr(batch, "_FILES", 1)
    monkeypatch.setattr(ingesting, "_LOOKED_UP", 2)
    rehearsed = hotpix.ingest("night", dry_run=True)
    one_by_one = hotpix.ingest("night")
    assert {**rehearsed, "notices": [], "dry_run": False} == {**one_by_one, "notices": []}
    assert counts(one_by_one) == (10, 1, 0, 1)
    assert len(rehearsed["notices"]) == len(one_by_one["notices"]) == 2
    status = [(f["name"], f["status"]) for f in hotpix("frames", "--format", "json").json]
    assert ("dark_60s_01.fits.gz", "twin") in status
    assert sorted(s for _, s in status) == ["twin"] + ["used"] * 9


def test_a_file_that_changes_while_it_is_read_is_rejected(
    hotpix: Hotpix, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = write_frame(hotpix.cwd / "dark.fits")

    def touch_and_hash(source: PlainBytes) -> str:
        os.utime(frame, ns=(1, 1))
        return "0" * 64

    with monkeypatch.context() as patch:
        patch.setattr(PlainBytes, "sha256", touch_and_hash)
        report = hotpix.ingest("dark.fits")
    assert "changed while it was read" in reason(report, "dark.fits")
    assert counts(hotpix.ingest("dark.fits")) == (1, 0, 0, 0)


def test_a_frame_is_known_by_the_digest_of_its_stored_bytes(hotpix: Hotpix) -> None:
    frame = write_frame(hotpix.cwd / "dark.fits", exptime_s=30)
    packed = hotpix.cwd / "other.fits.gz"
    packed.write_bytes(gzip.compress(write_frame(hotpix.cwd / "other.fits", exptime_s=40).read_bytes()))
    hotpix.ingest("dark.fits", "other.fits.gz")
    assert [f.sha256 for f in hotpix.frames()] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in (frame, packed)
    ]


def test_lights_are_remembered_and_not_opened_again(hotpix: Hotpix) -> None:
    light = write_frame(hotpix.cwd / "night" / "light.fits", header={"IMAGETYP": "Light Frame"})
    assert hotpix.ingest("night")["skipped_by_type"] == {"Light Frame": 1}
    before = light.stat()
    light.write_bytes(b"\0" * before.st_size)
    os.utime(light, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ingest(hotpix, "night")["skipped_by_type"] == {"Light Frame": 1}
    # a look with other rules, or at a file of another time, opens it
    assert counts(hotpix.ingest("night", kind="dark")) == (0, 0, 0, 1)
    os.utime(light)
    assert counts(hotpix.ingest("night")) == (0, 0, 0, 1)


def test_the_same_bytes_under_two_names_are_one_frame(hotpix: Hotpix) -> None:
    frame = write_frame(hotpix.cwd / "a" / "dark.fits")
    shutil.copy(frame, hotpix.cwd / "a" / "copy.fits")
    assert counts(hotpix.ingest("a")) == (1, 1, 0, 0)
    (frame_of_two_names,) = hotpix.frames()
    assert [Path(path).name for path in frame_of_two_names.paths] == ["copy.fits", "dark.fits"]


def test_an_exposure_saved_again_in_other_bytes_is_used_once(hotpix: Hotpix) -> None:
    folder = hotpix.cwd / "night"
    frame = write_frame(folder / "dark.fits")
    (folder / "dark.fits.gz").write_bytes(gzip.compress(frame.read_bytes()))
    (folder / "dark.fits.bz2").write_bytes(bz2.compress(frame.read_bytes()))
    with fits.open(frame) as hdus:
        packed = fits.CompImageHDU(hdus[0].data, hdus[0].header, compression_type="RICE_1")
        packed.writeto(folder / "dark.fits.fz")
        hdus[0].header["OBSERVER"] = "somebody else"
        hdus.writeto(folder / "edited.fits")
    report = hotpix.ingest("night")
    assert counts(report) == (5, 0, 0, 0)
    assert sum("saved again" in notice for notice in report["notices"]) == 4
    status = [f["status"] for f in hotpix("frames", "--format", "json").json]
    assert sorted(status) == ["twin"] * 4 + ["used"]


def test_biases_within_one_second_of_the_clock_are_told_apart_by_their_pixels(hotpix: Hotpix) -> None:
    for number in range(3):
        data = pixels(0, number)
        write_frame(
            hotpix.cwd / "night" / f"b{number}.fits", exptime_s=0, start="2021-03-04T22:00:00", data=data
        )
    write_frame(
        hotpix.cwd / "night" / "c.fits",
        exptime_s=0,
        start="2021-03-04T22:00:00",
        data=pixels(0, 1),
        header={"OBSERVER": "somebody else"},
    )
    hotpix.ingest("night")
    listed = hotpix("frames", "--format", "json").json
    assert {frame["name"]: frame["status"] for frame in listed} == {
        "b0.fits": "used",
        "b1.fits": "used",
        "b2.fits": "used",
        "c.fits": "twin",
    }


def test_a_bias_that_was_spoiled_later_does_not_stop_the_next(hotpix: Hotpix) -> None:
    first = write_frame(hotpix.cwd / "b1.fits", exptime_s=0, start="2021-03-04T22:00:00", data=pixels(0, 1))
    hotpix.ingest("b1.fits")
    first.write_bytes(b"spoiled")
    write_frame(hotpix.cwd / "b2.fits", exptime_s=0, start="2021-03-04T22:00:00", data=pixels(0, 2))
    assert counts(hotpix.ingest("b2.fits")) == (1, 0, 0, 0)


def test_changed_bytes_under_a_known_name_are_a_new_frame_and_a_warning(hotpix: Hotpix) -> None:
    frame = write_frame(hotpix.cwd / "dark.fits", start="2021-03-04T22:00:00")
    hotpix.ingest("dark.fits")
    write_frame(frame, start="2021-03-04T23:00:00")
    done = hotpix("ingest", "dark.fits").ended_with(0, "dark.fits has changed since its ingest")
    assert re.search(r"accepted +1\n", done.out)
    assert [len(frame.paths) for frame in hotpix.frames()] == [0, 1]


def test_names_that_are_no_text_are_rejected_and_not_a_crash(hotpix: Hotpix) -> None:
    (hotpix.cwd / "night").mkdir()
    frame = write_frame(hotpix.cwd / "dark.fits")
    try:
        shutil.copy(frame, os.fsencode(hotpix.cwd) + b"/night/dark_\xe9t\xe9.fits")
    except OSError:
        pytest.skip("this file system has no such names")
    shutil.copy(frame, hotpix.cwd / "night" / "été ☀ 'x' [1].fits")
    report = ingest(hotpix, "night")
    assert counts(report) == (1, 0, 0, 1)
    assert "UTF-8" in report["rejected"][0]["reason"]
    assert counts(hotpix.ingest("night/été ☀ 'x' [1].fits")) == (0, 1, 0, 0)


def test_the_types_and_numbers_given_by_hand_outlive_a_new_profile(hotpix: Hotpix) -> None:
    write_frame(hotpix.cwd / "untyped.fits", exptime_s=30, header={"IMAGETYP": None})
    write_frame(hotpix.cwd / "master.fits", exptime_s=60, header={"IMAGETYP": "Dark Frame"})
    assert counts(hotpix.ingest("untyped.fits")) == (0, 0, 1, 0)
    assert counts(ingest(hotpix, "untyped.fits", "--type", "dark")) == (1, 0, 0, 0)
    assert counts(ingest(hotpix, "master.fits", "--type", "master dark", "--ncombine", "9")) == (1, 0, 0, 0)
    hotpix("ingest", "--reread").ended_with(0)
    assert {(frame.kind, frame.exptime_s, frame.facts.n_combined) for frame in hotpix.frames()} == {
        (Kind.DARK, 30.0, 1),
        (Kind.MASTER_DARK, 60.0, 9),
    }


def test_reread_applies_a_new_keyword_profile_and_header_shows_it(hotpix: Hotpix) -> None:
    write_frame(hotpix.cwd / "dark.fits", header={"CHIPTEMP": -15.0, "SET-TEMP": None, "CCD-TEMP": None})
    hotpix.ingest("dark.fits")
    (hotpix.cwd / "mine.toml").write_text(
        '[keywords]\nname = "mine"\npriority = 500\n[[match]]\nCHIPTEMP = true\n'
        '[ccd_temp_c]\nfrom = ["CHIPTEMP"]\n'
    )
    assert hotpix.frames()[0].facts.ccd_temp_c is None
    hotpix("cameras", "apply", "mine.toml").ended_with(0, "mine", "--reread")
    hotpix("ingest", "--reread").ended_with(0, "1 frame")
    (frame,) = hotpix.frames()
    assert (frame.facts.ccd_temp_c, frame.facts.sources["ccd_temp_c"]) == (-15.0, "CHIPTEMP")
    shown = hotpix("header", "dark.fits", "--format", "json").ended_with(0).json
    assert (shown["ccd_temp_c"], shown["sources"]["ccd_temp_c"]) == (-15.0, "CHIPTEMP")


def test_every_format_can_be_read_by_machines(hotpix: Hotpix) -> None:
    write_frame(hotpix.cwd / "night" / "dark.fits")
    (hotpix.cwd / "night" / "empty.fits").touch()
    hotpix.ingest("night")
    rows = hotpix("ingest", "night", "--format", "csv").ended_with(0).csv
    assert [(row["outcome"], row["reason"]) for row in rows[:3]] == [
        ("accepted", "0"),
        ("known", "1"),
        ("skipped", "0"),
    ]
    assert rows[3]["path"].endswith("empty.fits")
    done = hotpix("ingest", "night", "--format", "ecsv").ended_with(0)
    table = Table.read(done.out, format="ascii.ecsv")
    assert list(table["outcome"]) == ["accepted", "known", "skipped", "rejected"]


def test_header_says_what_it_understood_from_which_keyword(hotpix: Hotpix) -> None:
    frame = write_frame(hotpix.cwd / "dark.fits", header={"SERIAL": "XY-17"})
    facts = hotpix("header", frame, "--format", "json").ended_with(0).json
    assert (facts["kind"], facts["exptime_s"], facts["sources"]["exptime_s"]) == ("dark", 60.0, "EXPTIME")
    assert (facts["serial"], facts["sources"]["set_temp_c"]) == ("XY-17", "SET-TEMP")
    assert facts["shape"] == list(SHAPE)
    text = hotpix("header", frame).ended_with(0).out
    assert "EXPTIME" in text
    assert "XY-17" in text
    (hotpix.cwd / "empty.fits").touch()
    hotpix("header", "empty.fits").refused(1, "empty")
    hotpix("header", "gone.fits").refused(1, "no such file")


def test_a_folder_and_a_file_without_permission_are_rejected_by_name(stranger: Hotpix) -> None:
    night = stranger.cwd / "night"
    write_frame(night / "good.fits")
    write_frame(night / "secret.fits", exptime_s=90).chmod(0)
    write_frame(night / "below" / "dark.fits", exptime_s=120)
    (night / "below").chmod(0)
    report = ingest(stranger, "-r", "night")
    assert counts(report) == (1, 0, 0, 2)
    assert "may not be read by this user" in reason(report, "secret.fits")
    assert "may not be read by this user" in reason(report, "below")
    report = ingest(stranger, "night/below")
    assert "may not be read by this user" in reason(report, "below")
    (night / "below").chmod(0o755)


# --- hostile files --------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be given there")
def test_control_characters_in_a_files_name_are_shown_and_not_obeyed(hotpix: Hotpix) -> None:
    folder = hotpix.cwd / "night"
    folder.mkdir()
    (folder / "\x1b]0;title\x07\x1b[31mred.fits").write_bytes(b"SIMPLE  =                    T")
    done = hotpix("ingest", "night").ended_with(0, r"\x1b]0;title\x07\x1b[31mred.fits")
    assert "\x1b" not in done.err + done.out
    rejected = hotpix("frames", "--rejected").ended_with(0)
    assert r"\x1b[31mred.fits" in rejected.out
    assert "\x1b" not in rejected.err + rejected.out


def test_a_camera_with_a_name_of_thousands_of_cards_has_a_short_one_here(hotpix: Hotpix) -> None:
    long = "INSTRUME= 'Cam&'\n" + "\n".join([f"CONTINUE  '{'x' * 60}&'"] * 3000)
    about = "IMAGETYP= 'Dark'\nEXPTIME = 90\nDATE-OBS= '2018-08-22T04:00:00'\nSET-TEMP= -20"
    (hotpix.cwd / "a.fits").write_bytes(texts.image(f"{about}\n{long}"))
    done = hotpix("ingest", "a.fits").ended_with(0)
    assert len(done.err) < 1000
    (camera,) = hotpix("cameras", "--format", "json").ended_with(0).json
    assert camera["name"] == "cam" + "x" * 77
