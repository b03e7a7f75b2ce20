"""An archive looked through without a database: what it holds, what would pair, what stands in the way."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotpix_registry.registry import Registry
from hotpix_registry.registry.ingest import find_files
from hotpix_registry.registry.survey import campaign_dict, load_profiles, survey
from tests.cli.conftest import Hotpix
from tests.small_camera import write_campaign, write_frame


@pytest.fixture
def bare(hotpix: Hotpix) -> Hotpix:
    """A command line whose database cannot be opened, whatever is tried."""
    return hotpix.on("oracle://nowhere")


def told(hotpix: Hotpix, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = hotpix("survey", *arguments, "--format", "json").ended_with(0).json
    return found


def problem(found: dict[str, Any], words: str) -> dict[str, Any]:
    (one,) = [p for p in found["problems"] if words in p["problem"]]
    return dict(one)


def test_it_says_what_there_is_and_what_would_pair_and_writes_nothing(bare: Hotpix) -> None:
    write_campaign(bare.cwd / "a" / "2021")
    write_campaign(
        bare.cwd / "a" / "2022",
        start=datetime(2022, 3, 1, 22),
        darks={30.01: 3},
        biases=0,
        header={"SET-TEMP": -10.0},
    )
    write_frame(bare.cwd / "a" / "m31.fits", header={"IMAGETYP": "Light Frame"})
    (bare.cwd / "a" / "notes.txt").write_text("clouds")
    before = sorted(bare.cwd.rglob("*"))
    done = bare("survey", "-r", "a").ended_with(
        0, "16 files: 14 darks, biases and masters of 1 camera", "2 campaigns would make a mask each, 2 by"
    )
    assert sorted(bare.cwd.rglob("*")) == before
    assert "4 x 30 s, 4 x 120 s" in done.out
    assert "3 x 30.01 s, 4 x 120 s (borrowed, 2021-03-04)" in done.out
    assert "- 14 files of smallcam-48: No profile describes the camera; its name alone tells it." in done.out
    assert '[camera] with `name = "smallcam-48"`' in done.out
    found = told(bare, "-r", "a")
    assert [(g["kind"], g["exptime_s"], g["year"], g["frames"]) for g in found["groups"]] == [
        ("bias", 0.0, 2021, 3),
        ("dark", 30.0, 2021, 4),
        ("dark", 120.0, 2021, 4),
        ("dark", 30.01, 2022, 3),
    ]
    assert found["other"] == {"Light Frame": 1, "no FITS file by its name": 1}
    assert found["groups"][0]["set_point_c"] == -10.0
    rows = bare("survey", "-r", "a", "--format", "csv").ended_with(0).csv
    assert [row["frames"] for row in rows] == ["3", "4", "4", "3"]
    assert "%ECSV" in bare("survey", "-r", "a", "--format", "ecsv").ended_with(0).out
    bare("survey", "a").ended_with(0, "Give -r to descend into folders.")


def test_it_needs_no_setting_either(bare: Hotpix) -> None:
    write_frame(bare.cwd / "a.fits")
    broken = replace(bare.with_settings(HOTPIX_CONFIG="gone.toml"), from_scratch=True)
    assert "smallcam-48" in broken("survey", "a.fits").ended_with(0).out


PROBLEMS: list[tuple[dict[str, Any], str, str]] = [
    ({"EXPTIME": None}, "gives no exposure time", '[exptime_s] with `from = ["KEYWORD"]`'),
    ({"DATE-OBS": None}, "gives no date of observation", '[start] with `from = ["KEYWORD"]`'),
    ({"DATE-OBS": "soon"}, "is no date that can be read", "Write the UTC start of the exposure"),
    ({"IMAGETYP": None}, "does not say what the frame is", "ingest --type dark FILE…"),
    ({"IMAGETYP": "Master Dark"}, "does not say of how many frames", "ingest --ncombine N FILE…"),
    ({"INSTRUME": None}, "does not say which camera took it", "ingest --camera NAME FILE…"),
    ({"INSTRUME": "ASCOM Camera"}, "does not say which camera took it", "ingest --camera NAME FILE…"),
    ({"SET-TEMP": None, "CCD-TEMP": None}, "Its temperature is unknown.", 'grid_c = "none"'),
    ({"CCD-TEMP": -3.0}, "7.00 °C from its set point", "tolerance_c under [temperature]"),
    ({"EGAIN": None}, "gives the gain", "gain_e_per_adu under [detector]"),
    ({"BUNIT": "furlong"}, "is no unit of a dark", "Write adu, electron"),
]


@pytest.mark.parametrize(("header", "words", "cure"), PROBLEMS)
def test_each_problem_has_its_cure(bare: Hotpix, header: dict[str, Any], words: str, cure: str) -> None:
    write_campaign(bare.cwd / "a", header={"TEMPERAT": 1})
    write_frame(bare.cwd / "a" / "x.fits", start=datetime(2021, 3, 4, 23, 55), header=header)
    found = problem(told(bare, "a"), words)
    assert cure in found["cure"]
    assert found["count"] == 1
    assert found["examples"] == [str(bare.cwd / "a" / "x.fits")]


def test_files_that_cannot_be_read_are_counted_and_listed(bare: Hotpix) -> None:
    write_frame(bare.cwd / "good.fits")
    whole = (bare.cwd / "good.fits").read_bytes()
    (bare.cwd / "short.fits").write_bytes(whole[:-3000])
    (bare.cwd / "empty.fits").write_bytes(b"")
    (bare.cwd / "text.fits").write_text("hello")
    (bare.cwd / "header.fits.gz").write_bytes(gzip.compress(whole)[:200])
    Path(bare.cwd / "dangling.fits").symlink_to("nowhere.fits")
    found = told(bare, ".")
    assert found["files"] == 6
    assert found["darks"] == 1
    assert {Path(row["path"]).name for row in found["rejected"]} == {
        "short.fits",
        "empty.fits",
        "text.fits",
        "header.fits.gz",
        "dangling.fits",
    }
    assert all(p["cure"] for p in found["problems"])
    bare("survey", ".").ended_with(0, "5 cannot be used as they are")
    bare("survey", "gone").refused(2, "There is no file or folder gone.")
    bare("survey").ended_with(2)


def test_what_makes_a_poor_mask_is_said_for_its_campaign(bare: Hotpix) -> None:
    write_campaign(bare.cwd / "a", darks={30: 2}, biases=0)
    found = told(bare, "a")
    (campaign,) = found["campaigns"]
    assert campaign["rule"] == "cutoff"
    assert "Take darks of another exposure time" in problem(found, "one exposure time only")["cure"]
    assert "Take three or more" in problem(found, "fewer than three frames")["cure"]
    assert "Take bias frames" in problem(found, "no bias frames and no overscan")["cure"]


def test_frames_of_another_size_and_biases_alone_stay_out(bare: Hotpix) -> None:
    write_campaign(bare.cwd / "a")
    write_frame(bare.cwd / "a" / "x.fits", start=datetime(2021, 3, 4, 23, 55), shape=(56, 64))
    write_frame(bare.cwd / "a" / "y.fits", exptime_s=0.0, header={"SET-TEMP": 5.0, "CCD-TEMP": 5.0})
    found = told(bare, "a")
    assert "64 x 56 pixels, the others 64 x 48" in problem(found, "pixels, the others")["problem"]
    assert "Take darks at this temperature" in problem(found, "no darks of its series")["cure"]


def test_the_same_exposure_twice_is_counted_once(bare: Hotpix) -> None:
    first = write_frame(bare.cwd / "a.fits")
    write_frame(bare.cwd / "b.fits", header={"OBSERVER": "me"})
    (bare.cwd / "c.fits.gz").write_bytes(gzip.compress(first.read_bytes()))
    for name in ("d.fits", "e.fits"):  # two biases of one second are two
        write_frame(bare.cwd / name, exptime_s=0.0, start="2021-03-04T22:00:00")
    found = told(bare, ".")
    assert found["duplicates"] == 2
    assert [(g["kind"], g["frames"]) for g in found["groups"]] == [("bias", 2), ("dark", 1)]
    assert problem(found, "same exposure")["examples"][0].endswith(f"b.fits = {first}")


def test_a_profile_is_tried_before_it_is_loaded(bare: Hotpix) -> None:
    write_campaign(bare.cwd / "a", header={"EXPTIME": None, "BELICHT": 30.0, "INSTRUME": "ZWO X"})
    assert told(bare, "a")["darks"] == 3
    (bare.cwd / "k.toml").write_text(
        '[keywords]\nname = "mine"\npriority = 50\n[[match]]\nBELICHT = true\n'
        '[exptime_s]\nfrom = ["BELICHT"]\n'
    )
    (bare.cwd / "c.toml").write_text(
        '[camera]\nname = "dome"\n[match]\ninstruments = ["ZWO .*"]\n[detector]\ngain_e_per_adu = 1.0\n'
    )
    found = told(bare, "a", "--profile", "k.toml", "--profile", "c.toml")
    assert (found["darks"], found["cameras"]) == (11, ["dome"])
    assert not [p for p in found["problems"] if "No profile" in p["problem"]]
    (bare.cwd / "d.toml").write_text('[camera]\nname = "cellar"\n[match]\ninstruments = ["ZWO X"]\n')
    both = told(bare, "a", "--profile", "c.toml", "--profile", "d.toml", "--profile", "k.toml")
    assert "ingest --camera NAME" in problem(both, "fits the cameras cellar and dome")["cure"]
    (bare.cwd / "bad.toml").write_text("[camera")
    bare("survey", "a", "--profile", "bad.toml").refused(2, "bad.toml is no valid TOML")
    bare("survey", "a", "--profile", "gone.toml").refused(2, "gone.toml cannot be read")


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_what_would_pair_is_what_a_build_pairs(database: str, tmp_path: Path, seed: int) -> None:
    """Random archives: the plan of the survey is that of a registry which ingested them."""
    rng = np.random.default_rng(seed)
    for number in range(60):
        start = datetime(2020, 1, 1, 22) + timedelta(days=int(rng.choice([0, 1, 2, 30, 31, 500, 900])))
        set_temp_c = float(rng.choice([-10, -20]))
        write_frame(
            tmp_path / "a" / f"{number}.fits",
            exptime_s=float(rng.choice([0, 30, 30.01, 120])),
            start=start + timedelta(minutes=number),
            shape=(48, 64) if rng.random() < 0.9 else (56, 64),
            header={
                "INSTRUME": str(rng.choice(["North", "South"])),
                "SET-TEMP": None if rng.random() < 0.1 else set_temp_c,
                "CCD-TEMP": None if rng.random() < 0.1 else set_temp_c + float(rng.choice([0, 0.3, 5])),
                "SERIAL": "A1" if rng.random() < 0.1 else None,
            },
        )
    rules, cameras = load_profiles([])
    found = survey(find_files([str(tmp_path / "a")], recursive=False), rules, cameras)
    assert (found.files, found.used + len(found.rejected)) == (60, 60)
    assert sum(group.frames for group in found.groups) + found.duplicates == found.used
    with Registry(database) as registry:
        report = registry.ingest(tmp_path / "a")
        assert report.accepted == found.used
        assert [row.name for row in registry.cameras()] == found.cameras
        planned = [campaign_dict(c) for name in found.cameras for c in registry.plan(name).campaigns]
    order = sorted(planned, key=str)
    assert sorted([campaign_dict(campaign) for campaign in found.campaigns], key=str) == order


def test_the_real_archive_is_understood(bare: Hotpix, real_data: Path) -> None:
    found = told(bare, "-r", str(real_data / "darks"))
    assert (found["files"], found["darks"], found["rejected"]) == (34, 34, [])
    assert found["cameras"] == ["sbig-st-7", "sbig-stl-1001"]
    assert [len(campaign["sets"]) for campaign in found["campaigns"]] == [3, 4, 4]
