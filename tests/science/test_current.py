"""The line through the charges of a pixel: against generalised least squares with full matrices."""

import math

import numpy as np
import pytest

from hotpix_registry.science.current import Charge, fit_line
from tests.benchmarks.plain import fit_line as plain_fit_line

FLOOR_E2 = 100.0


def charge(exptime_s, values, n=10, level_e=0.0, usable=None, ratio=1.0):
    values = np.atleast_2d(np.asarray(values, np.float32))
    return Charge(
        exptime_s=exptime_s,
        charge_e=values,
        exposures=np.full(values.shape, n, np.float32),
        level_e=level_e,
        usable=np.ones(values.shape, np.bool_) if usable is None else np.atleast_2d(usable),
        ratio=ratio,
    )


def slow_fit(times, charges, n, offset_variance):
    """Generalised least squares with the covariance between the points written out."""
    t, y = np.array(times, float), np.array(charges, float)
    rate = y[-1] / t[-1]
    for _ in range(2):
        variance = (FLOOR_E2 + np.maximum(rate * t, 0)) / n + (0.003 * max(rate, 0) * t) ** 2
        covariance = np.diag(variance) + offset_variance
        inverse = np.linalg.inv(covariance)
        sigma2 = 1 / (t @ inverse @ t)
        rate = sigma2 * (t @ inverse @ y)
    residual = y - rate * t
    return rate, math.sqrt(sigma2), residual @ inverse @ residual, covariance


@pytest.mark.parametrize("offset_variance", [0.01, 5.0, 400.0])
@pytest.mark.parametrize(
    ("times", "charges"),
    [
        ([90.0, 1000.0], [400.0, 4000.0]),
        ([90.0, 1000.0], [9000.0, 80_000.0]),
        ([90.0, 300.0, 1000.0], [950.0, 3000.0, 9000.0]),
        ([10.0, 60.0, 300.0, 900.0], [40.0, 300.0, 1400.0, 4500.0]),
    ],
)
def test_the_line_is_the_generalised_least_squares_fit(times, charges, offset_variance):
    points = [charge(t, [[q]]) for t, q in zip(times, charges, strict=True)]
    line = fit_line(points, FLOOR_E2, offset_variance)
    rate, sigma, chi2, _ = slow_fit(times, charges, 10, offset_variance)
    assert line.rate_e_per_s[0, 0] == pytest.approx(rate, rel=1e-3)
    assert line.rate_sigma[0, 0] == pytest.approx(sigma, rel=1e-2)
    assert line.chi2[0, 0] == pytest.approx(chi2, rel=2e-2, abs=1e-2)
    assert line.n_points[0, 0] == len(times)


def test_with_two_exposures_z_is_their_difference_over_its_full_error():
    times, charges, shared = [90.0, 1000.0], [500.0, 4500.0], 5.0
    line = fit_line([charge(t, [[q]]) for t, q in zip(times, charges, strict=True)], FLOOR_E2, shared)
    *_, covariance = slow_fit(times, charges, 10, shared)
    contrast = np.array([1 / 90, -1 / 1000])
    difference = contrast @ charges
    error = math.sqrt(contrast @ covariance @ contrast)
    assert line.z[0, 0] == pytest.approx(difference / error, rel=2e-3)
    assert line.chi2[0, 0] == pytest.approx((difference / error) ** 2, rel=1e-2)
    assert line.departure[0, 0] == pytest.approx((500 / 90 - 4.5) / 4.5, rel=1e-4)


def test_z_of_true_lines_is_a_unit_normal_at_any_rate():
    rng = np.random.default_rng(1)
    rate = np.broadcast_to(np.geomspace(0.01, 2, 40)[:, np.newaxis], (40, 5000))
    points = []
    bias = rng.normal(0, math.sqrt(5.0), rate.shape)
    for t, n in ((90.0, 10), (300.0, 5), (1000.0, 20)):
        mean = rng.poisson(rate * t * n) / n + rng.normal(0, 10 / math.sqrt(n), rate.shape) - bias
        points.append(charge(t, mean, n=n, level_e=0.01 * t))
    for chosen, dof in ((points[::2], 1), (points, 2)):
        line = fit_line(chosen, FLOOR_E2, 5.0)
        assert np.abs(line.z.mean(axis=1)).max() < 0.08
        np.testing.assert_allclose(line.z.std(axis=1), 1, atol=0.05)
        assert line.chi2.mean() == pytest.approx(dof, rel=0.02)


def test_each_pixel_may_have_its_own_error_of_the_offset():
    points = [charge(t, [[q, q]]) for t, q in ((90.0, 500.0), (1000.0, 4500.0))]
    own = fit_line(points, FLOOR_E2, np.array([[5.0, 400.0]], np.float32))
    for x, shared in enumerate((5.0, 400.0)):
        alone = fit_line(points, FLOOR_E2, shared)
        assert own.z[0, x] == alone.z[0, x]
        assert own.rate_e_per_s[0, x] == alone.rate_e_per_s[0, x]


def test_the_pooled_rate_knows_nothing_of_the_difference():
    rng = np.random.default_rng(2)
    bias = rng.normal(0, 5, 200_000)
    points = [
        charge(
            t, rng.poisson(0.05 * t * n, 200_000) / n + rng.normal(0, 10 / math.sqrt(n), 200_000) - bias, n=n
        )
        for t, n in ((90.0, 10), (1000.0, 20))
    ]
    line = fit_line(points, FLOOR_E2, 25.0)
    assert abs(np.corrcoef(line.rate_e_per_s[0], line.z[0])[0, 1]) < 0.03


def test_saturated_exposures_leave_the_fit():
    points = [
        charge(90.0, [[900.0, 900.0]]),
        charge(300.0, [[3000.0, 3000.0]]),
        charge(1000.0, [[500.0, 500.0]], usable=[[True, False]]),
    ]
    line = fit_line(points, FLOOR_E2, 1.0)
    assert line.n_points.tolist() == [[3, 2]]
    assert line.chi2[0, 0] > 100
    assert line.chi2[0, 1] < 1
    assert line.departure[0, 1] == pytest.approx(0, abs=1e-5)


def test_a_pixel_without_two_usable_exposures_is_not_judged():
    line = fit_line([charge(90.0, [[900.0]]), charge(1000.0, [[500.0]], usable=[[False]])], FLOOR_E2, 1.0)
    assert line.n_points[0, 0] == 1
    assert line.z[0, 0] == 0


def test_exchanging_excess_and_deficit_turns_the_sign_of_z():
    up = fit_line([charge(90.0, [[500.0]]), charge(1000.0, [[5000.0]])], FLOOR_E2, 1.0)
    down = fit_line([charge(90.0, [[400.0]]), charge(1000.0, [[5000.0]])], FLOOR_E2, 1.0)
    assert up.z[0, 0] > 0 > down.z[0, 0]


@pytest.mark.parametrize("times_s", [(1000.0,), (90.0, 1000.0), (30.0, 90.0, 300.0, 1000.0)])
@pytest.mark.parametrize("ceiling_e", [np.inf, 3000.0, 30.0])
@pytest.mark.parametrize("most_lost", [0, 2])
def test_the_line_is_that_of_plain_numpy(times_s, ceiling_e, most_lost):
    rng = np.random.default_rng(8)
    shape = (9, 4001)  # more than two tiles
    rate = rng.normal(0.02, 0.01, shape) + (rng.random(shape) < 0.1) * rng.exponential(5, shape)
    points = []
    for t in times_s:
        charge = (rate * t + rng.normal(0, 3, shape)).astype(np.float32)
        points.append(
            Charge(
                exptime_s=t,
                charge_e=charge,
                exposures=10.0 - (rng.random(shape) < 0.1) * rng.integers(0, most_lost + 1, shape),
                level_e=0.02 * t,
                usable=charge < ceiling_e,
                ratio=1.01 if t < 100 else 1.0,
                ratio_sigma=0.001,
            )
        )
    own = np.where(rng.random(shape) < 0.1, rng.uniform(1, 9, shape), 1).astype(np.float32)
    for offset in (4.0, own):
        found, plain = fit_line(points, 100.0, offset), plain_fit_line(points, 100.0, offset)
        assert np.array_equal(found.n_points, plain.n_points)
        for name in ("rate_e_per_s", "rate_sigma", "chi2", "z", "departure"):
            np.testing.assert_allclose(
                getattr(found, name), getattr(plain, name), rtol=2e-3, atol=2e-3, err_msg=name
            )
