"""The main job through Python: darks in, masks out, on both databases."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from ccdproc import ImageFileCollection
from numpy.typing import NDArray

from hotpix_registry import Registry
from hotpix_registry.domain import DQ, Recipe, Rule
from hotpix_registry.errors import AmbiguousMask, FrameChanged, NoMask, NothingToBuild, UnknownCamera
from hotpix_registry.fits import maskfile
from hotpix_registry.science import detection
from hotpix_registry.simulate import SimulatedCamera, write_night
from tests.small_camera import write_campaign

EVENING = datetime(2018, 8, 23, 3, 0, tzinfo=UTC)
"""21 o'clock at the camera's longitude on 22 August"""


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Biases and darks of 90 s and 1000 s of a small camera."""
    folder = tmp_path_factory.mktemp("night")
    write_night(
        folder, SimulatedCamera.create((128, 128), seed=5), start=EVENING, biases=3, darks={90: 4, 1000: 4}
    )
    return folder


def mostly_cold(shape: tuple[int, int], seed: int) -> NDArray[np.float64]:
    """Dark currents, e-/s: 5 % between 0.1 and 30, the others near 0.01."""
    rng = np.random.default_rng(seed)
    hot = rng.random(shape) < 0.05
    return np.where(hot, 10 ** rng.uniform(-1, 1.5, shape), rng.normal(0.01, 0.001, shape))


def write_exact(folder: Path, rates: NDArray[np.float64], exposures: dict[float, int]) -> None:
    """Darks without noise: 1000 adu and the dark current times the exposure time, gain 1.5."""
    for exptime_s, count in exposures.items():
        for number in range(count):
            level = np.rint(1000 + rates * exptime_s / 1.5).astype(np.uint16)
            hdu = fits.PrimaryHDU(level)
            start = EVENING + timedelta(seconds=exptime_s * 60 + number)
            hdu.header.update(
                {
                    "INSTRUME": "aspen",
                    "IMAGETYP": "DARK" if exptime_s else "BIAS",
                    "EXPTIME": exptime_s,
                    "DATE-OBS": start.replace(tzinfo=None).isoformat(),
                    "SET-TEMP": -20.0,
                    "CCD-TEMP": -20.0,
                }
            )
            hdu.writeto(folder / f"dark-{exptime_s:g}-{number}.fits")


def test_darks_go_in_and_the_right_mask_comes_out(registry: Registry, night: Path) -> None:
    report = registry.ingest(night)
    assert (report.accepted, report.known, report.skipped, report.rejected) == (11, 0, 0, [])
    (built,) = registry.build("aspen")
    assert (built.version, built.status, built.new, built.exposures_s) == (
        1,
        "certified",
        True,
        (90.0, 1000.0),
    )
    mask = registry.mask("aspen", "2018-08-22")
    assert mask.answer.mask_id == built.mask_id
    assert mask.answer.sha256 == built.sha256
    assert mask.array.shape == mask.dq.shape == (128, 128)
    assert int(mask.array.sum()) == built.flagged == mask.answer.flagged
    assert np.array_equal(mask.array, (mask.dq & DQ.BAD.value) != 0)
    assert np.array_equal(CCDData.read(mask.path).data.astype(bool), mask.array)


def test_doing_it_again_changes_nothing(registry: Registry, night: Path) -> None:
    registry.ingest(night)
    (first,) = registry.build("aspen")
    again = registry.ingest(night)
    assert (again.accepted, again.known) == (0, 11)
    (second,) = registry.build("aspen")
    assert not second.new
    assert (second.mask_id, second.sha256) == (first.mask_id, first.sha256)
    assert len(registry.masks()) == 1


def test_the_same_darks_give_the_same_mask_in_any_registry(
    night: Path, tmp_path: Path, postgresql_url: str
) -> None:
    digests = set()
    for number, database in enumerate(
        (str(tmp_path / "a.sqlite"), str(tmp_path / "b.sqlite"), postgresql_url)
    ):
        with Registry(database) as registry:
            if number:
                registry.ingest(sorted(night.iterdir())[::-1])
            else:
                registry.ingest(night)
            digests.add(registry.build("aspen")[0].sha256)
    assert len(digests) == 1


def test_a_collection_of_ccdproc_goes_in(registry: Registry, night: Path) -> None:
    assert registry.ingest(ImageFileCollection(night)).accepted == 11


@pytest.mark.parametrize("limit_e_per_s", [4.0, 0.5])
def test_the_guides_rule_selects_what_plain_numpy_selects(
    registry: Registry, tmp_path: Path, limit_e_per_s: float
) -> None:
    rates = mostly_cold((48, 64), seed=4)
    write_exact(tmp_path, rates, {0.0: 2, 90.0: 3, 1000.0: 3})
    registry.ingest(tmp_path)
    recipe = Recipe(rule=Rule.LIMIT, limit_e_per_s=limit_e_per_s)
    (built,) = registry.build("aspen", recipe=recipe)
    measured = np.rint(rates * 90 / 1.5) * 1.5 / 90
    mask = registry.mask("aspen", "2018-08-22")
    assert built.limit_e_per_s == limit_e_per_s
    assert np.array_equal((mask.dq & DQ.HOT.value) != 0, measured > limit_e_per_s)
    assert np.array_equal(mask.array, measured > limit_e_per_s)


def test_two_combined_darks_months_apart_make_the_guides_mask(registry: Registry, tmp_path: Path) -> None:
    rates = mostly_cold((16, 4109), seed=6)
    for exptime_s, n, day in ((90.0, 10, 0), (1000.0, 20, 120)):
        combined = CCDData((rates * exptime_s / 1.5).astype(np.float32), unit="adu")
        combined.mask = np.zeros(rates.shape, dtype=bool)
        combined.header |= {
            "INSTRUME": "aspen",
            "IMAGETYP": "DARK",
            "EXPTIME": exptime_s,
            "DATE-OBS": (EVENING + timedelta(days=day)).replace(tzinfo=None).isoformat(),
            "CCD-TEMP": -20.0,
            "SET-TEMP": -20.0,
            "COMBINED": True,
            "NCOMBINE": n,
            "CALSTAT": "B",
        }
        combined.write(tmp_path / f"combined_dark_{exptime_s:.3f}.fit")
    assert registry.ingest(tmp_path).accepted == 2
    recipe = Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0)
    first, second = registry.build("aspen", recipe=recipe)
    assert first.exposures_s == second.exposures_s == (90.0, 1000.0)
    mask = registry.mask("aspen", "2018-08-22")
    assert mask.array.shape == (16, 4096)
    dark_90 = (rates * 90 / 1.5).astype(np.float32) * 1.5 / 90
    assert np.array_equal((mask.dq & DQ.HOT.value) != 0, dark_90[:, :4096] > 4.0)
    assert maskfile.decode(mask.path.read_bytes()).trim_section == "[1:4096, :]"
    assert registry.mask("aspen", "2018-12-20").answer.mask_id == second.mask_id


def test_one_exposure_time_is_cut_off_over_its_surroundings(registry: Registry, tmp_path: Path) -> None:
    rates = np.full((96, 96), 0.02)
    rates[10, 20], rates[50, 60], rates[70, 7] = 5.0, 1.5, 0.5
    write_exact(tmp_path, rates, {300.0: 5})
    registry.ingest(tmp_path)
    (built,) = registry.build("aspen")
    mask = registry.mask("aspen", "2018-08-22")
    assert mask.answer.rule == "cutoff"
    assert built.exposures_s == (300.0,)
    assert sorted(map(tuple, np.argwhere(mask.array))) == [(10, 20), (50, 60)]


def test_a_date_between_two_campaigns_takes_the_earlier_and_says_its_age(
    registry: Registry, night: Path, tmp_path: Path
) -> None:
    camera = SimulatedCamera.create((128, 128), seed=5)
    write_night(
        tmp_path,
        camera,
        start=EVENING + timedelta(days=365),
        biases=3,
        darks={90: 4, 1000: 4},
        first_index=90,
    )
    registry.ingest([night, tmp_path])
    first, second = registry.build("aspen")
    between = registry.mask("aspen", "2019-03-01").answer
    assert (between.mask_id, between.age_days, between.stale) == (first.mask_id, 191, False)
    assert registry.mask("aspen", "2019-08-22").answer.mask_id == second.mask_id
    late = registry.mask("aspen", "2021-01-01").answer
    assert late.mask_id == second.mask_id
    assert late.stale
    early = registry.mask("aspen", "2018-05-01").answer
    assert early.mask_id == first.mask_id
    assert any("before the darks" in warning for warning in early.warnings)


def test_an_instant_on_the_change_of_masks_belongs_to_the_new_one(
    registry: Registry, night: Path, tmp_path: Path
) -> None:
    camera = SimulatedCamera.create((128, 128), seed=5)
    write_night(
        tmp_path,
        camera,
        start=EVENING + timedelta(days=365),
        biases=3,
        darks={90: 4, 1000: 4},
        first_index=90,
    )
    registry.ingest([night, tmp_path])
    first, second = registry.build("aspen")
    change = registry.mask("aspen", "2019-08-22").answer.valid_from
    assert change == "2019-08-22T19:07:16.800000Z"
    assert registry.mask("aspen", change).answer.mask_id == second.mask_id
    assert registry.mask("aspen", "2019-08-22T19:07:16.799999Z").answer.mask_id == first.mask_id


def test_no_mask_says_what_there_is_and_what_would_answer(registry: Registry, night: Path) -> None:
    registry.ingest(night)
    with pytest.raises(NoMask, match=r"11 catalogued frames and no mask.*build --camera aspen"):
        registry.mask("aspen", "2018-08-22")
    registry.build("aspen")
    with pytest.raises(NoMask, match=r"mask 1 from 2017-07-18.*--fallback nearest"):
        registry.mask("aspen", "2016-05-01")
    nearest = registry.mask("aspen", "2016-05-01", fallback="nearest").answer
    assert nearest.extrapolated
    with pytest.raises(NoMask):
        registry.mask("aspen", "2016-05-01", fallback="previous")


def test_an_answer_names_the_newer_candidates_that_wait(
    registry: Registry, night: Path, tmp_path: Path
) -> None:
    registry.ingest(night)
    (built,) = registry.build("aspen")
    profile = tmp_path / "aspen.toml"
    profile.write_text(
        '[camera]\nname = "aspen"\n[detector]\ngain_e_per_adu = 1.5\n[policy]\ncertify = "manual"\n'
    )
    registry.apply_profile(profile)
    (candidate,) = registry.build("aspen", recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
    answer = registry.mask("aspen", "2018-08-22").answer
    assert (answer.mask_id, answer.newer_candidates) == (built.mask_id, (candidate.mask_id,))
    registry.certify(candidate.mask_id)
    answer = registry.mask("aspen", "2018-08-22").answer
    assert (answer.mask_id, answer.newer_candidates) == (candidate.mask_id, ())


def test_a_mistyped_camera_gets_a_suggestion(registry: Registry, night: Path) -> None:
    registry.ingest(night)
    with pytest.raises(UnknownCamera, match="Did you mean aspen"):
        registry.mask("aspne", "2018-08-22")


def test_two_set_points_need_a_temperature(registry: Registry, night: Path, tmp_path: Path) -> None:
    camera = SimulatedCamera.create((128, 128), seed=5)
    write_night(
        tmp_path,
        camera,
        start=EVENING + timedelta(days=1),
        biases=3,
        darks={90: 4, 1000: 4},
        temperature_c=-25.0,
        set_temp_c=-25.0,
    )
    registry.ingest([night, tmp_path])
    registry.build("aspen")
    with pytest.raises(AmbiguousMask, match="--temperature"):
        registry.mask("aspen", "2018-08-23")
    assert registry.mask("aspen", "2018-08-23", temperature_c=-24.6).answer.set_point_c == -25.0
    assert registry.mask("aspen", "2018-08-23", temperature_c=-20.4).answer.temperature_difference_c == -0.4
    with pytest.raises(NoMask, match="its set points are -25, -20 °C"):
        registry.mask("aspen", "2018-08-23", temperature_c=-22.5)


def test_a_frame_that_changed_since_its_ingest_stops_the_build(
    registry: Registry, night: Path, tmp_path: Path
) -> None:
    copies = [tmp_path / path.name for path in sorted(night.iterdir())]
    for path, copy in zip(sorted(night.iterdir()), copies, strict=True):
        copy.write_bytes(path.read_bytes())
    registry.ingest(copies)
    content = bytearray(copies[-1].read_bytes())
    content[-3000] ^= 1
    copies[-1].write_bytes(content)
    copies[0].unlink()
    with pytest.raises(FrameChanged, match=r"has (changed|vanished)") as caught:
        registry.build("aspen")
    assert copies[-1].name in str(caught.value)
    assert copies[0].name in str(caught.value)
    assert registry.masks() == []


@pytest.mark.parametrize("touched", [False, True])
def test_a_frame_that_changes_while_it_is_built_from_stops_the_build(
    registry: Registry, night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, touched: bool
) -> None:
    copies = [Path(shutil.copy(path, tmp_path)) for path in sorted(night.iterdir())]
    registry.ingest(copies)
    detect = detection.detect

    def detect_and_meddle(*args: Any, **keywords: Any) -> detection.Detection:
        content = bytearray(copies[-1].read_bytes())
        content[-3000] ^= not touched
        copies[-1].write_bytes(content)
        return detect(*args, **keywords)

    monkeypatch.setattr(detection, "detect", detect_and_meddle)
    if touched:
        assert registry.build("aspen")[0].new
    else:
        with pytest.raises(FrameChanged, match="has changed"):
            registry.build("aspen")
        assert registry.masks() == []


@pytest.mark.parametrize("copied", [False, True])
def test_a_frame_that_rotted_without_a_mark_makes_no_mask_unless_a_copy_is_whole(
    registry: Registry, night: Path, tmp_path: Path, copied: bool
) -> None:
    (tmp_path / "copies").mkdir()
    copies = [Path(shutil.copy(path, tmp_path)) for path in sorted(night.iterdir())]
    registry.ingest(copies)
    if copied:
        registry.ingest([shutil.copy(copies[-1], tmp_path / "copies")])
    about, content = copies[-1].stat(), bytearray(copies[-1].read_bytes())
    content[-200_000:-3000] = b"\x7f\xff" * (197_000 // 2)
    copies[-1].write_bytes(content)
    os.utime(copies[-1], ns=(about.st_atime_ns, about.st_mtime_ns))
    if not copied:
        with pytest.raises(FrameChanged, match=rf"{copies[-1].name} has changed since the ingest"):
            registry.build("aspen")
        return
    (built,) = registry.build("aspen")
    with Registry(str(tmp_path / "other.sqlite")) as other:
        other.ingest(night)
        assert other.build("aspen")[0].sha256 == built.sha256


def test_an_excluded_frame_makes_another_mask_version(registry: Registry, night: Path) -> None:
    registry.ingest(night)
    (first,) = registry.build("aspen")
    dark = next(f for f in registry.frames(kind="dark"))
    registry.exclude([str(dark.frame_id)], reason="light leak")
    (second,) = registry.build("aspen")
    assert (second.version, second.new) == (2, True)
    assert registry.mask("aspen", "2018-08-22").answer.version == 2
    registry.include([dark.sha256[:12]], reason="it was not")
    (third,) = registry.build("aspen")
    assert (third.mask_id, third.new) == (first.mask_id, False)


def test_a_camera_of_unknown_gain_is_calibrated_by_its_darks(registry: Registry, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    camera = SimulatedCamera.create((512, 512), seed=7)
    write_night(frames, camera, start=EVENING, biases=5, darks={90: 8, 1000: 8})
    for path in frames.iterdir():
        with fits.open(path, mode="update") as hdus:
            del hdus[0].header["EGAIN"]
            hdus[0].header["INSTRUME"] = "Nameless 512"
    registry.ingest(frames)
    (built,) = registry.build("nameless-512")
    (note,) = [warning for warning in built.warnings if "measured from these darks" in warning]
    assert float(note.split("; ")[1].split(" ")[0]) == pytest.approx(1.5, rel=0.05)
    assert registry.show(built.mask_id)["report"]["noise"]["gain_e_per_adu"] == pytest.approx(1.5, rel=0.05)


def test_a_corrected_header_makes_another_build(registry: Registry, night: Path) -> None:
    registry.ingest(night)
    (first,) = registry.build("aspen")
    dark = next(f for f in registry.frames(kind="dark"))
    registry.fix([str(dark.frame_id)], {"ccd_temp_c": -20.3}, reason="the header's sensor was off")
    (second,) = registry.build("aspen")
    assert (second.new, second.version) == (True, first.version + 1)
    temperatures = {i.ccd_temp_c for i in maskfile.decode(registry.mask_file(second.mask_id)).inputs}
    assert -20.3 in temperatures


def test_nothing_to_build_says_so(registry: Registry, tmp_path: Path) -> None:
    write_exact(tmp_path, np.ones((8, 8)), {0.0: 2})
    registry.ingest(tmp_path)
    with pytest.raises(NothingToBuild, match="no darks to build from"):
        registry.build("aspen")


def test_a_stored_mask_knows_its_whole_provenance(registry: Registry, night: Path) -> None:
    registry.ingest(night)
    (built,) = registry.build("aspen")
    details = registry.show(built.mask_id)
    assert len(details["inputs"]) == 11
    assert {i["role"] for i in details["inputs"]} == {"dark", "bias"}
    assert details["software"]["hotpix-registry"] == "0.1.0"
    content = maskfile.decode(registry.mask_file(built.mask_id))
    assert {i.sha256 for i in content.inputs} == {i["sha256"] for i in details["inputs"]}
    assert content.build_key == details["build_key"]
    assert (content.camera, content.set_point_c, content.first_night) == ("aspen", -20.0, "2018-08-22")


def test_the_real_darks_make_masks_of_a_plausible_size(registry: Registry, real_data: Path) -> None:
    report = registry.ingest(real_data / "darks", recursive=True)
    assert (report.accepted, report.rejected) == (34, [])
    cold, warm = registry.build("sbig-stl-1001")
    (st7,) = registry.build("sbig-st-7")
    for built in (cold, warm, st7):
        assert 1e-4 < built.flagged / built.pixels < 0.05
    assert registry.mask("sbig-stl-1001", "2017-09-08", temperature_c=-5).answer.mask_id == warm.mask_id
    assert registry.mask("sbig-st-7", "2019-10-28").answer.mask_id == st7.mask_id


def test_every_kind_of_row_goes_on_counting_whatever_wrote_the_one_before(
    registry: Registry, tmp_path: Path
) -> None:
    """Profiles of cameras and of keywords share a table, and so do frames ingested and frames merged."""
    (tmp_path / "keywords.toml").write_text(
        '[keywords]\nname = "mine"\npriority = 5\n[[match]]\nMINE = true\n'
    )
    for number in range(3):
        (tmp_path / "camera.toml").write_text(f'[camera]\nname = "camera-{number}"\n')
        registry.apply_profile(tmp_path / "camera.toml")
        registry.apply_profile(tmp_path / "keywords.toml")
    one: dict[str, Any] = {"darks": {30.0: 1}, "biases": 0}
    write_campaign(tmp_path / "there", start=datetime(2021, 3, 4, 22), **one)
    with Registry(str(tmp_path / "other.sqlite")) as other:
        other.ingest(tmp_path / "there")
        other.backup(tmp_path / "copy.sqlite")
    write_campaign(tmp_path / "here", start=datetime(2022, 3, 4, 22), **one)
    registry.ingest(tmp_path / "here")
    registry.merge(tmp_path / "copy.sqlite")
    write_campaign(tmp_path / "later", start=datetime(2023, 3, 4, 22), **one)
    registry.ingest(tmp_path / "later")
    assert sorted(frame.frame_id for frame in registry.frames()) == [1, 2, 3]
