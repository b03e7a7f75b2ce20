"""Deciding: how many of the condemned are innocent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hotpix_registry.science.decide import (
    bad_columns,
    benjamini_hochberg,
    bulk_p,
    condemn,
    factor_of_joint,
    fisher,
    gaussian_z,
    shares_in_time,
    strata,
)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.sampled_from([0.01, 0.1]))
def test_the_step_up_rule_is_benjamini_and_hochbergs(p, rate):
    p = np.array(p)
    null_share = min(1.0, 2 * (np.sum(p > 0.5) + 1) / p.size)
    ordered = sorted(p)
    accepted = [x for k, x in enumerate(ordered, 1) if x <= rate * k / (p.size * null_share)]
    threshold = benjamini_hochberg(p, rate)
    assert np.sum(p <= threshold) == (
        ordered.index(accepted[-1]) + ordered.count(accepted[-1]) if accepted else 0
    )


def test_false_discoveries_stay_at_their_rate():
    rng = np.random.default_rng(1)
    false = total = 0
    for _ in range(200):
        z = rng.normal(0, 1, 1000)
        z[:100] += 4
        guilty = stats.norm.sf(z) <= benjamini_hochberg(stats.norm.sf(z), 0.05)
        false += guilty[100:].sum()
        total += guilty.sum()
    assert false / total == pytest.approx(0.05, abs=0.01)


def test_where_nearly_all_are_guilty_less_evidence_is_enough():
    rng = np.random.default_rng(2)
    z = np.concatenate([rng.normal(0, 1, 20), rng.normal(5, 1, 500)])
    mixed = np.concatenate([rng.normal(0, 1, 20_000), rng.normal(5, 1, 500)])
    p, p_mixed = stats.norm.sf(z), stats.norm.sf(mixed)
    assert benjamini_hochberg(p, 0.01) > 10 * benjamini_hochberg(p_mixed, 0.01)


def test_strata_divide_hot_pixels_and_leave_the_bulk_alone():
    rng = np.random.default_rng(3)
    excess = np.concatenate([rng.normal(0, 0.01, 5000), 10 ** rng.uniform(-1, 2, 3000)])
    found = strata(excess, np.full(excess.size, 0.01))
    assert np.all(found[:5000] == 0)
    assert found[5000:].min() == 1
    counts = np.bincount(found)[1:]
    assert counts.min() >= 50
    hot = excess[5000:]
    order = np.argsort(hot)
    assert np.all(np.diff(found[5000:][order]) >= 0)


def test_no_hot_pixels_make_no_strata():
    assert strata(np.zeros(10), np.ones(10)).tolist() == [0] * 10


def test_the_bulk_is_judged_by_its_own_threshold_and_hot_strata_never_more_strictly():
    p = np.array([1e-9, 1e-3, 1e-9, 0.9, 0.9])
    stratum = np.array([0, 0, 1, 1, 1])
    guilty, thresholds = condemn(p, stratum, rate=0.01, bulk_p=1e-6, highest_p=0.02)
    assert guilty.tolist() == [True, False, True, False, False]
    assert thresholds[0] == 1e-6
    assert thresholds[1] >= 1e-6


def test_joint_p_values_are_uniform_when_both_are():
    rng = np.random.default_rng(4)
    p = fisher(rng.random(100_000), rng.random(100_000))
    assert np.mean(p < 0.01) == pytest.approx(0.01, abs=0.001)
    assert fisher(np.array([0.0]), np.array([1.0]))[0] < 1e-290


def test_the_exposure_that_shows_jumps_best_gets_nearly_all_false_alarms_in_time():
    biases, short, long, together = shares_in_time([(20, 0.0, 100.0), (10, 90.0, 101.0), (20, 1000.0, 110.0)])
    assert biases == 0
    assert short == pytest.approx(0.004, abs=0.001)
    assert long == pytest.approx(0.946, abs=0.001)
    assert together == 0.05


def test_one_group_gets_all_false_alarms_in_time_and_biases_alone_are_tested_as_a_whole():
    assert shares_in_time([(5, 60.0, 100.0)]) == [1.0, 0.0]
    assert shares_in_time([(3, 0.0, 100.0), (1, 60.0, 100.0)]) == [0.0, 0.0, 1.0]


def test_the_bulk_shares_its_false_flags_among_tests():
    assert bulk_p(1.0, 1_000_000, 5) == pytest.approx(2e-7)


def test_p_values_translate_to_sigmas():
    assert gaussian_z(stats.norm.sf(3.0)) == pytest.approx(3.0)
    assert gaussian_z(0.0) == np.inf
    assert gaussian_z(1.0) == 0


@pytest.mark.parametrize("p", [1e-9, 1e-6, 1e-3, 0.1])
def test_two_tests_condemn_together_only_where_one_passes_a_lesser_threshold(p):
    least = factor_of_joint(p)
    assert fisher(np.array(least), np.array(least)) == pytest.approx(p, rel=1e-6)
    others = np.geomspace(least, 1, 50)
    assert (fisher(others[:, np.newaxis], others) > p * (1 - 1e-6)).all()


def test_a_column_with_many_bad_pixels_is_bad_along_its_run():
    bad = np.zeros((400, 20), np.bool_)
    bad[100:300:3, 5] = True
    bad[::20, 9] = True
    found = bad_columns(np.flatnonzero(bad), np.zeros((1, 20)), [(0, 400)])
    assert found == [(slice(100, 299), 5)]


def test_a_column_that_departs_as_a_whole_is_bad_though_no_pixel_is():
    column_z = np.random.default_rng(5).normal(0, 0.125, (6, 500))
    column_z[2:5, 40] = 1.8
    column_z[1, 300] = 1.8
    bands = [(64 * i, 64 * i + 64) for i in range(6)]
    found = bad_columns(np.zeros(0, np.int64), column_z, bands)
    assert found == [(slice(128, 192), 40), (slice(192, 256), 40), (slice(256, 320), 40)]
