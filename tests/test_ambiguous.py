"""Where masks of several series answer: the sentence says in what they differ, and what settles it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotpix_registry import Registry
from hotpix_registry.errors import AmbiguousMask
from tests import small_camera
from tests.story import CAMERA, SHAPE, register_camera


def take_in(registry: Registry, folder: Path, *, temperature_c: float = -10.0, **configuration: Any) -> int:
    """A mask from 2021-03-04 on for frames of a set point and a configuration."""
    path = folder / "mask.npy"
    np.save(path, np.eye(*SHAPE, dtype=bool))
    return registry.import_mask(
        path, CAMERA, valid_from="2021-03-04", temperature_c=temperature_c, configuration=configuration
    ).mask_id


def refusal(registry: Registry, date: str = "2021-03-06", **asked: Any) -> AmbiguousMask:
    with pytest.raises(AmbiguousMask) as caught:
        registry.mask(CAMERA, date, **asked)
    return caught.value


@pytest.mark.parametrize(
    ("part", "values", "told", "option"),
    [
        ("binning", ((1, 1), (2, 2)), "binning: 1x1 (mask 1), 2x2 (mask 2)", "--binning"),
        (
            "readout_mode",
            ("Fast", "Low noise"),
            "readout mode: Fast (mask 1), Low noise (mask 2)",
            "--readout-mode",
        ),
        ("gain_setting", (100.0, 101.0), "gain setting: 100 (mask 1), 101 (mask 2)", "--gain-setting"),
        ("offset_setting", (10.0, 20.5), "offset setting: 10 (mask 1), 20.5 (mask 2)", "--offset-setting"),
        (
            "gain_setting",
            (1000000.25, 1000000.5),
            "gain setting: 1000000.25 (mask 1), 1000000.5 (mask 2)",
            "--gain-setting",
        ),
        (
            "sub_frame",
            ((0, 0, 64, 48), (8, 0, 64, 48)),
            "sub-frame: 0,0,64,48 (mask 1), 8,0,64,48 (mask 2)",
            "--sub-frame",
        ),
        (
            "row_order",
            ("BOTTOM-UP", "TOP-DOWN"),
            "row order: BOTTOM-UP (mask 1), TOP-DOWN (mask 2)",
            "--row-order",
        ),
        ("bayer_pattern", ("GBRG", "RGGB"), "Bayer pattern: GBRG (mask 1), RGGB (mask 2)", "--bayer"),
    ],
)
def test_the_part_that_differs_is_told_with_its_values_and_its_option(
    registry: Registry, tmp_path: Path, part: str, values: tuple[Any, Any], told: str, option: str
) -> None:
    register_camera(registry, tmp_path)
    for value in values:
        take_in(registry, tmp_path, **{part: value})
    error = refusal(registry)
    assert error.message == (f"2 series of camera {CAMERA} have a mask for 2021-03-06, and differ in {told}.")
    assert error.next_step == f"Say which with {option}."
    for number, value in enumerate(values, start=1):
        assert registry.mask(CAMERA, "2021-03-06", configuration={part: value}).answer.mask_id == number


def test_set_points_are_told_apart_by_the_temperature(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    for temperature_c in (-10.0, -11.0):
        take_in(registry, tmp_path, temperature_c=temperature_c)
    for error in (refusal(registry), refusal(registry, temperature_c=-10.5)):
        assert "and differ in set point: -10 °C (mask 1), -11 °C (mask 2)." in error.message
        assert error.next_step == "Say which with --temperature."
    nearest = refusal(registry, "2021-03-01", fallback="nearest")
    assert "equally near to 2021-03-01, and differ in set point: -10 °C (mask 1)" in nearest.message


def test_where_one_option_is_enough_either_is_named_and_else_all(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    take_in(registry, tmp_path, gain_setting=100.0)
    take_in(registry, tmp_path, gain_setting=101.0, temperature_c=-20.0)
    either = refusal(registry)
    assert "set point: -10 °C (mask 1), -20 °C (mask 2); in gain setting: 100" in either.message
    assert either.next_step == "Say which with --temperature or --gain-setting."
    take_in(registry, tmp_path, gain_setting=100.0, temperature_c=-20.0)
    both = refusal(registry)
    assert "gain setting: 100 (masks 1 and 3), 101 (mask 2)" in both.message
    assert both.next_step == "Say which with --temperature and --gain-setting."


def test_a_mask_that_no_option_means_is_named(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    take_in(registry, tmp_path)
    take_in(registry, tmp_path, readout_mode="Fast")
    error = refusal(registry)
    assert "readout mode: not said (mask 1), Fast (mask 2)" in error.message
    assert error.next_step == (
        "Say which with --readout-mode; no option means mask 1, whose darks are silent."
    )


def test_a_frame_whose_header_does_not_settle_it_can_get_a_mask_by_its_number(
    registry: Registry, tmp_path: Path
) -> None:
    register_camera(registry, tmp_path)
    for gain_setting in (100.0, 101.0):
        take_in(registry, tmp_path, gain_setting=gain_setting)
    light = small_camera.write_frame(
        tmp_path / "light.fits", header={"IMAGETYP": "Light Frame"}, start="2021-03-06T01:00:00"
    )
    (one,) = registry.masks_for(light)
    (auto,) = registry.apply("auto", light, dry_run=True)
    for error in (one.error, auto.error):
        assert error is not None
        assert "gain setting: 100 (mask 1), 101 (mask 2)" in error.message
        assert error.next_step == (
            "The frame's header does not settle it: ask for its date with --gain-setting, "
            "or `apply` one of these masks by its number."
        )
    with pytest.raises(AmbiguousMask, match=r"Name one of these masks by its number, in place of the date\."):
        registry.apply("2021-03-06", light, camera=CAMERA, dry_run=True)
    (done,) = registry.apply(2, light, dry_run=True)
    assert done.mask_id == 2
