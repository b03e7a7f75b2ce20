"""`apply` as a user meets it: what it prints, and how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData

from tests.cli.conftest import Hotpix
from tests.small_camera import hot_pixels, pixels, write_frame

BY_DATE = ("apply", "2021-03-04", "--camera", "smallcam-48")


def light(folder: Path, name: str = "light.fits", **more: Any) -> str:
    header = {"IMAGETYP": "Light Frame"} | more.pop("header", {})
    write_frame(folder / name, header=header, **more)
    return name


def test_a_date_masks_frames_into_a_folder(stocked: Hotpix) -> None:
    names = [light(stocked.cwd, f"light_{i}.fits") for i in (1, 2)]
    done = stocked(*BY_DATE, *names, "-o", "masked/").ended_with(0, "Masked 2 frames")
    assert [line.split() for line in done.out.splitlines()] == [
        ["frame", "mask", "newly", "masked", "masked"],
        [str(stocked.cwd / "masked" / "light_1.fits"), "1", "6", "6"],
        [str(stocked.cwd / "masked" / "light_2.fits"), "1", "6", "6"],
    ]
    mask = CCDData.read(stocked.cwd / "masked" / "light_2.fits", unit="adu").mask
    assert np.array_equal(mask, hot_pixels())
    assert "Warning: Camera smallcam-48 is provisional" in done.err


def test_a_name_that_ends_as_a_folder_is_one(stocked: Hotpix) -> None:
    name = light(stocked.cwd)
    stocked("apply", "1", name, "-o", "masked/").ended_with(0)
    assert (stocked.cwd / "masked" / name).is_file()
    stocked("apply", "1", name, "-o", "one.fits").ended_with(0)
    assert (stocked.cwd / "one.fits").is_file()
    stocked("apply", "1", name, "-o", "no/such/one.fits").refused(1, "Create the folder first")


def test_a_name_that_cannot_be_is_one_sentence(stocked: Hotpix) -> None:
    name = light(stocked.cwd)
    for output in ("x" * 300, "x" * 300 + "/"):
        stocked("apply", "1", name, "-o", output).refused(1, "cannot be written: file name too long")


def test_the_same_again_is_told(stocked: Hotpix) -> None:
    name = light(stocked.cwd)
    stocked("apply", "1", name, "--in-place").ended_with(0, "Masked 1 frame; 0 had this mask already")
    stocked("apply", "auto", name, "--in-place").ended_with(0, "Masked 0 frames; 1 had this mask already")


def test_json_and_csv_account_for_every_frame(stocked: Hotpix) -> None:
    good = light(stocked.cwd)
    small = light(stocked.cwd, "small.fits", data=pixels(60.0, 1)[:9])
    done = stocked("apply", "1", good, small, "-o", "out", "--format", "json")
    applied, refused = done.ended_with(8, "Refused 1 frame of 2", "64 x 9 pixels").json
    assert (applied["status"], applied["mask_id"], applied["masked"]) == ("applied", 1, 6)
    assert applied["output"] == str(stocked.cwd / "out" / "light.fits")
    assert (refused["status"], refused["output"]) == ("refused", None)
    assert "does not fit" in refused["reason"]
    rows = stocked("apply", "1", good, small, "-o", "out", "--format", "csv").ended_with(8).csv
    assert [row["status"] for row in rows] == ["applied", "refused"]


def test_a_single_frame_that_is_refused_ends_with_its_own_code(stocked: Hotpix) -> None:
    small = light(stocked.cwd, "small.fits", data=pixels(60.0, 1)[:9])
    stocked("apply", "1", small, "--in-place").refused(3, "Mask 1 does not fit", "neither header")
    dark = write_frame(stocked.cwd / "dark.fits")
    stocked("apply", "1", dark, "--in-place").refused(1, "is a dark, no science frame")
    (stocked.cwd / "text.fits").write_text("no FITS")
    stocked("apply", "1", "text.fits", "--in-place").refused(1, "no FITS file")


def test_usage_is_explained_before_anything_is_done(stocked: Hotpix) -> None:
    name = light(stocked.cwd)
    before = (stocked.cwd / name).read_bytes()
    stocked("apply", "1", name).refused(2, "-o FILE or FOLDER, or --in-place")
    stocked("apply", "1", name, "-o", "x.fits", "--in-place").refused(2, "exclude each other")
    stocked("apply", "2021-03-04", name, "--in-place").refused(2, "--camera NAME")
    stocked("apply", "7", name, "--in-place").refused(2, "no mask 7")
    stocked("apply", "1", name, "--in-place", "--preset", "WARN").refused(2, "WARM")
    stocked("apply", "1", name, "--in-place", "--adapt", "stretch").ended_with(2, "stretch")
    assert (stocked.cwd / name).read_bytes() == before


def test_binning_is_asked_for_and_a_dry_run_only_tells(stocked: Hotpix) -> None:
    binned = {"XBINNING": 2, "YBINNING": 2}
    name = light(stocked.cwd, data=pixels(60.0, 1)[::2, ::2].copy(), header=binned)
    before = (stocked.cwd / name).read_bytes()
    stocked("apply", "1", name, "--dry-run").refused(3, "`--adapt bin`")
    told = stocked("apply", "1", name, "--dry-run", "--adapt", "bin").ended_with(0, "Would mask 1 frame")
    assert str(stocked.cwd / name) in told.out
    assert (stocked.cwd / name).read_bytes() == before


def test_a_full_disk_leaves_the_frame_as_it_was(stocked: Hotpix) -> None:
    name = light(stocked.cwd)
    table = fits.BinTableHDU.from_columns([fits.Column("A", "100000B", array=np.zeros((1, 100_000)))])
    fits.append(stocked.cwd / name, table.data, table.header)
    before = (stocked.cwd / name).read_bytes()
    poor = stocked.with_small_files(60_000)
    poor("apply", "1", name, "--in-place").ended_with(1, "cannot be written")
    assert (stocked.cwd / name).read_bytes() == before
    assert not list(stocked.cwd.glob(".*.tmp"))
    assert "HPXMASK" not in fits.getheader(stocked.cwd / name)
