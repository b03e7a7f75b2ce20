"""Tails of distributions, against scipy.stats, far out as well."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from hotpix_registry.science import tails

P = (0.5, 0.1, 1e-3, 1e-8, 1e-15, 1e-30)


@pytest.mark.parametrize("p", P)
def test_normal_tails(p):
    assert tails.normal_at(p) == stats.norm.isf(p)
    assert tails.normal_above(stats.norm.isf(p)) == stats.norm.sf(stats.norm.isf(p))


@pytest.mark.parametrize("dof", [1, 2, 9, 29, 300])
def test_chi_square_tails(dof):
    for p in P:
        value = stats.chi2.isf(p, dof)
        assert tails.chi2_at(p, dof) == value
        assert tails.chi2_below_which(p, dof) == pytest.approx(stats.chi2.ppf(p, dof), rel=1e-12)
        assert tails.chi2_above(value, dof) == stats.chi2.sf(value, dof)
    middle = stats.chi2.median(dof)
    assert tails.chi2_density(middle, dof) == pytest.approx(stats.chi2.pdf(middle, dof), rel=1e-12)


def test_poisson_tails():
    counts = np.arange(0.0, 12.0)
    assert np.array_equal(tails.poisson_above(counts, 0.01), stats.poisson.sf(counts, 0.01))


def test_detecting_does_without_the_half_second_that_scipy_stats_takes_to_load():
    code = "import sys, hotpix_registry.science.detection; sys.exit('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
