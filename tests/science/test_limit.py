"""The consistency limit: found where it is, and not where there is none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpix_registry.science.limit import departure_curve, find_limit, isotonic

EXPOSURES_S = (90.0, 1000.0)


def hot_pixels(onset_e, seed=1, n=25_000):
    """Dark currents of both exposures: charge above the onset grows at half its rate."""
    rng = np.random.default_rng(seed)
    rate = 0.15 / rng.random(n)
    rate = rate[rate < 90]
    charge = rate * 1000
    charge = np.where(charge > onset_e, onset_e + 0.5 * (charge - onset_e), charge)
    short = rate + rng.normal(0, np.sqrt((100 + 90 * rate) / 10) / 90)
    long = (charge + rng.normal(0, np.sqrt((100 + charge) / 20))) / 1000
    return short, long


def found(onset_e, seed=1):
    short, long = hot_pixels(onset_e, seed)
    return find_limit(short, long, least_e_per_s=0.14, tolerance=0.05, exposures_s=EXPOSURES_S)[0]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("onset_e", [1000.0, 4000.0, 16000.0])
def test_the_limit_lies_where_the_exposures_depart(onset_e, seed):
    limit = found(onset_e, seed)
    charge_e = onset_e / (1 - 0.05 / 1.05 * 2)  # short / long = 1.05 at this rate × time
    assert limit.e_per_s == pytest.approx(charge_e / 1000, rel=0.10)
    assert limit.low_e_per_s <= limit.e_per_s <= limit.high_e_per_s
    assert limit.source == "automatic"
    assert limit.charge_e == pytest.approx(limit.e_per_s / 1.05 * 1000)


@pytest.mark.parametrize("seed", range(5))
def test_there_is_no_limit_where_all_pixels_are_linear(seed):
    limit = found(1e9, seed)
    assert limit.e_per_s is None
    assert limit.source == "none"
    assert "agree within 5%" in limit.reason


def test_few_hot_pixels_tell_no_limit():
    limit, curve = find_limit(
        np.ones(30), np.ones(30), least_e_per_s=0.1, tolerance=0.05, exposures_s=EXPOSURES_S
    )
    assert limit.e_per_s is None
    assert "Too few" in limit.reason
    assert curve.rate_e_per_s.size == 0


def test_some_wild_pixels_do_not_move_the_limit():
    short, long = hot_pixels(4000.0)
    limit = find_limit(short, long, least_e_per_s=0.14, tolerance=0.05, exposures_s=EXPOSURES_S)[0]
    short[::25] *= 3
    wild = find_limit(short, long, least_e_per_s=0.14, tolerance=0.05, exposures_s=EXPOSURES_S)[0]
    assert wild.e_per_s == pytest.approx(limit.e_per_s, rel=0.05)


def test_the_curve_runs_upwards_and_lies_within_its_intervals_mostly():
    short, long = hot_pixels(4000.0)
    curve = departure_curve(short, long, 0.14)
    assert np.all(np.diff(curve.rate_e_per_s) > 0)
    assert np.all(np.diff(curve.fit) >= 0)
    assert np.mean((curve.low <= curve.fit) & (curve.fit <= curve.high)) > 0.9


def slow_isotonic(values, weights):
    """The max-min formula of isotonic regression."""
    n = len(values)

    def mean(i, j):
        return np.average(values[i : j + 1], weights=weights[i : j + 1])

    return [max(min(mean(i, j) for j in range(k, n)) for i in range(k + 1)) for k in range(n)]


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.1, 3)), min_size=1, max_size=12))
def test_pooling_violators_is_isotonic_regression(points):
    values, weights = (np.array(column) for column in zip(*points, strict=True))
    np.testing.assert_allclose(isotonic(values, weights), slow_isotonic(values, weights), atol=1e-9)
