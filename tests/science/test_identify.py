"""A sensor is recognised by its hot pixels, in any orientation, and a stranger is none."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from hotpix_registry.domain import DQ
from hotpix_registry.fits.pixels import open_rows
from hotpix_registry.science.identify import (
    HotPixels,
    Kind,
    Orientation,
    about_as_good,
    could_tell,
    fits,
    hottest_pixels,
    log10_tail,
    mask_pixels,
    overlap,
)
from hotpix_registry.science.inputs import ArrayRows
from hotpix_registry.simulate import SimulatedCamera

TURNS = {
    Orientation.AS_IS: lambda a: a,
    Orientation.ROWS_FLIPPED: lambda a: a[::-1],
    Orientation.COLUMNS_FLIPPED: lambda a: a[:, ::-1],
    Orientation.TURNED_180: lambda a: a[::-1, ::-1],
    Orientation.TRANSPOSED: lambda a: a.T,
    # rows are drawn upward in FITS, so numpy's rot90 turns to the right
    Orientation.TURNED_RIGHT: lambda a: np.rot90(a),
    Orientation.TURNED_LEFT: lambda a: np.rot90(a, -1),
    Orientation.TURNED_180_TRANSPOSED: lambda a: a[::-1, ::-1].T,
}


def frame_of(camera: SimulatedCamera, exptime_s: float = 600.0, index: int = 0, epoch: int = 0):
    nx = camera.shape[1]
    return camera.frame(exptime_s, index=index, epoch=epoch)[:, :nx]


def hot(data: NDArray, **options) -> HotPixels:
    return hottest_pixels(ArrayRows(np.ascontiguousarray(data)), **options)


def true_mask(camera: SimulatedCamera, above_e_per_s: float = 1.0) -> HotPixels:
    y, x = np.nonzero(camera.truth.rate_e_per_s > above_e_per_s)
    return HotPixels(camera.shape, y, x)


def random_pixels(shape: tuple[int, int], n: int, rng: np.random.Generator) -> HotPixels:
    return HotPixels(shape, *np.divmod(rng.choice(shape[0] * shape[1], n, replace=False), shape[1]))


CAMERA = SimulatedCamera.create((256, 320), seed=11)
OTHER = SimulatedCamera.create((256, 320), seed=12)
SQUARE = SimulatedCamera.create((256, 256), seed=13)


# --- the oracle ---------------------------------------------------------------------------


def by_sets(frame: HotPixels, mask: HotPixels, orientation: Orientation, window: int) -> dict:
    """(x, y) shift → how many pixels coincide, by drawing the frame and counting in Python sets."""
    plane = np.zeros(frame.shape, bool)
    plane[frame.y, frame.x] = True
    back = {
        Orientation.TURNED_LEFT: Orientation.TURNED_RIGHT,
        Orientation.TURNED_RIGHT: Orientation.TURNED_LEFT,
    }
    drawn = TURNS[back.get(orientation, orientation)](plane)
    source = {(int(y), int(x)) for y, x in zip(*np.nonzero(drawn), strict=True)}
    target = {(int(y), int(x)) for y, x in zip(mask.y, mask.x, strict=True)}
    span = range(-window, window + 1)
    return {(dx, dy): len({(y + dy, x + dx) for y, x in source} & target) for dy in span for dx in span}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 60), m=st.integers(1, 60), square=st.booleans())
def test_the_overlap_is_what_python_sets_count(seed: int, n: int, m: int, square: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = (32, 32) if square else (24, 40)
    frame, mask = random_pixels(shape, n, rng), random_pixels(shape, m, rng)
    found = overlap(frame, mask)
    assert found is not None
    assert found.orientations == (8 if square else 4)
    assert found.compared == min(n, m)
    window = 4 if square else 3
    counts = by_sets(frame.hottest(found.compared), mask, found.orientation, window)
    assert counts[found.shift] == found.common
    # no other shift of this orientation does better, save that none at all needs less
    others = max(common for shift, common in counts.items() if shift != (0, 0))
    assert found.common == others if found.shift != (0, 0) else found.common == counts[0, 0]


@pytest.mark.parametrize("orientation", Orientation)
def test_positions_move_as_pictures_do(orientation: Orientation) -> None:
    picture = np.zeros((5, 7), bool)
    picture[1, 2] = picture[4, 0] = True
    seen = TURNS[orientation](picture)
    back = HotPixels(seen.shape, *np.nonzero(seen)).oriented(orientation)
    assert back.shape == (5, 7)
    assert {(1, 2), (4, 0)} == set(zip(back.y.tolist(), back.x.tolist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 2000), k=st.integers(0, 2000), p=st.floats(1e-6, 0.3))
def test_the_tail_is_the_binomial_one(n: int, k: int, p: float) -> None:
    k = min(k, n)
    if k > n * p:
        wanted = stats.binom.logsf(k - 1, n, p) / math.log(10)
        if wanted > -280:
            assert log10_tail(k, n, p) == pytest.approx(wanted, rel=1e-6, abs=1e-9)


def test_an_overlap_of_lists_scatters_no_more_than_the_binomial_law() -> None:
    """Hypergeometric: 40 of 3072 against 25."""
    for k in range(2, 10):
        exact = stats.hypergeom.logsf(k - 1, 3072, 40, 25) / math.log(10)
        assert exact <= log10_tail(k, 25, 40 / 3072)


# --- the hot pixels of a frame --------------------------------------------------------------


class RowsOfAStream:
    """Rows that run by once."""

    def __init__(self, data: NDArray) -> None:
        self.data, self.shape, self.passed = data, data.shape, 0

    def read(self, y0: int, y1: int) -> NDArray:
        assert y0 == self.passed, f"row {y0} after row {self.passed}"
        self.passed = y1
        return self.data[y0:y1]


@pytest.mark.parametrize("ny", [30, 64, 80, 85, 200])
def test_pixels_at_the_edge_of_a_strip_are_found_though_each_row_is_read_once(ny: int) -> None:
    data = np.random.default_rng(7).normal(100, 5, (ny, 40)).astype(np.float32)
    alone = {(y, 3 + y % 30) for y in (0, ny // 2, 63, 64, 65, 127, 128, 191, ny - 1) if y < ny}
    for y, x in alone:
        data[y, x] += 500
    if ny > 64:
        data[63:65, 38] += 500  # two together are no hot pixel
    data[ny - 2, 1] = np.nan
    rows = RowsOfAStream(data)
    found = hottest_pixels(rows)
    assert rows.passed == ny
    assert set(zip(found.y.tolist(), found.x.tolist(), strict=True)) == alone


def test_the_hottest_pixels_of_a_dark_are_those_of_its_sensor() -> None:
    found = hot(frame_of(CAMERA)).hottest(20)
    rates = CAMERA.truth.rate_e_per_s[found.y, found.x]
    assert np.count_nonzero(rates > 1.0) >= 17


def test_glow_columns_and_stars_are_no_hot_pixels() -> None:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:256, 0:320].astype(float)
    sky = rng.normal(1000, 8, (256, 320)) + 5000 * np.exp(-(x + y) / 20)
    sky[:, 100] += 800
    for _ in range(60):
        y0, x0 = rng.uniform(0, 256), rng.uniform(0, 320)
        star = rng.uniform(2e3, 4e5) * np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / 2 / 1.3**2)
        sky += star
    at = [(17, 33), (200, 40), (128, 250), (3, 3)]
    for place in at:
        sky[place] += 6000
    found = hot(np.clip(sky, 0, 65535))
    assert set(at) <= set(zip(found.y.tolist(), found.x.tolist(), strict=True))
    assert len(found) <= 8


def test_colours_of_a_bayer_pattern_have_levels_of_their_own() -> None:
    rng = np.random.default_rng(2)
    sky = rng.normal(500, 5, (128, 128))
    sky[::2, ::2] += 3000
    sky[50, 51] += 200
    found = hot(sky, colours=True)
    assert (50, 51) in set(zip(found.y.tolist(), found.x.tolist(), strict=True))
    assert len(found) <= 3


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((64, 64), np.uint16),
        np.full((64, 64), np.nan, np.float32),
        np.full((1, 1), 7, np.uint16),
        np.zeros((3, 200), np.float32),
    ],
)
def test_a_frame_without_any_structure_has_no_hot_pixels(data: NDArray) -> None:
    assert len(hot(data)) == 0


def test_a_clamped_black_level_still_shows_its_hot_pixels() -> None:
    data = np.zeros((64, 64), np.uint16)
    data[10, 20], data[40, 5] = 900, 30
    found = hot(data)
    assert (found.y[0], found.x[0]) == (10, 20)


def test_a_whole_frame_is_never_held() -> None:
    rng = np.random.default_rng(3)
    data = rng.normal(1000, 10, (2048, 1024)).astype(np.uint16)
    tracemalloc.start()
    hot(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6


# --- the pixels of a mask ---------------------------------------------------------------------


def flat(pixels: HotPixels) -> list[int]:
    return (pixels.y * pixels.shape[1] + pixels.x).tolist()


def test_a_mask_gives_its_hot_and_its_warm_pixels_and_never_its_columns() -> None:
    flags = np.array(
        [DQ.HOT | DQ.BAD, DQ.WARM, DQ.HOT | DQ.COLUMN, DQ.PEDESTAL, DQ.MANUAL | DQ.BAD], np.uint16
    )
    positions = np.array([3, 17, 20, 21, 30])
    found = mask_pixels((4, 10), positions, flags)
    assert {kind: flat(pixels) for kind, pixels in found.items()} == {Kind.HOT: [3], Kind.WARM: [3, 17]}
    assert flat(mask_pixels((4, 10), positions[3:], flags[3:])[Kind.SET]) == [30]
    assert mask_pixels((4, 10), positions[:0], flags[:0]) == {}


def test_more_warm_pixels_than_tell_sensors_apart_are_left_out() -> None:
    flags = np.full(60_000, DQ.WARM.value, np.uint16)
    flags[:100] |= DQ.HOT.value
    assert list(mask_pixels((300, 300), np.arange(60_000), flags)) == [Kind.HOT]


# --- recognising --------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", Orientation)
def test_a_frame_is_recognised_in_any_orientation(orientation: Orientation) -> None:
    found = overlap(hot(TURNS[orientation](frame_of(SQUARE))), true_mask(SQUARE))
    assert found is not None
    assert (found.orientation, found.shift) == (orientation, (0, 0))
    assert found.share > 0.7
    assert found.log10_chance < -30


def test_a_frame_with_its_overscan_is_found_shifted() -> None:
    data = np.hstack([np.full((256, 24), 1000, np.uint16), frame_of(CAMERA)])
    found = overlap(hot(data), true_mask(CAMERA))
    assert found is not None
    assert (found.orientation, found.shift) == (Orientation.AS_IS, (-24, 0))
    flipped = overlap(hot(data[:, ::-1]), true_mask(CAMERA))
    assert flipped is not None
    assert (flipped.orientation, flipped.shift) == (Orientation.COLUMNS_FLIPPED, (-24, 0))


def test_a_binned_frame_is_recognised_by_an_unbinned_mask_and_the_reverse() -> None:
    big = SimulatedCamera.create((512, 640), seed=14)
    data = frame_of(big).astype(np.float32)
    binned = data.reshape(256, 2, 320, 2).sum(axis=(1, 3))
    found = overlap(hot(binned), true_mask(big))
    assert found is not None
    assert (found.frame_binning, found.mask_binning) == (2, 1)
    assert found.log10_chance < -30
    reverse = overlap(hot(data), true_mask(big).binned(2))
    assert reverse is not None
    assert (reverse.frame_binning, reverse.mask_binning) == (1, 2)
    assert reverse.log10_chance < -30


def test_another_camera_of_the_model_is_a_stranger() -> None:
    found = overlap(hot(frame_of(OTHER)), true_mask(CAMERA))
    assert found is not None
    assert found.log10_chance > -3
    assert could_tell(found, 4)


def test_sizes_that_do_not_fit_are_not_compared() -> None:
    rng = np.random.default_rng(4)
    assert overlap(random_pixels((100, 100), 50, rng), random_pixels((400, 300), 50, rng)) is None


def test_two_sensors_that_are_hot_in_the_same_corner_are_not_taken_for_one() -> None:
    """Both have all their pixels in one sixteenth of the area: sixteen times as many coincide by chance."""
    worst = 0.0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        a, b = (random_pixels((64, 80), 300, rng) for _ in range(2))
        frame, mask = HotPixels((256, 320), a.y, a.x), HotPixels((256, 320), b.y, b.x)
        found = overlap(frame, mask)
        assert found is not None
        worst = min(worst, found.log10_chance)
    assert worst > -4


def test_a_frame_of_five_hot_pixels_cannot_tell() -> None:
    rng = np.random.default_rng(5)
    found = overlap(random_pixels((256, 320), 5, rng), true_mask(CAMERA))
    assert found is not None
    assert not could_tell(found, 4)


@pytest.mark.parametrize("n", [8, 40, 300])
def test_false_identifications_are_no_more_frequent_than_stated(n: int) -> None:
    """600 random frames against one mask in four orientations at 3969 shifts."""
    rng = np.random.default_rng(n)
    mask = random_pixels((250, 330), n, rng)
    chances = []
    for _ in range(600):
        found = overlap(random_pixels((250, 330), n, rng), mask)
        assert found is not None
        chances.append(found.log10_chance + math.log10(found.orientations))
    for stated in (0.3, 0.1, 0.01):
        observed = np.count_nonzero(np.array(chances) <= math.log10(stated))
        assert observed <= stats.binom.ppf(0.999, 600, stated)


# --- the epoch ------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", Orientation)
@pytest.mark.parametrize("seen", [60, 400])
def test_the_campaign_of_a_frame_fits_better_than_earlier_and_later_ones(
    orientation: Orientation, seen: int
) -> None:
    """Pixels are born and stay; the frame shows the first 200 of them, or 60 of these."""
    rng = np.random.default_rng(6)
    born = random_pixels((300, 300), 400, rng)
    masks = [born.hottest(n) for n in (100, 200, 400)]
    order = rng.permutation(200)[:seen]
    plane = np.zeros((300, 300), bool)
    plane[born.y[order], born.x[order]] = True
    turned = TURNS[orientation](plane)
    frame = HotPixels(turned.shape, *np.nonzero(turned))
    laid = []
    for mask in masks:
        found = overlap(frame, mask)
        assert found is not None
        laid.append((mask, found))
    compared = fits(frame, laid)
    assert [fit.flagged for fit in compared] == [100, 200, 400]
    assert compared[1].found == compared[2].found == min(seen, 200)
    assert about_as_good(compared) == [False, True, False]


def test_masks_alike_fit_alike() -> None:
    rng = np.random.default_rng(7)
    born = random_pixels((300, 300), 400, rng)
    frame = born.hottest(380)
    found = overlap(frame, born)
    assert found is not None
    assert about_as_good(fits(frame, [(born, found), (born, found)])) == [True, True]


# --- real frames ------------------------------------------------------------------------------------


def test_a_real_sensor_is_recognised_in_longer_and_colder_darks_and_even_in_a_bias_frame(real_data) -> None:
    """The hot pixels of a 60 s dark are found in a 300 s dark, a 10 s dark at -10 °C and a bias frame."""
    folder = real_data / "darks" / "stl1001_2017"

    def read(name: str) -> HotPixels:
        with open_rows(folder / name) as rows:
            return hottest_pixels(rows)

    mask = read("darks-expos1-Neg5-Vis.00000000.DARK.FIT").hottest(2000)
    for name, least in (
        ("darks-expos300s-Neg5-Vis.00000000.DARK.FIT", 0.8),
        ("darks-expos10s-Neg10-Vis.00000000.DARK.FIT", 0.7),
        ("bias-Neg10-Vis.00000000.BIAS.FIT", 0.5),
    ):
        found = overlap(read(name), mask)
        assert found is not None
        assert (found.orientation, found.shift) == (Orientation.AS_IS, (0, 0))
        assert found.share > least
        assert found.log10_chance < -100


def test_two_halves_of_a_real_sensor_are_strangers(real_data) -> None:
    with open_rows(
        real_data / "darks" / "stl1001_2017" / "darks-expos300s-Neg5-Vis.00000000.DARK.FIT"
    ) as rows:
        pixels = hottest_pixels(rows)
    lower, upper = pixels.y < 512, pixels.y >= 512
    a = HotPixels((512, 1024), pixels.y[lower], pixels.x[lower])
    b = HotPixels((512, 1024), pixels.y[upper] - 512, pixels.x[upper])
    found = overlap(a.hottest(2000), b.hottest(2000))
    assert found is not None
    assert found.log10_chance > -3
