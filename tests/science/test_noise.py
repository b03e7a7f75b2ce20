"""Gain, read noise and temperatures as the darks show them."""

import math

import numpy as np
import pytest
from scipy import stats

from hotpix_registry.science.noise import (
    Repeats,
    adopt,
    frame_factors,
    photon_transfer,
    rate_ratio,
    robust_sd,
    weighted_median,
)


def repeats(gain=1.5, read_noise=10.0, n_frames=10, n_pixels=20_000, seed=1):
    rng = np.random.default_rng(seed)
    charge = 10 ** rng.uniform(1, 4.5, n_pixels)
    frames = rng.poisson(charge, (n_frames, n_pixels)) + rng.normal(0, read_noise, (n_frames, n_pixels))
    adu = np.rint(frames / gain)
    return Repeats(mean_adu=np.median(adu, axis=0), variance_adu2=adu.var(axis=0, ddof=1), dof=n_frames - 1)


def test_gain_and_read_noise_come_out_of_the_darks():
    found = photon_transfer([repeats()], 1.0, 1.5)
    assert found.gain_e_per_adu == pytest.approx(1.5, rel=0.02)
    assert found.read_noise_e == pytest.approx(10.0, rel=0.05)
    assert found.gain_sigma < 0.03


def test_unstable_pixels_do_not_spoil_them():
    sample = repeats()
    sample.variance_adu2[::30] *= 50
    found = photon_transfer([sample], 1.0, 1.5)
    assert found.gain_e_per_adu == pytest.approx(1.5, rel=0.05)


def test_a_profile_that_agrees_stands():
    noise, warnings = adopt(1.5, 10.0, 1.0, photon_transfer([repeats()], 1.0, 1.5))
    assert (noise.gain_e_per_adu, noise.read_noise_e) == (1.5, 10.0)
    assert warnings == []


def test_a_profile_that_is_wrong_by_a_quarter_is_told_with_both_numbers():
    noise, warnings = adopt(1.875, 8.0, 1.0, photon_transfer([repeats()], 1.0, 1.875))
    assert noise.gain_e_per_adu == pytest.approx(1.5, rel=0.02)
    assert noise.read_noise_e == pytest.approx(10.0, rel=0.05)
    assert "1.875" in warnings[0]
    assert "8 e-" in warnings[1]


def test_two_frames_know_their_noise_by_their_difference():
    found = photon_transfer([repeats(n_frames=2, n_pixels=100_000)], 1.0, 1.5)
    assert found.gain_e_per_adu == pytest.approx(1.5, rel=0.03)
    assert found.read_noise_e == pytest.approx(10.0, rel=0.1)


def test_one_frame_or_few_pixels_measure_nothing():
    single = Repeats(mean_adu=np.arange(500.0), variance_adu2=np.zeros(500), dof=0)
    assert photon_transfer([single], 1.0, 1.5).gain_e_per_adu is None
    assert photon_transfer([repeats(n_pixels=50)], 1.0, 1.5).read_noise_e is None


def test_hot_pixels_tell_the_temperature_of_each_frame():
    rng = np.random.default_rng(2)
    true = np.array([0.98, 1.0, 1.01, 1.01])
    mean = 10 ** rng.uniform(3, 4.5, 3000)
    charge = rng.poisson(mean * true[:, np.newaxis]) + rng.normal(0, 10, (4, 3000))
    found = frame_factors(charge, 100.0)
    np.testing.assert_allclose(found.factors, true, atol=0.002)
    assert found.significant
    assert found.temperatures_k[0] == pytest.approx(math.log(0.98) / 0.107, abs=0.02)


def test_too_few_hot_pixels_tell_no_temperature():
    assert frame_factors(np.full((5, 10), 2000.0), 100.0) is None
    assert frame_factors(np.full((5, 100), 20.0), 100.0) is None


def test_a_rate_ratio_is_not_biased_by_choosing_pixels():
    rng = np.random.default_rng(3)
    rate = 0.3 / rng.random(20_000)
    sigma = np.sqrt((100 + 90 * rate) / 10) / 90
    found = rate_ratio(1.113 * rate + rng.normal(0, sigma), sigma, rate)
    assert found.ratio == pytest.approx(1.113, abs=4 * found.sigma)
    assert found.sigma < 0.01
    assert found.temperature_k == pytest.approx(1.0, abs=0.1)


def test_without_hot_pixels_the_ratio_is_one_and_says_so():
    found = rate_ratio(np.zeros(100), np.ones(100), np.zeros(100))
    assert (found.ratio, found.n_pixels) == (1.0, 0)


@pytest.mark.parametrize("sd", [0.3, 7.0])
def test_a_robust_deviation_is_that_of_the_normal_core(sd):
    rng = np.random.default_rng(4)
    values = np.concatenate([rng.normal(5, sd, 100_000), rng.uniform(50, 5000, 1000)])
    assert robust_sd(values) == pytest.approx(sd, rel=0.02)
    assert robust_sd(np.rint(rng.normal(0, 2, 100_000))) == pytest.approx(math.hypot(2, 12**-0.5), rel=0.02)


def test_a_robust_deviation_of_next_to_nothing_is_zero():
    assert robust_sd(np.array([])) == 0
    assert robust_sd(np.array([4.0])) == 0


def test_a_weighted_median_halves_the_weight():
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 1.0])) == 2
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([9.0, 1.0, 1.0])) == 3


def test_the_variance_of_the_model_is_that_of_its_frames():
    rng = np.random.default_rng(6)
    from hotpix_registry.science.combine import NoiseModel

    noise = NoiseModel(gain_e_per_adu=2.0, read_noise_e=6.0, adc_step_adu=4.0)
    charge = rng.poisson(500, 400_000) + rng.normal(0, 6, 400_000)
    adu = 4 * np.rint(charge / 2.0 / 4)
    assert adu.var() == pytest.approx(float(noise.variance_adu2(np.float32([250]), 0.0)[0]), rel=0.02)
    assert stats.sem(adu) < 1
