"""Frames of unknown origin: recognised by their hot pixels, whatever their headers say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.registry import Registry
from tests import small_camera
from tests.cli.conftest import Hotpix

SHAPE = (120, 160)


@dataclass(frozen=True)
class Sensor:
    """A sensor whose hot pixels are born through the years, 20 a year since 2010."""

    seed: int

    def dark(self, year: float, exptime_s: float, number: int = 0) -> NDArray[np.uint16]:
        birth = np.random.default_rng(self.seed)
        at = birth.choice(SHAPE[0] * SHAPE[1], 400, replace=False)
        rate_e_per_s = 10 ** birth.uniform(0.7, 2, 400)
        born = 2010 + np.arange(400) / 20
        rng = np.random.default_rng([self.seed, round(year * 100), round(exptime_s), number])
        charge = rng.poisson(0.05 * exptime_s, SHAPE[0] * SHAPE[1]).astype(float)
        charge[at] += np.where(born <= year, rng.poisson(rate_e_per_s * exptime_s), 0)
        adu = charge + rng.normal(500, 5, charge.size)
        return np.clip(np.rint(adu), 0, 65535).astype(np.uint16).reshape(SHAPE)

    def write(
        self,
        path: Path,
        year: int,
        exptime_s: float = 120.0,
        number: int = 0,
        *,
        turned: Callable[[NDArray[Any]], NDArray[Any]] = lambda a: a,
        **header: Any,
    ) -> Path:
        start = datetime(year, 3, 4, 22, number, int(exptime_s) % 60)
        data = np.ascontiguousarray(turned(self.dark(year, exptime_s, number)))
        return small_camera.write_frame(path, exptime_s=exptime_s, start=start, header=header, data=data)

    def write_campaign(self, folder: Path, year: int, **header: Any) -> None:
        for exptime_s in (30.0, 121.0):
            for number in range(3):
                path = folder / f"{year}-{exptime_s:g}-{number}.fits"
                self.write(path, year, exptime_s, number, **header)


NORTH, SOUTH, STRANGER = Sensor(1), Sensor(2), Sensor(3)


@pytest.fixture(scope="session")
def darks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("darks")
    for year in (2014, 2018, 2022):
        NORTH.write_campaign(folder / "north", year, INSTRUME="North")
    SOUTH.write_campaign(folder / "south", 2018, INSTRUME="South")
    return folder


def fill(registry: Registry, darks: Path) -> None:
    registry.ingest(darks, recursive=True)
    for camera in ("north", "south"):
        registry.build(camera, recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))


@pytest.fixture(scope="session")
def two_cameras(tmp_path_factory: pytest.TempPathFactory, darks: Path) -> Path:
    """A registry with three masks of North and one of South; never to be changed."""
    path = tmp_path_factory.mktemp("two") / "registry.sqlite"
    with Registry(str(path)) as registry:
        fill(registry, darks)
    return path


@pytest.fixture
def archive(hotpix: Hotpix, two_cameras: Path) -> Hotpix:
    return hotpix.on(two_cameras)


def test_a_master_of_unknown_origin_is_told_with_its_epoch(registry: Registry, darks: Path) -> None:
    fill(registry, darks)
    path = NORTH.write(darks.parent / "found.fits", 2018, INSTRUME=None, number=7)
    found = registry.identify(path)
    assert (found.verdict, found.camera, found.header_agrees) == ("identified", "north", None)
    assert found.best is not None
    assert found.best.overlap.orientation == "as is"
    assert found.best.log10_chance < -100
    assert found.epoch is not None
    assert (found.epoch.nights, found.epoch.campaigns) == (("2018-03-04", "2018-03-04"), (1, 3))
    assert [c.camera for c in found.candidates] == ["north", "south"]
    assert found.candidates[1].log10_chance > -3


def test_a_flipped_frame_is_recognised_as_flipped(archive: Hotpix) -> None:
    for name, turned, words in (
        ("up.fits", lambda a: a[::-1], "rows flipped"),
        ("side.fits", lambda a: a[:, ::-1], "columns flipped"),
        ("round.fits", lambda a: a[::-1, ::-1], "turned by 180°"),
    ):
        SOUTH.write(archive.cwd / name, 2018, INSTRUME="South", number=8, turned=turned)
        done = archive("identify", name).ended_with(0)
        assert f"{name}: camera south, {words}." in done.out
        assert "Its header says camera south too." in done.out
        assert "About when cannot be told: the camera has masks of one campaign only." in done.out


def test_a_wrong_header_is_settled(archive: Hotpix) -> None:
    SOUTH.write(archive.cwd / "x.fits", 2018, INSTRUME="North", number=9)
    done = archive("identify", "x.fits").ended_with(0)
    assert "x.fits: camera south, as is." in done.out
    assert "Its header says camera north, its hot pixels say south." in done.out
    assert "If it is a dark, `hotpix-registry ingest --camera south x.fits` takes it." in done.out
    (row,) = archive("identify", "x.fits", "--format", "json").ended_with(0).json
    assert row["header"] == {
        "instrument": "North",
        "cameras": ["north"],
        "night": "2018-03-04",
        "type": "Dark Frame",
        "agrees": False,
    }
    assert row["confidence"] == pytest.approx(1)
    assert row["margin_log10"] > 50


def test_a_frame_catalogued_under_the_wrong_camera_is_told_how_to_correct(
    hotpix: Hotpix, darks: Path
) -> None:
    SOUTH.write(hotpix.cwd / "x.fits", 2018, INSTRUME="North", number=9)
    SOUTH.write(hotpix.cwd / "again.fits", 2018, INSTRUME="North", number=9, OBSERVER="me")
    with hotpix.opened() as registry:
        fill(registry, darks)
    hotpix.ingest("x.fits", "again.fits")
    number = next(f.frame_id for f in hotpix.frames() if f.name.endswith("x.fits"))
    done = hotpix("identify", "x.fits").ended_with(0)
    assert f"It is catalogued as frame {number} of camera north." in done.out
    assert f"frames fix {number} --set camera=south --reason 'its hot pixels'" in done.out
    assert f"the same exposure as frame {number}" in hotpix("identify", "again.fits").ended_with(0).out
    hotpix("frames", "fix", str(number), "--set", "camera=south", "--reason", "its hot pixels").ended_with(0)
    assert "frames fix" not in hotpix("identify", "x.fits").ended_with(0).out


def test_a_wrong_date_shows(archive: Hotpix) -> None:
    NORTH.write(
        archive.cwd / "x.fits", 2014, INSTRUME="North", number=9, **{"DATE-OBS": "2022-05-05T22:00:00"}
    )
    done = archive("identify", "x.fits").ended_with(0)
    assert "It fits best the campaign of 2014-03-04 (mask 1), and none other of 3 as well." in done.out
    assert "Its header says 2022-05-05, which is another epoch." in done.out
    NORTH.write(archive.cwd / "y.fits", 2014, INSTRUME="North", number=9)
    assert "another epoch" not in archive("identify", "y.fits").ended_with(0).out


def test_a_right_date_between_two_campaigns_is_of_either_epoch(archive: Hotpix) -> None:
    """Pixels are born all the time: which campaign a frame fits best says little of which is nearer."""
    for year, best in ((2015, 2018), (2017, 2018), (2020, 2022), (2025, 2022), (2012, 2014)):
        path = NORTH.write(archive.cwd / f"{year}.fits", year, INSTRUME="North", number=9)
        with archive.opened() as registry:
            epoch = registry.identify(path).epoch
        assert epoch is not None
        assert (epoch.nights[0], epoch.is_told, epoch.header_fits) == (f"{best}-03-04", True, True)
        assert "another epoch" not in archive("identify", path.name).ended_with(0).out


def test_an_epoch_event_parts_a_date_from_the_campaigns_beyond_it(registry: Registry, darks: Path) -> None:
    fill(registry, darks)
    registry.add_event("north", "2017-06-01T00:00:00Z", "warmup", trim=True)
    path = darks.parent / "found.fits"
    for taken, dated, fits in (
        (2014, "2017-05-01", True),  # the campaign of 2018 is nearer, and of the next epoch
        (2014, "2017-07-01", False),
        (2018, "2017-05-01", False),
        (2018, "2017-07-01", True),
        (2018, "2022-03-04", False),
        (2022, "2019-07-01", True),
    ):
        NORTH.write(path, taken, INSTRUME="North", number=9, **{"DATE-OBS": f"{dated}T22:00:00"})
        epoch = registry.identify(path).epoch
        assert epoch is not None
        assert (epoch.nights[0], epoch.header_fits) == (f"{taken}-03-04", fits), dated
    registry.add_event("north", "2024-01-01T00:00:00Z", "warmup", trim=True)
    NORTH.write(path, 2022, INSTRUME="North", number=9, **{"DATE-OBS": "2025-01-01T22:00:00"})
    epoch = registry.identify(path).epoch
    assert epoch is not None
    assert epoch.header_fits is None


def test_a_light_frame_is_recognised_and_not_offered_for_ingest(archive: Hotpix) -> None:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]].astype(float)
    sky = rng.poisson(400 + x).astype(float)
    for _ in range(40):
        y0, x0, height = rng.uniform(0, SHAPE[0]), rng.uniform(0, SHAPE[1]), 10 ** rng.uniform(2, 5)
        sky += height * np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / 2 / 1.4**2)
    data = np.clip(SOUTH.dark(2018, 120.0, 9) + sky, 0, 65535).astype(np.uint16)
    light = {"IMAGETYP": "Light Frame", "INSTRUME": "ASCOM Camera"}
    small_camera.write_frame(archive.cwd / "m31.fits", data=data, header=light)
    done = archive("identify", "m31.fits").ended_with(0)
    assert "m31.fits: camera south, as is." in done.out
    assert "Its header names no camera." in done.out
    assert "ingest" not in done.out


def test_a_stranger_is_none_of_the_cameras(archive: Hotpix) -> None:
    STRANGER.write(archive.cwd / "x.fits", 2018, INSTRUME="North")
    done = archive("identify", "x.fits").ended_with(
        3, "x.fits fits no camera of the catalogue. Ingest and build"
    )
    assert "none of the catalogue's cameras" in done.out
    assert "no better than by chance (4 masks compared)" in done.out


def test_eight_hot_pixels_are_enough_where_all_of_them_coincide(stocked: Hotpix) -> None:
    data = small_camera.pixels(120.0, 99)
    small_camera.write_frame(stocked.cwd / "x.fits", data=data[::-1], header={"INSTRUME": "Main"})
    done = stocked("identify", "x.fits").ended_with(0)
    assert "x.fits: camera smallcam-48, rows flipped." in done.out


def test_noise_alone_cannot_tell(archive: Hotpix) -> None:
    data = np.random.default_rng(4).normal(500, 5, SHAPE).astype(np.uint16)
    small_camera.write_frame(archive.cwd / "x.fits", data=data)
    done = archive("identify", "x.fits").ended_with(
        3, "has too few hot pixels to tell its camera. Take a longer"
    )
    assert "it cannot be told" in done.out


def test_a_frame_of_another_size_is_none(archive: Hotpix) -> None:
    small_camera.write_frame(archive.cwd / "x.fits")
    done = archive("identify", "x.fits").ended_with(3, "fits no camera")
    assert "no mask has a frame of its size" in done.out


def test_one_sensor_under_two_names_is_noticed(hotpix: Hotpix) -> None:
    NORTH.write_campaign(hotpix.cwd / "a", 2018, INSTRUME="North")
    NORTH.write_campaign(hotpix.cwd / "b", 2019, INSTRUME="Nord")
    hotpix.ingest("a", "b")
    with hotpix.opened() as registry:
        for camera in ("north", "nord"):
            registry.build(camera, recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
    NORTH.write(hotpix.cwd / "x.fits", 2018, number=9)
    done = hotpix("identify", "x.fits").ended_with(3, "alike", "cameras merge nord north")
    assert "they are of one sensor" in done.out
    hotpix("cameras", "merge", "nord", "north").ended_with(0)
    assert "camera north, as is." in hotpix("identify", "x.fits").ended_with(0).out


def test_two_bodies_under_one_name_are_noticed(hotpix: Hotpix) -> None:
    NORTH.write_campaign(hotpix.cwd / "a", 2018, INSTRUME="North")
    SOUTH.write_campaign(hotpix.cwd / "b", 2019, INSTRUME="North")
    hotpix.ingest("a", "b")
    with hotpix.opened() as registry:
        registry.build("north", recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
    SOUTH.write(hotpix.cwd / "x.fits", 2019, INSTRUME="North", number=9)
    done = hotpix("identify", "x.fits").ended_with(0)
    assert "It fits best the campaign of 2019-03-04 (mask 2)" in done.out
    assert "Mask 1 of the same camera does not fit at all: another body under one name" in done.out
    assert "cameras split north NEW" in done.out


def test_many_frames_have_a_verdict_each(archive: Hotpix) -> None:
    NORTH.write(archive.cwd / "a.fits", 2022, INSTRUME="North", number=5)
    STRANGER.write(archive.cwd / "b.fits", 2022)
    (archive.cwd / "c.fits").write_bytes(b"not FITS")
    done = archive("identify", "a.fits", "b.fits", "--format", "csv").ended_with(3, "1 of 2 frames could not")
    assert [(row["verdict"], row["camera"]) for row in done.csv] == [("identified", "north"), ("none", "")]
    done = archive("identify", "a.fits", "c.fits", "gone.fits").ended_with(
        8, "2 files of 3 could not be read"
    )
    assert "a.fits: camera north" in done.out
    assert "best the campaign of 2022-03-04" in done.out
    archive("identify", "c.fits").refused(1, "c.fits")
    archive("identify", "gone.fits").refused(1, "gone.fits")
    archive("identify", ".").refused(2, ". is a folder. Name the frames in it, such as ./*.fits.")


def test_one_camera_may_be_asked_for(archive: Hotpix) -> None:
    SOUTH.write(archive.cwd / "x.fits", 2018, INSTRUME="South", number=9)
    archive("identify", "x.fits", "--camera", "north").ended_with(3, "fits no camera")
    archive("identify", "x.fits", "--camera", "nort").refused(2, "Did you mean north?")


def test_a_registry_without_masks_says_so(hotpix: Hotpix) -> None:
    small_camera.write_frame(hotpix.cwd / "x.fits")
    hotpix("identify", "x.fits").refused(6, "ingest")
    hotpix.ingest("x.fits")
    hotpix("identify", "x.fits").refused(3, "has no masks to compare hot pixels with", "build")


def test_real_cameras_are_told_apart_in_their_right_orientation(hotpix: Hotpix, real_data: Path) -> None:
    from astropy.io import fits

    st7, stl = real_data / "darks" / "st7_2019", real_data / "darks" / "stl1001_2017"
    hotpix.ingest(*(str(st7 / f"DarkBefore-00{i}D{t}.fit") for i in (1, 2, 3) for t in ("120s", "300s_")))
    hotpix.ingest(str(stl / "darks-expos1-Neg5-Vis.00000000.DARK.FIT"))
    hotpix.ingest(str(stl / "darks-expos300s-Neg5-Vis.00000000.DARK.FIT"))
    with hotpix.opened() as registry:
        for camera in ("sbig-st-7", "sbig-stl-1001"):
            registry.build(camera)
        held_out = {
            st7 / "DarkBefore-005D900s.fit": "sbig-st-7",
            stl / "darks-expos30s-Neg10-Vis.00000000.DARK.FIT": "sbig-stl-1001",
            stl / "bias-Neg10-Vis.00000000.BIAS.FIT": "sbig-stl-1001",
        }
        for path, camera in held_out.items():
            found = registry.identify(path)
            assert (found.camera, found.header_agrees) == (camera, True)
            assert found.best is not None
            assert (found.best.overlap.orientation, found.best.overlap.shift) == ("as is", (0, 0))
            assert found.best.overlap.share > 0.7
            data = fits.getdata(path, memmap=False)[::-1]
            wrong = {"INSTRUME": "SBIG ST-7 CCD Camera"}
            flipped = small_camera.write_frame(hotpix.cwd / "flipped.fits", data=data, header=wrong)
            found = registry.identify(flipped)
            assert (found.camera, found.header_agrees) == (camera, camera == "sbig-st-7")
            assert found.best is not None
            assert found.best.overlap.orientation == "rows flipped"
