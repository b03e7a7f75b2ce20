"""Dark current in e-/s, and how far it depends on the exposure time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.science.combine import Floats

_TILE_PIXELS = 1 << 15
"""Pixels that are fitted at a time, so that all their numbers stay within a core's cache."""
_SYSTEMATIC = 0.003
"""relative error of the exposure times and of the converter's linearity"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """Dark charge of one exposure time, referred to the temperature of the longest; (ny, nx) arrays."""

    exptime_s: float
    charge_e: Floats
    exposures: Floats | float
    """number of exposures in the mean"""
    level_e: float
    """bulk charge of one exposure: no shot noise is believed smaller"""
    usable: NDArray[np.bool_]
    """False where saturated"""
    ratio: float = 1.0
    """rate of the group over that of the longest exposure; `charge_e` is divided by it already"""
    ratio_sigma: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A straight line through zero charge at zero time, per pixel; (ny, nx) float32 arrays."""

    rate_e_per_s: Floats
    """pooled dark current: independent of `z` where the line holds"""
    rate_sigma: Floats
    chi2: Floats
    """of the line, n_points - 1 degrees of freedom"""
    n_points: NDArray[np.uint8]
    """usable exposure times; the line is tested where there are two"""
    z: Floats
    """departure of the shortest usable exposure over its error: > 0 where dark current falls with time"""
    departure: Floats
    """largest difference of an exposure's dark current from the longest one's, relative to the latter"""


def fit_line(
    points: Sequence[Charge], floor_e2: float, offset_variance_e2: Floats | float, passes: int = 2
) -> Line:
    """Fit rate × time to the charges of each pixel, all variances as they are if it is a line.

    What the exposures of a pixel share besides charge (the noise of the master bias, or the fixed
    pattern where there are no bias frames) enters as an intercept known to be 0 within
    `offset_variance_e2`: the same as a generalised least-squares fit with that covariance between all
    points. With two exposure times this is the two-exposure difference over its full error under the
    null hypothesis, and the pooled rate has no covariance with the difference.
    """
    by_time = sorted(points, key=lambda point: point.exptime_s)
    shape = by_time[0].charge_e.shape
    prior = np.reciprocal(np.maximum(np.asarray(offset_variance_e2, np.float32), np.float32(1e-4)))
    usual = prior.max()
    prior = np.broadcast_to(prior, shape).reshape(-1)
    flat = [_flat(point, floor_e2) for point in by_time]
    with np.errstate(divide="ignore", invalid="ignore"):
        line = _fitted(flat, prior, usual, passes)
    return Line(**{f.name: getattr(line, f.name).reshape(shape) for f in fields(Line)})


def _fitted(points: Sequence[_Point], prior: Floats, usual: np.float32, passes: int) -> Line:
    """Fit the bulk by one set of weights, and each pixel that is none of it by its own."""
    size = prior.size
    of_bulk = _bulk_fit(points, float(usual))
    line = _empty_line(size)
    others = []
    for start in range(0, size, _TILE_PIXELS):
        tile = slice(start, start + _TILE_PIXELS)
        cut = [point.cut(tile) for point in points]
        is_bulk = _is_bulk(cut)
        is_bulk &= prior[tile] == usual
        _fit_bulk(cut, of_bulk, line, tile)
        others.append(np.flatnonzero(~is_bulk) + start)
    where = np.concatenate(others)
    own = _empty_line(where.size)
    for start in range(0, where.size, _TILE_PIXELS):
        tile = slice(start, start + _TILE_PIXELS)
        _fit([point.cut(where[tile]) for point in points], prior[where[tile]], passes, own, tile)
    for f in fields(Line):
        getattr(line, f.name)[where] = getattr(own, f.name)
    return line


def _empty_line(size: int) -> Line:
    kinds: dict[str, Any] = {f.name: np.float32 for f in fields(Line)} | {"n_points": np.uint8}
    return Line(**{name: np.empty(size, kind) for name, kind in kinds.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """One exposure time of some pixels, with all that does not change from pass to pass."""

    t: np.float32
    charge: Floats
    rate: Floats
    per_exposure: Floats
    """one over the number of exposures"""
    per_full: np.float32
    """the same of a pixel that lost none"""
    level: np.float32
    surely: np.float32
    """charge from which a pixel's own shot noise counts"""
    floor: np.float32
    per_ratio: np.float32
    relative: np.float32
    usable: NDArray[np.bool_] | None
    """None where all are"""

    def cut(self, tile: slice | NDArray[np.intp]) -> _Point:
        charge, usable = self.charge[tile], self.usable
        if usable is not None:
            usable = None if usable[tile].all() else usable[tile]
        return replace(
            self,
            charge=charge,
            rate=charge * (1 / self.t),
            per_exposure=self.per_exposure[tile],
            usable=usable,
        )

    def variance(self, rate: Floats) -> Floats:
        expected = rate * self.t
        # a maximum of level and noisy expectation would be too large on average
        expected *= expected > self.surely
        np.clip(expected, self.level, None, out=expected)
        variance: Floats = expected * self.per_ratio
        variance += self.floor
        variance *= self.per_exposure
        expected *= expected
        expected *= self.relative
        variance += expected
        return variance

    @property
    def bulk_variance(self) -> float:
        """Of a pixel of the bulk that lost no exposure."""
        level = float(self.level)
        shot = (level * float(self.per_ratio) + float(self.floor)) * float(self.per_full)
        return shot + level * level * float(self.relative)

    def weight(self, variance: Floats) -> Floats:
        weight: Floats = np.reciprocal(variance)
        return weight if self.usable is None else weight * self.usable

    def residual(self, intercept: Floats, rate: Floats) -> Floats:
        residual = rate * self.t
        residual += intercept
        np.subtract(self.charge, residual, out=residual)
        return residual


def _flat(point: Charge, floor_e2: float) -> _Point:
    exposures = np.asarray(point.exposures, np.float32)
    full = float(exposures.max())
    noise = math.sqrt((floor_e2 + point.level_e) / full)
    return _Point(
        t=np.float32(point.exptime_s),
        charge=point.charge_e.reshape(-1),
        rate=np.empty(0, np.float32),
        per_exposure=np.broadcast_to(np.reciprocal(exposures), point.charge_e.shape).reshape(-1),
        per_full=np.reciprocal(np.float32(full)),
        level=np.float32(point.level_e),
        surely=np.float32(point.level_e + 3 * noise),
        floor=np.float32(floor_e2 / point.ratio**2),
        per_ratio=np.float32(1 / point.ratio),
        relative=np.float32(_SYSTEMATIC**2 + point.ratio_sigma**2),
        usable=point.usable.reshape(-1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _BulkFit:
    """Fit of pixels whose variances are those of the bulk: linear in their charges, one factor for each."""

    rate: tuple[np.float32, ...]
    rate_sigma: np.float32
    intercept: tuple[np.float32, ...]
    z: tuple[np.float32, ...]
    prior: np.float32
    weights: tuple[np.float32, ...]


def _bulk_fit(points: Sequence[_Point], prior: float) -> _BulkFit:
    """What `_fit` does, for the variances that it finds in the bulk."""
    t = np.array([point.t for point in points], np.float64)
    v = np.array([point.bulk_variance for point in points])
    w = 1 / v
    s, sx, sxx = prior + w.sum(), w @ t, w @ (t * t)
    inverse = 1 / (s * sxx - sx * sx)
    rate, intercept = inverse * w * (s * t - sx), inverse * w * (sxx - sx * t)
    of_first = np.eye(t.size)[0] - t[0] * rate - intercept
    left = v[0] - inverse * (sxx - 2 * t[0] * sx + t[0] ** 2 * s)
    return _BulkFit(
        rate=_singles(rate),
        rate_sigma=np.float32(math.sqrt(s * inverse)),
        intercept=_singles(intercept),
        z=_singles(of_first / math.sqrt(max(left, 1e-6))),
        prior=np.float32(prior),
        weights=_singles(w),
    )


def _singles(numbers: NDArray[np.float64]) -> tuple[np.float32, ...]:
    return tuple(numbers.astype(np.float32))


def _is_bulk(points: Sequence[_Point]) -> NDArray[np.bool_]:
    """Pixels that lost no exposure, and whose own charge counts in no variance."""
    highest = min(point.surely / point.t for point in points)
    found: NDArray[np.bool_] = points[-1].rate <= highest
    for point in points:
        found &= point.per_exposure == point.per_full
        if point.usable is not None:
            found &= point.usable
    return found


def _fit_bulk(points: Sequence[_Point], of_bulk: _BulkFit, line: Line, tile: slice) -> None:
    rate, z, chi2 = line.rate_e_per_s[tile], line.z[tile], line.chi2[tile]
    _weighted_sum(points, of_bulk.rate, rate)
    _weighted_sum(points, of_bulk.z, z)
    line.rate_sigma[tile] = of_bulk.rate_sigma
    line.n_points[tile] = len(points)
    if len(points) == 1:
        z[...] = 0
    if len(points) <= 2:
        # one degree of freedom, and none
        np.multiply(z, z, out=chi2)
    else:
        intercept = _weighted_sum(points, of_bulk.intercept, np.empty_like(rate))
        np.multiply(intercept, intercept, out=chi2)
        chi2 *= of_bulk.prior
        for point, weight in zip(points, of_bulk.weights, strict=True):
            residual = point.residual(intercept, rate)
            residual *= residual
            residual *= weight
            chi2 += residual
    line.departure[tile] = _departure(points, points[-1].rate)


def _weighted_sum(points: Sequence[_Point], factors: Sequence[np.float32], out: Floats) -> Floats:
    np.multiply(points[0].charge, factors[0], out=out)
    for point, factor in zip(points[1:], factors[1:], strict=True):
        out += point.charge * factor
    return out


def _fit(points: Sequence[_Point], prior: Floats, passes: int, line: Line, tile: slice) -> None:
    counts = line.n_points[tile]
    counts[...] = 0
    for point in points:
        counts += np.uint8(1) if point.usable is None else point.usable
    longest = _longest(points)
    rate = longest
    for _ in range(passes):
        variances = [point.variance(rate) for point in points]
        weights = [point.weight(v) for point, v in zip(points, variances, strict=True)]
        s = prior + weights[0]
        sx = weights[0] * points[0].t
        sxx = sx * points[0].t
        sy = weights[0] * points[0].charge
        sxy = sy * points[0].t
        for point, w in zip(points[1:], weights[1:], strict=True):
            s += w
            wt = w * point.t
            sx += wt
            sxx += wt * point.t
            wt *= point.charge
            sxy += wt
            sy += w * point.charge
        inverse = s * sxx
        inverse -= sx * sx
        known = inverse > 0
        np.reciprocal(inverse, out=inverse)
        rate = _solved((s, sxy, sx, sy), inverse, known, rate)
    intercept = _solved((sxx, sy, sx, sxy), inverse, known, np.float32(0))
    variance = s * inverse
    if not known.all():
        variance = np.where(known, variance, np.float32(np.inf))
    line.rate_e_per_s[tile] = rate
    np.sqrt(variance, out=line.rate_sigma[tile])

    chi2, z = line.chi2[tile], line.z[tile]
    np.multiply(intercept, intercept, out=chi2)
    chi2 *= prior
    residuals = [point.residual(intercept, rate) for point in points]
    for residual, w in zip(residuals, weights, strict=True):
        chi2 += w * residual * residual
    todo: NDArray[np.bool_] | None = None
    for point, v, residual in zip(points, variances, residuals, strict=True):
        # variance of the residual: the point's own less that of the fit there
        of_fit = sx * (-2 * point.t)
        of_fit += sxx
        of_fit += s * (point.t * point.t)
        of_fit *= inverse
        np.subtract(v, of_fit, out=v)
        np.clip(v, np.float32(1e-6), None, out=v)
        residual /= np.sqrt(v, out=v)
        if todo is None:
            z[...] = residual
        else:
            np.copyto(z, residual, where=todo)
        if point.usable is None:
            break
        todo = ~point.usable if todo is None else todo & ~point.usable
    z[~((counts > 1) & np.isfinite(z))] = 0
    line.departure[tile] = _departure(points, longest)


def _solved(
    of: tuple[Floats, Floats, Floats, Floats],
    inverse: Floats,
    known: NDArray[np.bool_],
    otherwise: Floats | np.float32,
) -> Floats:
    a, b, c, d = of
    found: Floats = a * b
    found -= c * d
    found *= inverse
    return found if known.all() else np.where(known, found, otherwise)


def _longest(points: Sequence[_Point]) -> Floats:
    """Rate in each pixel's longest usable exposure, 0 where none is."""
    rate = np.zeros_like(points[0].rate) if points[-1].usable is not None else points[-1].rate
    for point in points if points[-1].usable is not None else ():
        rate = point.rate if point.usable is None else np.where(point.usable, point.rate, rate)
    return rate


def _departure(points: Sequence[_Point], longest: Floats) -> Floats:
    most: Floats | None = None
    for point in points:
        if point.usable is None and point.rate is longest:
            continue
        difference = point.rate - longest
        if point.usable is not None:
            difference *= point.usable
        larger = most is not None and np.abs(difference) > np.abs(most)
        most = difference if most is None else np.where(larger, difference, most)
    if most is None:
        return np.zeros_like(longest)
    most /= np.abs(longest)
    if np.isnan(most).any():
        most[np.isnan(most)] = 0
    return most
