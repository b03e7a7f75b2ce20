"""The masks of science frames by their own headers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from tests import small_camera
from tests.cli.conftest import Hotpix


def light(folder: Path, name: str = "light.fits", *, data: Any = None, **header: Any) -> Path:
    """A light frame of the small camera; `header` replaces cards, or removes those given as None."""
    return small_camera.write_frame(
        folder / name,
        start="2021-06-01T00:00:00",
        data=data,
        header={"IMAGETYP": "Light Frame"} | {key.replace("_", "-"): v for key, v in header.items()},
    )


def masked(path: str) -> Any:
    return fits.getdata(path).astype(bool)


def test_each_frame_gets_a_line_with_its_mask(stocked: Hotpix) -> None:
    frames = [light(stocked.cwd, f"light{i}.fits") for i in range(3)]
    done = stocked("mask", "--for", *frames).ended_with(0, "3 frames of 3 have a mask")
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert [row[0] for row in rows] == [str(frame) for frame in frames]
    assert len({row[1] for row in rows}) == 1
    assert np.array_equal(masked(rows[0][1]), small_camera.hot_pixels())


def test_folders_globs_and_lists_are_taken_as_ingest_takes_them(stocked: Hotpix) -> None:
    light(stocked.cwd / "lights" / "deep", "a.fits")
    light(stocked.cwd / "lights", "b.fits")
    (stocked.cwd / "lights" / "notes.txt").write_text("none")
    assert stocked("mask", "--for", "lights").ended_with(0).out.count("\n") == 1
    assert stocked("mask", "--for", "-r", "lights").ended_with(0).out.count("\n") == 2
    (stocked.cwd / "list.txt").write_text("lights/b.fits\n")
    assert stocked("mask", "--for", "@list.txt").ended_with(0).out.count("\n") == 1
    assert stocked("mask", "--for", "-", stdin="lights/b.fits\n").ended_with(0).out.count("\n") == 1


def test_some_frames_without_a_mask_end_with_eight_and_all_of_them_with_their_own_code(
    stocked: Hotpix,
) -> None:
    good = light(stocked.cwd)
    cold = light(stocked.cwd, "cold.fits", SET_TEMP=-40.0, CCD_TEMP=-40.0)
    done = stocked("mask", "--for", good, cold).ended_with(8, "within 1 °C of -40 °C", "1 frame of 2")
    assert done.out.startswith(str(good))
    stocked("mask", "--for", cold).ended_with(3, "within 1 °C of -40 °C")


def test_json_is_an_object_a_line_and_carries_errors_and_explanations(stocked: Hotpix) -> None:
    good = light(stocked.cwd)
    cold = light(stocked.cwd, "cold.fits", SET_TEMP=-40.0, CCD_TEMP=-40.0)
    done = stocked("mask", "--for", good, cold, "--format", "json").ended_with(8)
    first, second = map(json.loads, done.out.splitlines())
    assert first["frame"] == str(good)
    assert first["mask"]["mask_id"] == 1
    assert Path(first["mask"]["path"]).is_file()
    assert second["error"]["code"] == "no-mask"
    assert second["explanation"][0]["criteria"][1]["name"] == "temperature"


def test_a_receipt_of_a_frame_replays(stocked: Hotpix) -> None:
    done = stocked("mask", "--for", light(stocked.cwd), "--format", "json").ended_with(0)
    receipt = json.loads(done.out)["mask"]["receipt"]
    replayed = stocked("mask", "--receipt", receipt, "--format", "json").ended_with(0).json
    assert (replayed["mask_id"], replayed["receipt"]) == (1, receipt)


def test_a_sub_frame_gets_the_part_of_the_mask_that_it_shows(stocked: Hotpix) -> None:
    window = light(
        stocked.cwd, data=small_camera.pixels(60.0, 1)[2:22, 3:35], XORGSUBF=3, YORGSUBF=2, NAXIS1=None
    )
    path = stocked("mask", "--for", window).ended_with(0).out.split("\t")[1].strip()
    assert np.array_equal(masked(path), small_camera.hot_pixels()[2:22, 3:35])
    told = json.loads(stocked("mask", "--for", window, "--format", "json").out)
    assert told["steps"] == ["Columns 3 to 34 and rows 2 to 21 were cut out, counted from 0."]


def test_a_binned_frame_is_served_when_that_is_asked_for(stocked: Hotpix) -> None:
    binned = light(stocked.cwd, data=small_camera.pixels(60.0, 1)[::2, ::2], XBINNING=2, YBINNING=2)
    stocked("mask", "--for", binned).ended_with(3, "--adapt bin")
    path = stocked("mask", "--for", binned, "--adapt", "bin").ended_with(0).out.split("\t")[1].strip()
    hot = small_camera.hot_pixels()
    assert np.array_equal(masked(path), hot[::2, ::2] | hot[1::2, ::2] | hot[::2, 1::2] | hot[1::2, 1::2])


def test_rows_of_unknown_order_are_refused_with_what_was_compared(stocked: Hotpix) -> None:
    frame = light(stocked.cwd, ROWORDER="TOP-DOWN")
    stocked("mask", "--for", frame).ended_with(3, "row order: wanted TOP-DOWN, found not given")
    told = json.loads(stocked("mask", "--for", frame, "--format", "json").out)
    assert told["error"]["code"] == "geometry"
    assert {one["criterion"]: one["verdict"] for one in told["geometry"]}["row order"] == "refused"


def test_an_earlier_state_answers_for_frames_too(stocked: Hotpix) -> None:
    frame = light(stocked.cwd)
    with stocked.opened() as registry:
        tx = registry.mask("smallcam-48", "2021-06-01").answer.tx
        registry.revoke(1, reason="light leak")
    stocked("mask", "--for", frame).ended_with(4, "light leak")
    stocked("mask", "--for", frame, "--as-of", str(tx)).ended_with(0, "revoked since")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--for",), "names no frames"),
        (("light.fits",), "--for FILE"),
        (("--for", "light.fits", "--date", "2021-06-01"), "Leave out --date"),
        (("--for", "light.fits", "--temperature", "-10"), "headers say"),
        (("--for", "light.fits", "-o", "x.fits"), "Leave out -o"),
        (("--for", "light.fits", "--receipt", "hp:"), "Leave out --for"),
        (("--for", "nowhere.fits"), "There is no file or folder nowhere.fits"),
        (("--for", "light.fits", "--camera", "smalcam-48"), "Did you mean smallcam-48?"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(
    stocked: Hotpix, arguments: tuple[str, ...], words: str
) -> None:
    light(stocked.cwd)
    stocked("mask", *arguments).refused(2, words)
