"""Cameras: recognised, registered, renamed, merged, split."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from tests.cli.conftest import Hotpix
from tests.small_camera import write_campaign, write_frame


def names(hotpix: Hotpix) -> dict[str, int]:
    """Camera → number of frames."""
    return {row["name"]: row["frames"] for row in hotpix("cameras", "--format", "json").ended_with(0).json}


def test_two_serial_numbers_are_two_cameras_and_no_name_asks_for_one(hotpix: Hotpix) -> None:
    write_frame(hotpix.cwd / "a.fits", header={"SERIAL": "A1"})
    write_frame(hotpix.cwd / "b.fits", exptime_s=61, header={"SERIAL": "B2"})
    write_frame(hotpix.cwd / "c.fits", exptime_s=62, header={"SERIAL": "A1"})
    write_frame(hotpix.cwd / "d.fits", exptime_s=63, header={"INSTRUME": None})
    done = hotpix("ingest", "a.fits", "b.fits", "c.fits", "d.fits")
    done.ended_with(0, "serial number A1", "smallcam-48-b2", "Name it with --camera")
    assert names(hotpix) == {"smallcam-48": 2, "smallcam-48-b2": 1}
    hotpix("ingest", "d.fits", "--camera", "dome").ended_with(0, "dome is new and provisional")
    assert names(hotpix)["dome"] == 1
    hotpix("ingest", "d.fits", "--camera", "Dome Camera/../x", "--format", "json").ended_with(0)
    write_frame(hotpix.cwd / "e.fits", exptime_s=64)
    hotpix("ingest", "e.fits", "--camera", "Dome Camera/../x").refused(2, "is no camera name")
    hotpix("ingest", "e.fits", "--camera", "smallcam-84").refused(2, "Did you mean smallcam-48?")
    assert len(hotpix.frames()) == 4


def test_a_confirmed_camera_warns_no_more(stocked: Hotpix) -> None:
    stocked("cameras", "confirm", "smallcam-48").ended_with(0, "confirmed")
    done = stocked("mask", "--camera", "smallcam-48", "--date", "2021-03-04").ended_with(0)
    assert done.err == ""
    (row,) = stocked("cameras", "--format", "csv").csv
    assert (row["name"], row["status"], row["frames"], row["masks"]) == (
        "smallcam-48",
        "confirmed",
        "11",
        "1",
    )


def test_a_renamed_camera_is_found_by_all_its_names_and_can_go_back(stocked: Hotpix) -> None:
    stocked("cameras", "rename", "smallcam-48", "dome").ended_with(0)
    stocked("cameras", "alias", "dome", "old-faithful").ended_with(0)
    look_up = ("--date", "2021-03-04", "--format", "json")
    for name in ("dome", "smallcam-48", "old-faithful"):
        assert stocked("mask", "--camera", name, *look_up).ended_with(0).json["camera"] == "dome"
    stocked("cameras", "alias", "dome", "smallcam-48").refused(2, "belongs to camera dome")
    stocked("cameras", "rename", "dome", "Dome!").refused(2, "'Dome!' is no camera name")
    stocked("cameras", "rename", "dome", "smallcam-48").ended_with(0)
    assert names(stocked) == {"smallcam-48": 11}
    write_frame(stocked.cwd / "more.fits", exptime_s=99)
    stocked.ingest("more.fits")
    assert names(stocked) == {"smallcam-48": 12}


def test_cameras_are_merged_and_split(hotpix: Hotpix) -> None:
    write_campaign(hotpix.cwd / "a", darks={30: 2}, biases=1)
    write_campaign(
        hotpix.cwd / "b",
        start=datetime(2021, 6, 4, 22),
        darks={30: 2},
        biases=1,
        header={"INSTRUME": "Smallcam B"},
    )
    hotpix.ingest("a", "b")
    assert names(hotpix) == {"smallcam-48": 3, "smallcam-b": 3}
    hotpix("cameras", "merge", "smallcam-b", "smallcam-b").refused(2, "one camera already")
    hotpix("cameras", "merge", "smallcam-b", "smallcam-48").ended_with(0, "Moved 3 frames")
    assert names(hotpix) == {"smallcam-48": 6}
    split = ("cameras", "split", "smallcam-48")
    hotpix(*split, "new", "--nights", "1999-01-01").refused(2, "no frames in the nights")
    hotpix(*split, "smallcam-b", "--nights", "2021-06-04").refused(2, "smallcam-48 itself")
    hotpix(*split, "new", "--nights", "2021-06-01..2021-06-30").ended_with(0, "Moved 3 frames")
    assert names(hotpix) == {"new": 3, "smallcam-48": 3}


def test_masks_of_frames_that_moved_are_named_and_so_is_what_to_do(stocked: Hotpix) -> None:
    split = stocked("cameras", "split", "smallcam-48", "new", "--nights", "2021-03-04").ended_with(0)
    told = "11 of 11 frames belong to camera new since transaction"
    assert "Moved 11 frames" in split.err
    assert f"Warning: mask 1: {told}" in split.err
    stocked("masks").ended_with(0, f"Warning: mask 1: {told}", "build both cameras anew")
    assert told in stocked("show", "1").ended_with(0).out
    stocked("mask", "--camera", "smallcam-48", "--date", "2021-03-04").ended_with(0, told)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no profile"),
        ("[camera", "no valid TOML"),
        ('[camera]\nname = "Über"', "camera.name must be"),
        ('[camera]\nname = "x"\n[detector]\ngain_e_per_adu = inf', "must be a positive number"),
        ('[camera]\nname = "x"\n[detector]\ngain_e_per_adu = -1', "must be a positive number"),
        ('[camera]\nname = "x"\n[detector]\ngian = 1', "unknown key"),
        ('[camera]\nname = "x"\n[site]\nlongitude_deg_east = nan', "degrees"),
        ('dated = [1]\n[camera]\nname = "x"', "dated"),
        ('[camera]\nname = "x"\n[gates]\nmin_jaccard = "much"', "must be a number"),
        ('[camera]\nname = "x"\n[gates]\ncount_ratio = [2, 1]', "the least and the most"),
        ('[camera]\nname = "x"\n[gates]\nmin_jacard = 0.5', "Did you mean 'min_jaccard'?"),
        ('[keywords]\nname = "x"\n[exptime_s]\nfrom = 5', "x"),
    ],
)
def test_a_profile_with_a_mistake_is_one_sentence(hotpix: Hotpix, text: str, words: str) -> None:
    (hotpix.cwd / "x.toml").write_text(text)
    hotpix("cameras", "apply", "x.toml").refused(2, words)
    with hotpix.opened() as registry:
        assert registry.cameras() == []


def test_a_profile_that_was_shown_can_be_applied_again(stocked: Hotpix) -> None:
    toml = stocked("cameras", "show", "smallcam-48", "--toml").ended_with(0).out
    Path(stocked.cwd / "x.toml").write_text(toml)
    stocked("cameras", "apply", "x.toml").ended_with(0, "has this profile already")
    stocked("cameras", "apply", "gone.toml").refused(2, "gone.toml cannot be read")
    stocked("cameras", "show", "smallcm-48").refused(2, "Did you mean smallcam-48?")


def test_a_camera_may_have_gates_of_its_own(stocked: Hotpix) -> None:
    toml = stocked("cameras", "show", "smallcam-48", "--toml").ended_with(0).out
    Path(stocked.cwd / "x.toml").write_text(toml + "\n[gates]\nmin_frames = 5\ncount_ratio = [0.9, 1.1]\n")
    stocked("cameras", "apply", "x.toml").ended_with(0, "is changed")
    shown = stocked("cameras", "show", "smallcam-48", "--toml").ended_with(0).out
    assert "[gates]\nmin_frames = 5\ncount_ratio = [0.9, 1.1]" in shown
    done = stocked("build", "--camera", "smallcam-48", "--rule", "evidence")
    assert "failed the gate frames per exposure: 4 of 30 s, wanted at least 5" in done.ended_with(8).out
