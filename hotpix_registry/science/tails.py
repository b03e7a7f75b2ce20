"""Tails of distributions: what `scipy.stats` computes them with, at a tenth of its import."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Doubles = NDArray[np.float64]


def normal_above(z: ArrayLike) -> Doubles:
    """Probability of a value above z."""
    return np.asarray(special.ndtr(np.negative(z)), np.float64)


def normal_at(p: float) -> float:
    """Value above which lies the probability p."""
    return -float(special.ndtri(p))


def chi2_above(values: ArrayLike, dof: ArrayLike) -> Doubles:
    return np.asarray(special.chdtrc(dof, values), np.float64)


def chi2_at(p: float, dof: float) -> float:
    """Value above which lies the probability p."""
    return float(special.chdtri(dof, p))


def chi2_below_which(p: float, dof: float) -> float:
    """Value below which lies the probability p; exact where p is tiny."""
    return 2 * float(special.gammaincinv(dof / 2, p))


def chi2_density(value: float, dof: float) -> float:
    half = dof / 2
    return math.exp((half - 1) * math.log(value / 2) - value / 2 - math.lgamma(half)) / 2


def poisson_above(counts: ArrayLike, mean: float) -> Doubles:
    """Probability of more than so many counts."""
    return np.asarray(special.pdtrc(counts, mean), np.float64)
