"""The simulated camera does what its truth says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from ccdproc import ImageFileCollection
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hotpix_registry import simulate
from hotpix_registry.errors import StorageError
from hotpix_registry.instants import Night, to_us
from hotpix_registry.simulate import Population, SimulatedCamera
from hotpix_registry.simulate.camera import draw_poisson, time_in_upper_state


def electrons(camera: SimulatedCamera, frame: NDArray[np.uint16]) -> NDArray[np.float64]:
    nx = camera.shape[1]
    return (frame[:, :nx] - frame[:, nx:].mean()) * camera.traits.gain_e_per_adu


@pytest.fixture(scope="module")
def camera() -> SimulatedCamera:
    return SimulatedCamera.create((512, 512), seed=7)


# --- populations ------------------------------------------------------------


def test_populations_are_those_of_the_reference_at_2048_squared() -> None:
    kinds = SimulatedCamera.create((2048, 2048), seed=1).truth.population
    counts = {kind.name: int(np.count_nonzero(kinds == kind)) for kind in Population}
    assert 3600 < counts.pop("COLUMN") <= 3 * 1229
    assert counts.pop("NORMAL") > 4_140_000
    assert counts == {
        "HOT": 43_079,
        "TELEGRAPH": 600,
        "OFFSET": 300,
        "NOISY": 300,
        "STUCK": 100,
        "CHANGED": 300,
    }


@settings(max_examples=15, deadline=None)
@given(ny=st.integers(40, 300), nx=st.integers(40, 300), seed=st.integers(0, 2**32))
def test_every_population_scales_with_the_area(ny: int, nx: int, seed: int) -> None:
    kinds = SimulatedCamera.create((ny, nx), seed).truth.population
    per_2048 = {Population.HOT: 43_079, Population.TELEGRAPH: 600, Population.NOISY: 300}
    for kind, number in per_2048.items():
        assert abs(np.count_nonzero(kinds == kind) - number * ny * nx / 2048**2) <= 1


def test_hot_pixels_follow_the_power_law_of_the_guide() -> None:
    truth = SimulatedCamera.create((1024, 1024), seed=2).truth
    rate = truth.rate_e_per_s.ravel()[truth.hot_index]
    for threshold in (0.2, 1.0, 4.0):
        expected = 4308 / 16 * 4 / threshold
        assert np.count_nonzero(rate > threshold) == pytest.approx(expected, abs=5 * np.sqrt(expected))
    assert 0.07 < np.isinf(truth.hot_onset_e).mean() < 0.13


def test_uncorrectable_pixels_are_those_that_no_dark_repairs(camera: SimulatedCamera) -> None:
    truth = camera.truth
    bad = truth.uncorrectable((90, 1000), with_bias=False)
    for kind in (Population.NOISY, Population.STUCK, Population.CHANGED, Population.OFFSET):
        assert bad[truth.population == kind].all()
    assert not bad[truth.normal].any()
    rate = truth.rate_e_per_s.ravel()[truth.hot_index]
    linear = np.isinf(truth.hot_onset_e)
    assert not bad.ravel()[truth.hot_index[linear & (rate < 80)]].any()
    assert bad.ravel()[truth.hot_index[~linear & (rate > 12)]].all()
    assert bad.ravel()[truth.hot_index[rate > 330]].all(), "saturated"


def test_bias_frames_make_offset_pixels_doubtful_instead_of_bad(camera: SimulatedCamera) -> None:
    offset = camera.truth.population == Population.OFFSET
    assert not camera.truth.doubtful((90, 1000), with_bias=False)[offset].any()
    assert not camera.truth.uncorrectable((90, 1000), with_bias=True)[offset].any()
    assert camera.truth.doubtful((90, 1000), with_bias=True)[offset].all()


def test_no_pixel_is_bad_and_doubtful_or_normal_at_once(camera: SimulatedCamera) -> None:
    truth = camera.truth
    for with_bias in (False, True):
        bad = truth.uncorrectable((90, 300, 1000), with_bias)
        doubtful = truth.doubtful((90, 300, 1000), with_bias)
        assert not np.any((bad & doubtful) | (bad & truth.normal) | (doubtful & truth.normal))


def test_without_an_onset_nothing_is_nonlinear_and_there_is_no_limit() -> None:
    truth = SimulatedCamera.create((256, 256), seed=3, onset_e=None).truth
    assert truth.nonlinearity((90, 1000)).max() < 1e-5
    assert truth.limit_e_per_s(90, 1000) is None


@pytest.mark.parametrize(("onset_e", "limit"), [(1000, 1.16), (4000, 4.65), (16_000, 18.6)])
def test_the_true_limit_is_where_the_median_pixel_departs_by_5_percent(onset_e: float, limit: float) -> None:
    camera = SimulatedCamera.create((64, 64), seed=1, onset_e=onset_e)
    assert camera.truth.limit_e_per_s(90, 1000) == pytest.approx(limit, rel=0.02)


# --- frames -----------------------------------------------------------------


def test_read_noise_and_gain_come_back_from_the_frames_themselves() -> None:
    camera = SimulatedCamera.create((512, 512), seed=4, cosmic_rays_per_cm2_min=0)
    truth = camera.truth
    first, second = (electrons(camera, camera.frame(0, index=i)) for i in (0, 1))
    read_variance = 10.0**2 + 1.5**2 / 12
    difference = (first - second)[truth.normal]
    assert difference.var() / 2 == pytest.approx(read_variance, rel=0.015)

    hot = (truth.population == Population.HOT) & (truth.rate_e_per_s > 1) & (truth.rate_e_per_s < 30)
    frames = [camera.frame(1000, index=i)[:, :512][hot] * 1.0 for i in range(12)]
    variance_adu = np.var(frames, axis=0, ddof=1)
    mean_adu = np.mean(frames, axis=0) - 1000
    slope = (variance_adu - read_variance / 1.5**2).sum() / mean_adu.sum()
    assert 1 / slope == pytest.approx(1.5, rel=0.06)


def test_normal_pixels_collect_the_bulk_rate_with_poisson_noise(camera: SimulatedCamera) -> None:
    charge = electrons(camera, camera.frame(1000, index=0))[camera.truth.normal]
    charge = charge[charge < 80]
    assert charge.mean() == pytest.approx(10.0, abs=0.12)
    shot, spread, read = 10.0, (0.15 * 10) ** 2, 10.0**2 + 1.5**2 / 12
    assert charge.var() == pytest.approx(shot + spread + read, rel=0.015)


@pytest.mark.parametrize("mean_e", [0.3, 3.9, 4.1, 10.0, 1e4])
def test_shot_noise_has_the_first_three_moments_of_poisson(mean_e: float) -> None:
    drawn = np.full(1_000_000, mean_e, np.float32)
    draw_poisson(drawn, np.random.default_rng(5))
    centred = drawn.astype(np.float64) - mean_e
    assert centred.mean() == pytest.approx(0, abs=5 * np.sqrt(mean_e / 1e6))
    assert np.mean(centred**2) == pytest.approx(mean_e, rel=0.01)
    third = np.mean(centred**3)
    assert third == pytest.approx(mean_e, abs=5 * np.sqrt(15 * mean_e**3 / 1e6) + 0.15)


def test_linear_pixels_collect_in_proportion_to_time(camera: SimulatedCamera) -> None:
    truth = camera.truth
    linear = truth.hot_index[np.isinf(truth.hot_onset_e)]
    short, long = (truth.mean_charge(t).ravel()[linear] for t in (90, 900))
    np.testing.assert_allclose(long, 10 * short, rtol=1e-6)


def test_charge_beyond_the_onset_falls_behind(camera: SimulatedCamera) -> None:
    truth = camera.truth
    bent = ~np.isinf(truth.hot_onset_e) & (truth.rate_e_per_s.ravel()[truth.hot_index] > 8)
    index, onset_e = truth.hot_index[bent], truth.hot_onset_e[bent]
    straight = truth.rate_e_per_s.ravel()[index] * 1000
    charge = truth.mean_charge(1000).ravel()[index]
    assert np.all(charge < straight) and np.all(charge > onset_e)
    np.testing.assert_allclose((charge - onset_e) / (straight - onset_e), truth.hot_slope[bent], rtol=1e-3)


def test_telegraph_pixels_spend_their_share_of_time_in_the_upper_state() -> None:
    dwell_s = np.tile([[300.0], [100.0]], 40_000)
    upper_s = time_in_upper_state(dwell_s, 1000.0, np.random.default_rng(6))
    assert upper_s.mean() == pytest.approx(250, rel=0.02)
    tau_s, p = 75.0, 0.25
    variance = 2 * p * (1 - p) * tau_s**2 * (1000 / tau_s - 1 + np.exp(-1000 / tau_s))
    assert upper_s.var() == pytest.approx(variance, rel=0.03)


def test_telegraph_strength_is_the_scatter_of_charge_over_the_noise(camera: SimulatedCamera) -> None:
    truth = camera.truth
    index, strength = truth.telegraph_index, truth.telegraph_strength((1000,))
    frames = [electrons(camera, camera.frame(1000, index=i)).ravel()[index] for i in range(25)]
    strong = strength > 5
    scatter = np.std(frames, axis=0, ddof=1)[strong]
    noise = np.sqrt(100 + np.mean(frames, axis=0)[strong])
    assert np.median(scatter / noise / strength[strong]) == pytest.approx(1, abs=0.25)


def test_noisy_offset_stuck_and_changed_pixels_behave_as_named(camera: SimulatedCamera) -> None:
    truth = camera.truth
    raw = np.stack([camera.frame(90, index=i)[:, :512].ravel() for i in range(8)]).astype(float)
    assert np.median(raw[:, truth.noisy_index].std(axis=0)) > 5 * 6.7
    assert np.all(raw[:, truth.stuck_index] == truth.stuck_adu)
    level_e = (np.median(raw, axis=0)[truth.offset_index] - 1000) * 1.5
    np.testing.assert_allclose(level_e, truth.offset_e, atol=30)
    before, after = (truth.mean_charge(90, epoch=e).ravel()[truth.changed_index] for e in (0, 1))
    np.testing.assert_allclose(after, before * truth.changed_factor, rtol=1e-5)
    assert not np.any((truth.changed_factor > 0.8) & (truth.changed_factor < 1.25))


def test_dark_current_doubles_every_six_and_a_half_kelvin() -> None:
    assert simulate.rate_factor(-20) == 1
    assert simulate.rate_factor(-13.3) == pytest.approx(2, rel=0.02)
    assert np.log(simulate.rate_factor(-19.99)) / 0.01 == pytest.approx(0.107, rel=0.01)


def test_a_warmer_frame_is_brighter_by_the_temperature_law(camera: SimulatedCamera) -> None:
    linear = camera.truth.hot_index[np.isinf(camera.truth.hot_onset_e)]
    cold, warm = (
        electrons(camera, camera.frame(300, index=0, temperature_c=t)).ravel()[linear] for t in (-20, -15)
    )
    below_ceiling = warm < 90_000
    ratio = warm[below_ceiling].sum() / cold[below_ceiling].sum()
    assert ratio == pytest.approx(simulate.rate_factor(-15), rel=0.03)


def test_cosmic_rays_come_at_the_stated_rate() -> None:
    quiet, hit = (
        SimulatedCamera.create((512, 512), 8, cosmic_rays_per_cm2_min=r).frame(1000, index=0)
        for r in (0, 150)
    )
    struck = np.count_nonzero(quiet != hit)
    area_cm2 = (512 * 9e-4) ** 2
    assert struck == pytest.approx(150 * area_cm2 * 1000 / 60 * 4.5, rel=0.15)


def test_the_pedestal_drifts_between_frames_and_the_overscan_follows() -> None:
    camera = SimulatedCamera.create((128, 128), 9)
    frames = [camera.frame(0, index=i) for i in range(40)]
    overscan = np.array([frame[:, 128:].mean() for frame in frames])
    exposed = np.array([np.median(frame[:, :128]) for frame in frames])
    assert overscan.std() == pytest.approx(2, rel=0.4)
    assert np.abs(exposed - overscan).max() < 0.8


def test_saturated_pixels_read_the_ceiling(camera: SimulatedCamera) -> None:
    saturated = camera.truth.saturated((1000, 10_000))
    assert saturated.any()
    assert np.median(camera.frame(10_000, index=0)[:, :512][saturated]) == 65535


# --- options ----------------------------------------------------------------


@pytest.mark.parametrize(("bits", "step"), [(16, 1), (14, 4), (12, 16)])
def test_a_coarser_converter_leaves_steps(bits: int, step: int) -> None:
    camera = SimulatedCamera.create((64, 64), 1, adc_bits=bits, cosmic_rays_per_cm2_min=0)
    frame = camera.frame(90, index=0)[:, :64].ravel()
    frame = np.delete(frame, camera.truth.stuck_index)
    assert np.all(frame % step == 0)
    assert camera.detector.adc_step_adu == step


def test_a_clamped_black_level_cuts_half_of_the_noise_away() -> None:
    frame = SimulatedCamera.create((64, 64), 1, pedestal_adu=0, overscan_columns=0).frame(0, index=0)
    assert frame.shape == (64, 64)
    assert 0.2 < np.mean(frame == 0) < 0.9


def test_glow_brightens_one_corner_and_grows_with_time() -> None:
    truth = SimulatedCamera.create((200, 200), 1, glow_e_per_s=2.0).truth
    dark = SimulatedCamera.create((200, 200), 1).truth
    glow = truth.mean_charge(100) - dark.mean_charge(100)
    assert glow[0, 0] == pytest.approx(200, rel=0.01)
    assert glow[0, 20] == pytest.approx(200 / np.e, rel=0.01)
    assert glow[-1, -1] < 0.01


def test_a_fixed_pattern_is_the_same_in_every_frame() -> None:
    camera = SimulatedCamera.create((128, 128), 1, fixed_pattern_adu=5)
    mean = np.mean([camera.frame(0, index=i)[:, :128] for i in range(30)], axis=0)
    assert mean[camera.truth.normal].std() == pytest.approx(np.hypot(5, 6.7 / np.sqrt(30)), rel=0.1)


def test_an_option_leaves_the_other_populations_as_they_were() -> None:
    plain, other = (SimulatedCamera.create((128, 128), 1, fixed_pattern_adu=p).truth for p in (0, 3))
    assert np.array_equal(plain.population, other.population)
    assert np.array_equal(plain.rate_e_per_s, other.rate_e_per_s)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**63), index=st.integers(0, 1000), exptime_s=st.sampled_from([0, 0.5, 90, 1000]))
def test_the_same_seed_takes_the_same_frame_in_any_order(seed: int, index: int, exptime_s: float) -> None:
    first = SimulatedCamera.create((32, 48), seed)
    second = SimulatedCamera.create((32, 48), seed)
    second.frame(exptime_s, index=index + 1)
    frame = first.frame(exptime_s, index=index)
    assert frame.shape == (32, 80)
    assert frame.dtype == np.uint16
    assert np.array_equal(frame, second.frame(exptime_s, index=index))
    assert not np.array_equal(frame, first.frame(exptime_s, index=index + 1))
    assert not np.array_equal(frame, first.frame(exptime_s, index=index, epoch=1))


def test_a_group_is_trimmed_and_knows_its_pedestal(camera: SimulatedCamera) -> None:
    group = camera.group(90, 3)
    assert [frame.name for frame in group.frames] == ["90 s 1", "90 s 2", "90 s 3"]
    frame = group.frames[0]
    assert frame.rows.shape == (512, 512)
    assert np.array_equal(frame.rows.read(5, 9), camera.frame(90, index=0)[5:9, :512])
    assert frame.pedestal is not None
    assert frame.pedestal == pytest.approx(1000, abs=8)


# --- files ------------------------------------------------------------------


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("night")
    return simulate.write_night(
        directory,
        SimulatedCamera.create((48, 64), seed=1),
        start=simulate.DEMO_NIGHT,
        biases=2,
        darks={90: 2, 1000: 3},
    )


def test_a_night_reads_with_ccdproc(night: list[Path]) -> None:
    files = ImageFileCollection(night[0].parent)
    assert len(files.files_filtered(imagetyp="BIAS")) == 2
    assert len(files.files_filtered(imagetyp="DARK", exptime=1000.0)) == 3
    for ccd in files.ccds(imagetyp="DARK", exptime=90.0, ccd_kwargs={"unit": "adu"}):
        assert ccd.shape == (48, 96)


def test_headers_say_what_the_guides_camera_says(night: list[Path]) -> None:
    with fits.open(night[-1]) as hdus:
        header = hdus[0].header
        hdus.verify("exception")
        assert (header["BITPIX"], header["BZERO"]) == (16, 32768)
    assert header["INSTRUME"] == "aspen"
    assert (header["IMAGETYP"], header["EXPTIME"], header["EXPOSURE"]) == ("DARK", 1000.0, 1000.0)
    assert (header["SET-TEMP"], header["EGAIN"], header["RDNOISE"]) == (-20.0, 1.5, 10.0)
    assert header["CCD-TEMP"] in (-20.1, -20.0, -19.9)
    assert (header["BIASSEC"], header["TRIMSEC"]) == ("[65:96,1:48]", "[1:64,1:48]")
    assert header["SWCREATE"] == "hotpix-registry simulator"


def test_frames_follow_each_other_through_the_night_of_2018_08_22(night: list[Path]) -> None:
    headers = [fits.getheader(path) for path in night]
    starts = [datetime.fromisoformat(h["DATE-OBS"]).replace(tzinfo=UTC) for h in headers]
    assert starts[0] == datetime(2018, 8, 23, 2, 30, tzinfo=UTC)
    for header, start, following in zip(headers, starts, starts[1:], strict=False):
        assert following - start == timedelta(seconds=header["EXPTIME"] + 10)
    whole_demo_ends = simulate.DEMO_NIGHT + timedelta(seconds=10 * 10 + 10 * 100 + 20 * 1010)
    for moment in (starts[0], whole_demo_ends):
        assert str(Night.of(to_us(moment), -106.8)) == "2018-08-22"


def test_the_same_seed_writes_the_same_bytes(night: list[Path], tmp_path: Path) -> None:
    again = simulate.write_frame(
        tmp_path / "again.fits",
        SimulatedCamera.create((48, 64), seed=1),
        exptime_s=0,
        index=0,
        start=simulate.DEMO_NIGHT,
    )
    assert again.read_bytes() == night[0].read_bytes()


def test_another_night_of_the_same_camera_has_noise_of_its_own(night: list[Path], tmp_path: Path) -> None:
    (other,) = simulate.write_night(
        tmp_path,
        SimulatedCamera.create((48, 64), seed=1),
        start=simulate.DEMO_NIGHT + timedelta(days=1),
        biases=0,
        darks={90: 1},
        first_index=100,
        temperature_c=-15,
        set_temp_c=-15,
    )
    assert fits.getheader(other)["SET-TEMP"] == -15
    assert not np.array_equal(fits.getdata(other), fits.getdata(night[2]))


def test_the_demo_night_is_the_guides_and_reports_progress(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    paths = simulate.write_demo_night(
        tmp_path, size=32, progress=lambda done, total: seen.append((done, total))
    )
    assert len(paths) == 10 + 10 + 20
    assert seen == [(n, 40) for n in range(1, 41)]


def test_a_wrong_gain_can_be_written_into_the_header(tmp_path: Path) -> None:
    path = simulate.write_frame(
        tmp_path / "x.fits",
        SimulatedCamera.create((16, 16), seed=1, overscan_columns=0),
        exptime_s=90,
        index=0,
        start=simulate.DEMO_NIGHT,
        header_gain_e_per_adu=1.875,
    )
    header = fits.getheader(path)
    assert header["EGAIN"] == 1.875
    assert "BIASSEC" not in header


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"Cannot write .*\. Choose another folder\."):
        simulate.write_demo_night(tmp_path / "file", size=16)
