"""Exposures compared in plain NumPy with whole arrays: an oracle for tests, a peer for benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.science.combine import Floats
from hotpix_registry.science.current import Charge, Line

_SYSTEMATIC = 0.003


def fit_line(
    points: Sequence[Charge], floor_e2: float, offset_variance_e2: Floats | float, passes: int = 2
) -> Line:
    """The line of `hotpix_registry.science.current`, as one writes it down with whole arrays."""
    by_time = sorted(points, key=lambda point: point.exptime_s)
    times = [np.float32(point.exptime_s) for point in by_time]
    prior: Floats = np.reciprocal(np.maximum(np.asarray(offset_variance_e2, np.float32), np.float32(1e-4)))
    counts = np.zeros(by_time[0].charge_e.shape, np.uint8)
    rate = np.zeros(by_time[0].charge_e.shape, np.float32)
    for point, t in zip(by_time, times, strict=True):  # ends with the longest usable exposure's rate
        counts += point.usable
        rate = np.where(point.usable, point.charge_e / t, rate)

    bulk = prior == prior.max()
    for point, t in zip(by_time, times, strict=True):
        bulk = bulk & point.usable & (point.exposures == np.max(point.exposures))
        bulk = bulk & (rate * t <= _surely(point, floor_e2))

    intercept = np.zeros_like(rate)
    weights: list[Floats] = []
    for _ in range(passes):
        weights = [_weight(point, t, rate, bulk, floor_e2) for point, t in zip(by_time, times, strict=True)]
        s = np.broadcast_to(prior, rate.shape).copy()
        sx, sxx, sy, sxy = (np.zeros_like(rate) for _ in range(4))
        for point, t, w in zip(by_time, times, weights, strict=True):
            wy = w * point.charge_e
            s += w
            sx += w * t
            sxx += w * (t * t)
            sy += wy
            sxy += wy * t
        det = s * sxx - sx * sx
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = np.where(det > 0, (s * sxy - sx * sy) / det, rate)
            intercept = np.where(det > 0, (sxx * sy - sx * sxy) / det, 0)

    chi2 = intercept * intercept * prior
    for point, t, w in zip(by_time, times, weights, strict=True):
        residual = point.charge_e - intercept - rate * t
        chi2 += w * residual * residual
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = np.sqrt(np.where(det > 0, s / det, np.inf))
        z = _studentised(by_time, times, weights, rate, intercept, s, sx, sxx, det)
    z[counts < 2] = 0
    return Line(
        rate_e_per_s=rate,
        rate_sigma=sigma,
        chi2=chi2,
        n_points=counts,
        z=z,
        departure=_departure(by_time),
    )


def _surely(point: Charge, floor_e2: float) -> np.float32:
    """Charge from which a pixel's own shot noise counts: a maximum would be too large on average."""
    return np.float32(point.level_e + 3 * np.sqrt((floor_e2 + point.level_e) / np.max(point.exposures)))


def _weight(point: Charge, t: np.float32, rate: Floats, bulk: NDArray[np.bool_], floor_e2: float) -> Floats:
    level = np.float32(point.level_e)
    expected = np.where(~bulk & (rate * t > _surely(point, floor_e2)), rate * t, level)
    expected = np.maximum(expected, level)
    variance = (
        expected * np.float32(1 / point.ratio) + np.float32(floor_e2 / point.ratio**2)
    ) / point.exposures
    variance += np.float32(_SYSTEMATIC**2 + point.ratio_sigma**2) * np.square(expected)
    weight: Floats = np.where(point.usable, 1 / variance, np.float32(0))
    return weight


def _studentised(
    by_time: Sequence[Charge],
    times: Sequence[np.float32],
    weights: Sequence[Floats],
    rate: Floats,
    intercept: Floats,
    s: Floats,
    sx: Floats,
    sxx: Floats,
    det: Floats,
) -> Floats:
    """Residual of the shortest usable exposure over its standard deviation."""
    z = np.zeros_like(rate)
    done = np.zeros(rate.shape, np.bool_)
    for point, t, w in zip(by_time, times, weights, strict=True):
        of_fit = (sxx - 2 * t * sx + t * t * s) / det
        left = 1 / w - of_fit
        value = (point.charge_e - intercept - rate * t) / np.sqrt(np.maximum(left, np.float32(1e-6)))
        np.copyto(z, value, where=point.usable & ~done)
        done |= point.usable
    np.nan_to_num(z, copy=False, nan=0.0)
    return z


def _departure(by_time: Sequence[Charge]) -> Floats:
    shape = by_time[0].charge_e.shape
    reference = np.zeros(shape, np.float32)
    most = np.zeros(shape, np.float32)
    for point in by_time:
        reference = np.where(point.usable, point.charge_e / np.float32(point.exptime_s), reference)
    for point in by_time:
        difference = point.charge_e / np.float32(point.exptime_s) - reference
        difference[~point.usable] = 0
        np.copyto(most, difference, where=np.abs(difference) > np.abs(most))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = most / np.abs(reference)
    departure: Floats = np.nan_to_num(relative, copy=False, nan=0.0, posinf=np.inf, neginf=-np.inf)
    return departure
