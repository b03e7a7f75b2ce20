"""The consistency limit: the dark current from which exposures of different length disagree."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

_FEWEST_PIXELS = 60
_WINDOW_DEX = 0.1
_STEP_DEX = 0.02
_CONFIDENCE_SD = 2.576
"""99 %"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Dark current above which a pixel's dark current depends on the exposure time."""

    e_per_s: float | None
    """as seen in the shorter exposure; None where there is no limit"""
    low_e_per_s: float | None = None
    high_e_per_s: float | None = None
    charge_e: float | None = None
    """the same as charge in the longer exposure: it is the charge that makes pixels fall behind"""
    exposures_s: tuple[float, float] | None = None
    """(shorter, longer)"""
    tolerance: float
    source: str
    """'given', 'automatic' or 'none'"""
    reason: str
    """one sentence"""


def no_limit(reason: str, tolerance: float, exposures_s: tuple[float, float] | None) -> Limit:
    """A limit that was not found, and the sentence that says why."""
    return Limit(e_per_s=None, exposures_s=exposures_s, tolerance=tolerance, source="none", reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class DepartureCurve:
    """Relative departure of the shorter exposure's dark current, against the longer one's."""

    rate_e_per_s: Doubles
    """dark current in the shorter exposure's scale"""
    median: Doubles
    low: Doubles
    high: Doubles
    fit: Doubles
    """isotonic regression of the medians"""

    @classmethod
    def empty(cls) -> DepartureCurve:
        nothing = np.zeros(0)
        return cls(rate_e_per_s=nothing, median=nothing, low=nothing, high=nothing, fit=nothing)


def departure_curve(short: Doubles, long: Doubles, least_e_per_s: float) -> DepartureCurve:
    """Take the median departure of pixels in windows of the longer exposure's dark current.

    Sorting by the noisier shorter exposure would bias the departures. `short` and `long` are (n,)
    e-/s above the bulk, `long` already in the shorter exposure's temperature; pixels below
    `least_e_per_s` are too noisy to serve. Windows overlap; each is a tenth of a dex wide, or as wide
    as it takes to hold enough pixels. Intervals are 99 % order-statistic intervals.
    """
    order = np.flatnonzero(long >= least_e_per_s)
    order = order[np.argsort(long[order], kind="stable")]
    n = order.size
    if n < _FEWEST_PIXELS:
        return DepartureCurve.empty()
    half = min(50, max(20, n // 8))
    log_rate = np.log(long[order])
    departure = (short[order] - long[order]) / long[order]
    dex = math.log(10)
    rows = []
    for centre in np.arange(log_rate[half], log_rate[n - half], _STEP_DEX * dex):
        middle = int(np.searchsorted(log_rate, centre))
        start = min(int(np.searchsorted(log_rate, centre - _WINDOW_DEX / 2 * dex)), middle - half)
        stop = max(int(np.searchsorted(log_rate, centre + _WINDOW_DEX / 2 * dex)), middle + half)
        if stop > n:
            break
        part = np.sort(departure[max(start, 0) : stop])
        reach = 0.5 * _CONFIDENCE_SD * math.sqrt(part.size)
        low = part[max(0, math.floor(part.size / 2 - reach))]
        high = part[min(part.size - 1, math.ceil(part.size / 2 + reach))]
        at = math.exp(float(log_rate[max(start, 0) : stop].mean()))
        rows.append((at, float(np.median(part)), float(low), float(high)))
    if not rows:
        return DepartureCurve.empty()
    at_, median, lows, highs = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    weight = 1 / np.maximum(highs - lows, 1e-6) ** 2
    return DepartureCurve(rate_e_per_s=at_, median=median, low=lows, high=highs, fit=isotonic(median, weight))


def isotonic(values: Doubles, weights: Doubles) -> Doubles:
    """Weighted least-squares fit that never falls, by pooling adjacent violators.

    Ayer and others 1955, Ann. Math. Stat. 26, 641.
    """
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        size = 1
        while blocks and blocks[-1][0] >= value:
            before, its_weight, its_size = blocks.pop()
            value = (before * its_weight + value * weight) / (its_weight + weight)
            weight += its_weight
            size += its_size
        blocks.append((value, weight, size))
    return np.repeat([b[0] for b in blocks], [b[2] for b in blocks])


def find_limit(
    short: Doubles,
    long: Doubles,
    *,
    least_e_per_s: float,
    tolerance: float,
    exposures_s: tuple[float, float],
    temperature_factor: float = 1.0,
) -> tuple[Limit, DepartureCurve]:
    """Find where the median departure crosses the tolerance, with its 99 % interval.

    `short` and `long` are (n,) dark currents above the bulk of unsaturated, stable pixels, in e-/s,
    `long` in the shorter exposure's temperature; `temperature_factor` brings it back to its own.
    """
    curve = departure_curve(short, long, least_e_per_s)
    if curve.fit.size < 3:
        return no_limit("Too few hot pixels to compare the exposures.", tolerance, exposures_s), curve
    weight = 1 / np.maximum(curve.high - curve.low, 1e-6) ** 2
    at = _crossing(curve.rate_e_per_s, curve.fit, tolerance)
    beyond = curve.rate_e_per_s >= (at or math.inf)
    # one bin that strays is no limit: what lies beyond must depart, and surely
    surely = float(np.sum(curve.low[beyond] > 0)) if at is not None else 0.0
    if at is None or surely < max(1.0, 0.5 * float(beyond.sum())):
        top = curve.rate_e_per_s[-1]
        reason = (
            f"The exposures agree within {tolerance:.0%} at every dark current up to {top:.3g} e-/s, "
            "as far as there are pixels enough to tell."
        )
        return no_limit(reason, tolerance, exposures_s), curve
    low = _crossing(curve.rate_e_per_s, isotonic(curve.high, weight), tolerance)
    high = _crossing(curve.rate_e_per_s, isotonic(curve.low, weight), tolerance)
    # the curve runs along the longer exposure's dark current; the limit applies to the shorter one's
    raise_ = 1 + tolerance
    limit = at * raise_
    short_s, long_s = exposures_s
    found = Limit(
        e_per_s=limit,
        low_e_per_s=None if low is None else low * raise_,
        high_e_per_s=None if high is None else high * raise_,
        charge_e=at * temperature_factor * long_s,
        exposures_s=exposures_s,
        tolerance=tolerance,
        source="automatic",
        reason=(
            f"Above {limit:.3g} e-/s the dark currents of the {short_s:g} s and {long_s:g} s exposures "
            f"depart from each other by more than {tolerance:.0%}."
        ),
    )
    return found, curve


def _crossing(rate: Doubles, fit: Doubles, tolerance: float) -> float | None:
    """Where a curve that never falls passes the tolerance, interpolated in log rate."""
    above = np.flatnonzero(fit > tolerance)
    if above.size == 0:
        return None
    i = int(above[0])
    if i == 0:
        return float(rate[0])
    x0, x1 = math.log(rate[i - 1]), math.log(rate[i])
    share = (tolerance - fit[i - 1]) / (fit[i] - fit[i - 1])
    return math.exp(x0 + float(share) * (x1 - x0))
