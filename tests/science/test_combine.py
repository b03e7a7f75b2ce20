"""Combining frames: against a slow and obvious calculation, and where cosmic rays hit."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hotpix_registry.science.combine import FrameScale, NoiseModel, Rejection, combine

NOISE = NoiseModel(gain_e_per_adu=1.5, read_noise_e=10.0)


def scale(n, pedestal=0.0, factors=None):
    return FrameScale(
        pedestals_adu=np.full(n, pedestal), factors=None if factors is None else np.array(factors)
    )


def slow_combine(values, least_adu, sigma=6.0, most=2):
    """One pixel, in plain Python: values above the pedestal."""
    n = len(values)
    centre = min(values) if n == 2 else statistics.median(values)

    def variance(level):
        return (10.0**2 + 1.5**2 / 12) / 1.5**2 + max(level, least_adu) / 1.5

    bound = centre + sigma * math.sqrt(variance(centre))
    most = min(most, n - 1 if n <= 2 else (n + 1) // 2 - 1)
    kept = [v for v in values if v <= bound]
    if n - len(kept) > most:
        kept = list(values)
    mean = sum(kept) / len(kept)
    chi2 = sum((v - mean) ** 2 for v in kept) / variance(mean)
    return mean, len(kept), n - len(kept), chi2


@settings(deadline=None)
@given(
    hnp.arrays(
        np.uint16, st.tuples(st.integers(1, 40), st.just(3), st.just(4)), elements=st.integers(900, 1500)
    ),
    st.sampled_from([0.0, 12.5]),
)
def test_combining_equals_the_slow_calculation(stack, least_adu):
    got = combine(stack, scale(len(stack), 1000.0), NOISE, saturation_adu=65535, least_adu=least_adu)
    for y, x in np.ndindex(3, 4):
        values = [float(v) - 1000.0 for v in stack[:, y, x]]
        mean, n_used, n_rejected, chi2 = slow_combine(values, least_adu)
        assert got.mean_adu[y, x] == pytest.approx(mean, rel=1e-5, abs=1e-3)
        assert (got.n_used[y, x], got.n_rejected[y, x]) == (n_used, n_rejected)
        assert got.chi2[y, x] == pytest.approx(chi2, rel=1e-3, abs=1e-3)


def test_integers_and_floats_combine_to_the_same():
    stack = np.random.default_rng(1).poisson(1200, (9, 30, 40)).astype(np.uint16)
    pedestals = FrameScale(pedestals_adu=1000 + np.arange(9.0))
    integers = combine(stack, pedestals, NOISE, saturation_adu=65535)
    floats = combine(stack.astype(np.float32), pedestals, NOISE, saturation_adu=65535)
    np.testing.assert_allclose(integers.mean_adu, floats.mean_adu, atol=1e-3)
    np.testing.assert_array_equal(integers.n_rejected, floats.n_rejected)
    np.testing.assert_allclose(integers.chi2, floats.chi2, rtol=1e-3)


@pytest.mark.parametrize("n", [3, 10, 20, 40, 100])
def test_one_cosmic_ray_never_survives(n):
    rng = np.random.default_rng(n)
    stack = np.rint(rng.normal(1000, 6.7, (n, 20, 20))).astype(np.uint16)
    clean = combine(stack, scale(n, 1000.0), NOISE, saturation_adu=65535)
    hit = stack.copy()
    hit[n // 2, 5, 5] = 1900
    struck = combine(hit, scale(n, 1000.0), NOISE, saturation_adu=65535)
    assert struck.n_rejected[5, 5] == 1
    assert struck.n_used[5, 5] == n - 1
    assert abs(struck.mean_adu[5, 5] - clean.mean_adu[5, 5]) < 4 * 6.7 / math.sqrt(n)
    assert clean.n_rejected.sum() == 0


def test_a_pixel_hit_more_often_than_cosmic_rays_come_keeps_all_and_stands_out_in_time():
    stack = np.full((10, 1, 1), 1000, np.uint16)
    stack[:3] = 1900
    got = combine(stack, scale(10, 1000.0), NOISE, saturation_adu=65535)
    assert got.n_used[0, 0] == 10
    assert got.mean_adu[0, 0] == pytest.approx(270)
    assert got.chi2[0, 0] > 1000


def test_the_number_of_tolerated_hits_is_a_parameter():
    stack = np.full((10, 1, 1), 1000, np.uint16)
    stack[:3] = 1900
    got = combine(stack, scale(10, 1000.0), NOISE, saturation_adu=65535, rejection=Rejection(most=3))
    assert got.n_rejected[0, 0] == 3
    assert got.mean_adu[0, 0] == 0


def test_values_at_the_ceiling_and_values_that_are_none_count_as_saturated():
    stack = np.full((3, 1, 4), 1000, np.float32)
    stack[0, 0, 1] = 65535
    stack[:, 0, 2] = np.nan
    stack[1, 0, 3] = np.inf
    got = combine(stack, scale(3, 1000.0), NOISE, saturation_adu=65535)
    assert got.n_saturated.tolist() == [[0, 1, 3, 1]]
    assert np.isfinite(got.mean_adu).all()


def test_pixels_near_the_ceiling_do_not_wrap_when_pedestals_differ():
    stack = np.full((3, 1, 1), 65530, np.uint16)
    got = combine(
        stack, FrameScale(pedestals_adu=np.array([1000.0, 1010.0, 1020.0])), NOISE, saturation_adu=65535
    )
    assert got.mean_adu[0, 0] == pytest.approx(64520, abs=20)


def test_a_first_frame_full_to_the_brim_is_no_frame_of_zero():
    stack = np.zeros((3, 1, 40), np.uint16)
    stack[0] = 65535
    got = combine(stack, scale(3), NOISE, saturation_adu=math.inf, rejection=Rejection(most=0))
    assert got.mean_adu[0] == pytest.approx(np.full(40, 65535 / 3), rel=1e-5)


def test_rate_factors_leave_the_fixed_pattern_alone():
    base = np.array([[0.0, 500.0]], np.float32)
    factors = np.array([0.98, 1.0, 1.02])
    stack = np.stack([1000 + base + 2000 * f for f in factors]).astype(np.float32)
    got = combine(stack, scale(3, 1000.0, factors), NOISE, saturation_adu=65535, base_adu=base)
    np.testing.assert_allclose(got.mean_adu, base + 2000, rtol=1e-5)
    np.testing.assert_allclose(got.chi2, 0, atol=1e-3)


def test_what_is_found_does_not_depend_on_where_tiles_end():
    stack = np.random.default_rng(3).poisson(1200, (7, 40, 3001)).astype(np.uint16)
    stack[2, 11, 17] = 9000
    whole = combine(stack, scale(7, 1000.0), NOISE, saturation_adu=65535)
    for rows in (1, 3, 17):
        parts = [
            combine(stack[:, y : y + rows], scale(7, 1000.0), NOISE, saturation_adu=65535)
            for y in range(0, 40, rows)
        ]
        for name in ("mean_adu", "n_used", "n_rejected", "n_saturated", "chi2"):
            joined = np.concatenate([getattr(part, name) for part in parts])
            assert np.array_equal(joined, getattr(whole, name))


def test_chi2_of_normal_pixels_has_its_degrees_of_freedom():
    rng = np.random.default_rng(5)
    stack = np.rint(rng.normal(1000, math.hypot(10, 1.5 / 12) / 1.5, (20, 200, 200))).astype(np.uint16)
    got = combine(stack, scale(20, 1000.0), NOISE, saturation_adu=65535)
    assert got.chi2.mean() == pytest.approx(19, rel=0.01)


@pytest.mark.parametrize("n", [2, 3, 5, 16, 20, 33, 70])
@pytest.mark.parametrize("share_wide", [0.0, 0.05, 0.5, 1.0])
def test_a_pixel_is_combined_alike_in_whatever_company(n: int, share_wide: float) -> None:
    """Counts that lie close together are summed as integers, others as floats, to the same bits."""
    rng = np.random.default_rng(n)
    level = np.where(rng.random(300) < share_wide, 20_000.0, 200.0)
    stack = np.clip(rng.normal(1000 + level, np.sqrt(level), (n, 300)), 0, 65_535).astype(np.uint16)
    stack[rng.integers(0, n, 40), rng.integers(0, 300, 40)] += 9_000  # cosmic rays
    scale = FrameScale(pedestals_adu=rng.integers(990, 1010, n).astype(np.float64))
    noise = NoiseModel(gain_e_per_adu=1.5, read_noise_e=10.0)
    together = combine(stack[:, np.newaxis], scale, noise, saturation_adu=65_535)
    for x in range(0, 300, 7):
        alone = combine(stack[:, np.newaxis, x : x + 1], scale, noise, saturation_adu=65_535)
        for name in ("mean_adu", "chi2", "n_used", "n_rejected", "n_saturated"):
            assert getattr(alone, name)[0, 0] == getattr(together, name)[0, x], name


@pytest.mark.parametrize("factors", [None, np.linspace(0.98, 1.02, 9)])
def test_hits_are_found_whichever_frame_they_are_in(factors):
    """The first frame is the one that deviations are taken from."""
    stack = np.rint(np.random.default_rng(4).normal(1000, 6.7, (9, 1, 9))).astype(np.uint16)
    for i in range(9):
        stack[i, 0, i] = 30_000
    got = combine(stack, scale(9, 1000.0, factors), NOISE, saturation_adu=65535)
    assert (got.n_rejected == 1).all()
    assert np.abs(got.mean_adu).max() < 4 * 6.7 / math.sqrt(8)
    assert got.chi2.max() < 30


@settings(deadline=None)
@given(
    hnp.arrays(
        np.uint16,
        st.tuples(st.integers(2, 12), st.just(1), st.just(40)),
        elements=st.sampled_from([0, 1, 50, 89, 90, 91, 180, 20_089, 65_355, 65_445, 65_446, 65_535]),
        fill=st.just(50),
    ),
    st.sampled_from([0.0, 1.0, 7.0, 20_000.0]),
)
def test_counts_anywhere_in_their_range_combine_as_floats_do(stack, shift):
    """Where 16-bit deviations would wrap, too: a frame of zero beside one of 65535."""
    n = len(stack)
    pedestals = FrameScale(pedestals_adu=np.where(np.arange(n) % 2, 0.0, shift))
    lifted = np.minimum(stack + pedestals.pedestals_adu.max() - pedestals.pedestals_adu[:, None, None], 65535)
    whole = combine(stack, pedestals, NOISE, saturation_adu=65535)
    floats = combine(
        lifted.astype(np.float32), scale(n, pedestals.pedestals_adu.max()), NOISE, saturation_adu=math.inf
    )
    assert whole.mean_adu == pytest.approx(floats.mean_adu, rel=1e-5, abs=0.1)
    assert np.array_equal(whole.n_used, floats.n_used)
    assert np.array_equal(whole.n_saturated, (stack == 65535).sum(axis=0))
