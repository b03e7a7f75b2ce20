"""Which pixels to condemn, so that a stated share of them, and no more, is innocent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.science import tails

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

BULK_SIGMA = 6.0
"""up to so many standard deviations above the local bulk a pixel belongs to the bulk"""
_STRATUM_DEX = 0.1
_FEWEST_IN_STRATUM = 50
_FEWEST_IN_COLUMN = 50
_BRIDGED_ROWS = 30
_SHARE_OF_SUM = 0.05


def strata(excess: Doubles, sigma: Doubles) -> NDArray[np.intp]:
    """Stratum of each pixel by its pooled dark current above the local bulk: 0 the bulk, 1… the hot ones.

    The pooled dark current is independent of the difference that is tested, so that choosing by it
    costs nothing (independent filtering: Bourgon and others 2010, PNAS 107, 9546). Strata are a tenth
    of a dex wide; small ones are joined to their cooler neighbour.
    """
    found = np.zeros(excess.size, np.intp)
    hot = np.flatnonzero(excess > BULK_SIGMA * sigma)
    if hot.size == 0:
        return found
    bins = np.floor(np.log10(excess[hot]) / _STRATUM_DEX).astype(np.intp)
    labels, counts = np.unique(bins, return_counts=True)
    joined, number, held = {}, 0, 0
    for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
        if held >= _FEWEST_IN_STRATUM or number == 0:
            number, held = number + 1, 0
        joined[label] = number
        held += count
    if held < _FEWEST_IN_STRATUM and number > 1:
        joined = {label: min(n, number - 1) for label, n in joined.items()}
    found[hot] = np.array([joined[label] for label in labels.tolist()])[np.searchsorted(labels, bins)]
    return found


def by_stratum(stratum: NDArray[np.intp]) -> dict[int, NDArray[np.intp]]:
    """Stratum, coolest first → indices of its pixels."""
    # strata are few: NumPy sorts numbers of 16 bits by their digits
    order = np.argsort(stratum.astype(np.uint16), kind="stable")
    starts = np.flatnonzero(np.diff(stratum[order], prepend=-1))
    return {int(stratum[members[0]]): members for members in np.split(order, starts)[1:]}


def benjamini_hochberg(p: Doubles, rate: float) -> float:
    """p-value up to which hypotheses are rejected at a false-discovery rate; -1 for none.

    Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57, 289, with the share of true null hypotheses
    from the p-values above one half (Storey 2002, J. R. Stat. Soc. B 64, 479). In astronomy: Miller
    and others 2001, AJ 122, 3492.
    """
    n = p.size
    if n == 0:
        return -1.0
    null_share = min(1.0, 2 * (float(np.sum(p > 0.5)) + 1) / n)
    ordered = np.sort(p)
    critical = rate * np.arange(1, n + 1) / (n * null_share)
    accepted = np.flatnonzero(ordered <= critical)
    return float(critical[accepted[-1]]) if accepted.size else -1.0


def condemn(
    p: Doubles,
    stratum: NDArray[np.intp],
    *,
    rate: float,
    bulk_p: float,
    highest_p: float,
) -> tuple[Bools, dict[int, float]]:
    """Pixels whose p-value passes in their stratum, and the p-value of each stratum's threshold.

    In the bulk the threshold is `bulk_p`; in the hot strata it controls the false-discovery rate,
    never above `highest_p`. A hot stratum never judges more strictly than the bulk.
    """
    guilty = np.zeros(p.size, np.bool_)
    thresholds = {}
    for label, members in by_stratum(stratum).items():
        if label == 0:
            threshold = bulk_p
        else:
            threshold = max(bulk_p, min(highest_p, benjamini_hochberg(p[members], rate)))
        thresholds[label] = threshold
        guilty[members] = p[members] <= threshold
    return guilty, thresholds


def fisher(p: Doubles, q: Doubles) -> Doubles:
    """Joint p-value of two independent p-values (Fisher 1932)."""
    product = np.maximum(p * q, 1e-300)
    return np.asarray(product * (1 - np.log(product)), np.float64)


def factor_of_joint(p: float) -> float:
    """p-value that one of two must pass for `fisher` of both to pass another."""
    return math.exp(-tails.chi2_at(p, 4) / 4)


def shares_in_time(groups: Sequence[tuple[int, float, float]]) -> list[float]:
    """Shares of the false alarms for the test in time of each group, and last for that of all frames.

    A pixel that jumps between two dark currents shows it where the variance of its charges, which grows
    with the square of the exposure, is large beside the noise, and where there are many frames. What is
    noisy by itself shows in all frames.

    Parameters
    ----------
    groups : sequence of (frames, exposure time in s, variance of the noise of one frame in e-²)
    """
    tells = [(n - 1) * exptime_s**2 / max(variance, 1e-6) for n, exptime_s, variance in groups]
    total = sum(tells)
    if total == 0:
        return [0.0 for _ in tells] + [1.0]
    of_sum = _SHARE_OF_SUM if len(tells) > 1 else 0.0
    return [(1 - of_sum) * told / total for told in tells] + [of_sum]


def bulk_p(expected_false: float, n_pixels: int, n_tests: int) -> float:
    """p-value at which the bulk yields so many false flags over all its tests."""
    return min(0.5, expected_false / max(1, n_pixels) / n_tests)


def gaussian_z(p: float) -> float:
    """One-sided Gaussian equivalent of a p-value; 0 for p at or above one half."""
    return max(0.0, tails.normal_at(p)) if p > 0 else math.inf


def bad_columns(
    bad: NDArray[np.int64], column_z: Doubles, bands: Sequence[tuple[int, int]]
) -> list[tuple[slice, int]]:
    """Parts of columns that are bad as a whole, as (rows, column).

    A run of at least 50 bad pixels with gaps under 30 rows (as Rubin's cp_pipe joins them), and
    stretches of two bands and more along which the mean z-score passes ±1 throughout: each of their
    pixels departs by less than its own noise, all of them together beyond doubt.

    Parameters
    ----------
    bad : (n,) int64
        Flat indices of the bad pixels, rising.
    column_z : (bands, nx)
        Mean z-scores along the columns of each band.
    bands : sequence of (first row, row after the last)
    """
    found = []
    nx = column_z.shape[1]
    y, x = np.divmod(bad, nx)
    for column in np.flatnonzero(np.bincount(x, minlength=nx) >= _FEWEST_IN_COLUMN).tolist():
        rows = y[x == column]
        runs = np.split(rows, np.flatnonzero(np.diff(rows) > _BRIDGED_ROWS) + 1)
        long = [run for run in runs if run.size >= _FEWEST_IN_COLUMN]
        found += [(slice(int(run[0]), int(run[-1]) + 1), column) for run in long]
    departs = column_z - np.median(column_z, axis=1, keepdims=True)
    usual = 1.4826 * np.median(np.abs(departs))
    for sign in (1, -1):
        strong = sign * departs > max(1.0, 6 * float(usual))
        joined = np.zeros_like(strong)
        joined[1:] |= strong[1:] & strong[:-1]
        joined[:-1] |= strong[1:] & strong[:-1]
        for band, column in np.argwhere(joined).tolist():
            found.append((slice(*bands[band]), column))
    return found
