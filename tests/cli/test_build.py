"""From catalogued darks to masks: what pairs, what is refused and why, and nothing half-written."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from hotpix_registry.domain import DQ
from tests.cli.conftest import Hotpix
from tests.small_camera import SHAPE, hot_pixels, write_campaign, write_frame

KEYS = {"mask_id", "version", "series", "status", "flagged", "limit_e_per_s"}


def test_from_files_to_the_right_mask(hotpix: Hotpix, empty_database: str) -> None:
    """The main job on both databases, exactly as a user types it."""
    hotpix = hotpix.on(empty_database)
    write_campaign(hotpix.cwd / "darks")
    hotpix("ingest", "darks").ended_with(0, "smallcam-48 is new and provisional", "cameras confirm")
    build = ("build", "--camera", "smallcam-48", "--rule", "limit", "--limit", "4", "--format", "json")
    (built,) = hotpix(*build).ended_with(0).json
    assert built.keys() >= KEYS
    assert (built["mask_id"], built["version"], built["status"], built["new"]) == (1, 1, "certified", True)
    assert built["flagged"] == hot_pixels().sum()
    (again,) = hotpix(*build).ended_with(0).json
    assert (again["mask_id"], again["new"], again["sha256"]) == (1, False, built["sha256"])
    assert hotpix("show", "1", "--format", "json").ended_with(0).json["actor"]
    done = hotpix("mask", "--camera", "smallcam-48", "--date", "2021-03-04").ended_with(0, "provisional")
    assert re.fullmatch(r"\S+\.fits\n", done.out)
    with fits.open(done.out.strip()) as hdus:
        assert np.array_equal(hdus[0].data.astype(bool), hot_pixels())
        assert np.array_equal((hdus["DQ"].data & DQ.BAD.value) != 0, hot_pixels())


def test_a_dry_run_says_which_frames_pair_and_why_others_do_not(hotpix: Hotpix) -> None:
    write_campaign(hotpix.cwd / "darks", darks={120: 3, 300: 1}, biases=2)
    write_frame(hotpix.cwd / "warm.fits", exptime_s=301, header={"CCD-TEMP": -4.0})
    write_frame(hotpix.cwd / "unknown.fits", exptime_s=302, header={"CCD-TEMP": None, "SET-TEMP": None})
    write_frame(hotpix.cwd / "small.fits", exptime_s=303, shape=(47, 64))
    hotpix.ingest("darks", "warm.fits", "unknown.fits", "small.fits")
    hotpix("frames", "exclude", "3", "--reason", "dome light").ended_with(0, "Excluded 1 frame")
    done = hotpix("build", "--camera", "smallcam-48", "--dry-run").ended_with(0)
    assert "2 darks of 120 s" in done.out
    for words in (
        "excluded: dome light",
        "from its set point",
        "its temperature is unknown",
        "64 x 47 pixels",
    ):
        assert words in done.out
    plan = hotpix("build", "--camera", "smallcam-48", "--dry-run", "--format", "json", "--exposures", "120")
    (campaign,) = plan.ended_with(0).json["campaigns"]
    assert {i["exptime_s"] for i in campaign["inputs"]} == {0.0, 120.0}
    hotpix("frames", "include", "3", "--reason", "it was off").ended_with(0)
    hotpix("frames", "fix", "3", "--set", "exptime_s=60", "--reason", "typo").ended_with(0)
    done = hotpix("build", "--camera", "smallcam-48", "--dry-run").ended_with(0)
    assert "1 dark of 60 s" in done.out
    with hotpix.opened() as registry:
        assert registry.masks() == []


def test_darks_left_out_for_one_reason_in_many_nights_are_one_line(hotpix: Hotpix) -> None:
    for day in (1, 2, 3):
        write_campaign(
            hotpix.cwd / f"night{day}",
            start=datetime(2021, 3, day, 22),
            darks={30: 2},
            biases=0,
            header={"CCD-TEMP": -3.0 + day},
        )
    hotpix.ingest("night1", "night2", "night3")
    plan = hotpix("build", "--camera", "smallcam-48", "--dry-run").ended_with(0, "Nothing would be built")
    assert plan.out.count("left out") == 1
    assert (
        "left out, at -2.00 °C it was 8.00 °C from its set point (tolerance 1 °C) (and alike): "
        "dark_30s_01.fits, dark_30s_02.fits, dark_30s_01.fits, dark_30s_02.fits, "
        "and 2 more of 2021-03-01 to 2021-03-03" in plan.out
    )


def test_vanished_and_changed_frames_are_named_and_nothing_is_stored(hotpix: Hotpix) -> None:
    write_campaign(hotpix.cwd / "darks")
    hotpix.ingest("darks")
    (hotpix.cwd / "darks" / "dark_30s_02.fits").unlink()
    with (hotpix.cwd / "darks" / "dark_120s_01.fits").open("r+b") as file:
        file.seek(-3000, 2)
        file.write(b"\1")
    build = ("build", "--camera", "smallcam-48")
    done = hotpix(*build).refused(5, "dark_30s_02.fits has vanished", "dark_120s_01.fits has changed")
    assert "bias" not in done.err
    with hotpix.opened() as registry:
        assert registry.masks() == []


def test_what_was_built_before_a_frame_vanished_is_kept_and_told(hotpix: Hotpix) -> None:
    write_campaign(hotpix.cwd / "march")
    write_campaign(hotpix.cwd / "may", start=datetime(2021, 5, 4, 22))
    hotpix.ingest("march", "may")
    (hotpix.cwd / "may" / "dark_30s_02.fits").unlink()
    done = hotpix("build", "--camera", "smallcam-48", "--rule", "limit", "--limit", "4")
    assert done.code in (5, 8)
    assert "may/dark_30s_02.fits has vanished" in done.err
    assert "Mask 1" in done.out
    with hotpix.opened() as registry:
        assert [mask["first_night"] for mask in registry.masks()] == ["2021-03-04"]


def test_candidates_alone_end_with_their_own_code_and_wait_for_a_person(hotpix: Hotpix) -> None:
    write_campaign(hotpix.cwd / "darks")
    hotpix.ingest("darks")
    toml = hotpix("cameras", "show", "smallcam-48", "--toml").ended_with(0).out
    (hotpix.cwd / "mine.toml").write_text(toml + '[policy]\ncertify = "manual"\n')
    hotpix("cameras", "apply", "mine.toml").ended_with(0)
    done = hotpix("build", "--camera", "smallcam-48", "--rule", "limit", "--limit", "4").ended_with(
        8, "candidate", "certify ID"
    )
    assert "Mask 1" in done.out
    look_up = ("mask", "--camera", "smallcam-48", "--date", "2021-03-04")
    hotpix(*look_up).refused(3, "no certified mask")
    assert "instead of no mask" in hotpix("certify", "1", "--reason", "looked").ended_with(0).out
    hotpix(*look_up).ended_with(0)
    hotpix("certify", "7").refused(2, "no mask 7")


def test_a_camera_without_gain_is_catalogued_and_the_build_says_what_to_give(hotpix: Hotpix) -> None:
    write_campaign(hotpix.cwd / "darks", header={"EGAIN": None})
    assert hotpix.ingest("darks")["accepted"] == 11
    done = hotpix("build", "--camera", "smallcam-48").refused(1, "gain", "cameras show", "cameras apply")
    assert "gain_e_per_adu" in done.err
    profile = hotpix("cameras", "show", "smallcam-48", "--toml").out + "[detector]\ngain_e_per_adu = 1.0\n"
    (hotpix.cwd / "mine.toml").write_text(profile)
    with hotpix.opened() as registry:
        registry.apply_profile(hotpix.cwd / "mine.toml")
    hotpix("build", "--camera", "smallcam-48", "--rule", "limit", "--limit", "4").ended_with(0)


def test_two_combined_darks_months_apart_make_the_guides_mask(hotpix: Hotpix) -> None:
    """The guide's own way: masters of 90 s and 1000 s, bias subtracted, overscan columns still there."""
    rng = np.random.default_rng(1)
    rate = np.full((32, 4109), 0.02)
    hot = rng.choice(32 * 4096, 200, replace=False)
    rate[np.unravel_index(hot, (32, 4096))] = rng.uniform(0.5, 12.0, 200)
    frames = ((90.0, 10, "2017-12-28T22:00:00"), (1000.0, 20, "2018-08-22T22:00:00"))
    for exptime_s, n, start in frames:
        noise = rng.normal(0, 10 / 1.5 / n**0.5, rate.shape)
        write_frame(
            hotpix.cwd / f"combined_{exptime_s:g}.fits",
            exptime_s=exptime_s,
            start=start,
            data=(rate * exptime_s / 1.5 + noise).astype(np.float32),
            header={
                "INSTRUME": "aspen",
                "IMAGETYP": "Dark Frame",
                "COMBINED": True,
                "NCOMBINE": n,
                "SUBBIAS": "ccd=<CCDData>",
                "BUNIT": "adu",
                "EGAIN": None,
                "TRIMSEC": "[1:4096, :]",
            },
        )
    assert hotpix.ingest("combined_90.fits", "combined_1000.fits")["accepted"] == 2
    done = hotpix("build", "--camera", "aspen", "--rule", "limit", "--limit", "4").ended_with(0)
    assert "borrowed" in hotpix("build", "--camera", "aspen", "--dry-run").out
    with hotpix.opened() as registry:
        mask = registry.mask("aspen", "2018-08-22").array
    assert mask.shape == (32, 4096), done.out
    truth = rate[:, :4096] > 4
    clear = np.abs(rate[:, :4096] - 4) > 0.3
    assert np.array_equal(mask[clear], truth[clear])


@pytest.mark.parametrize("level", [0, 65535, np.nan])
def test_frames_without_any_content_are_no_crash(hotpix: Hotpix, level: float) -> None:
    """All pixels zero, saturated or not a number: what broken cables and simulators write."""
    data = np.full(SHAPE, level, np.float32 if np.isnan(level) else np.uint16)
    for exptime_s in (30, 120):
        write_frame(hotpix.cwd / "flat" / f"{exptime_s}.fits", exptime_s=exptime_s, data=data)
    hotpix.ingest("flat")
    done = hotpix("build", "--camera", "smallcam-48")
    assert done.code in (0, 1, 8)
    done.ended_with(done.code)


def test_a_build_that_cannot_be_is_a_usage_error(stocked: Hotpix) -> None:
    build = ("build", "--camera", "smallcam-48")
    stocked("build", "--camera", "smalcam-48").refused(2, "smalcam-48", "Did you mean smallcam-48?")
    stocked(*build, "--nights", "2021-03-05..2021-03-04").refused(2, "end before they begin")
    stocked(*build, "--limit", "inf").refused(2, "'inf' is no limit")
    stocked(*build, "--cutoff", "inf").ended_with(2, "--cutoff")
    stocked(*build, "--exposures", "-90").refused(2, "'-90'")
    stocked(*build, "--nights", "2001-01-01").refused(1, "2001-01-01", "--dry-run")


def test_a_mode_that_is_no_ascii_is_no_crash(hotpix: Hotpix) -> None:
    for path in write_campaign(hotpix.cwd / "darks", header={"READOUTM": "Tres rapide"}):
        path.write_bytes(path.read_bytes().replace(b"Tres rapide", b"Tr\xe8s rapide"))
    hotpix.ingest("darks")
    hotpix("build", "--camera", "smallcam-48", "--rule", "limit", "--limit", "4").ended_with(0)
    assert "Très rapide" in hotpix("masks").ended_with(0).out


def test_a_full_disk_under_the_build_stores_nothing(hotpix: Hotpix) -> None:
    write_campaign(hotpix.cwd / "darks")
    hotpix.ingest("darks")
    size = (hotpix.cwd / "registry.sqlite").stat().st_size
    hotpix.with_small_files(4096)("build", "--camera", "smallcam-48").refused(1, "registry.sqlite", "space")
    assert (hotpix.cwd / "registry.sqlite").stat().st_size == size
    with hotpix.opened() as registry:
        assert registry.masks() == []
        assert len(registry.frames()) == 11


def test_a_dark_of_unknown_path_is_named(stocked: Hotpix) -> None:
    stocked("frames", "exclude", "nothing.fits", "--reason", "x").refused(2, "nothing.fits")
    assert Path(stocked.frames()[0].name).name == "bias_01.fits"
