"""Frames of one exposure time become one: a mean that cosmic rays cannot spoil."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_TILE_PIXELS = 30 << 10
"""Pixels that are combined at a time: a chunk of their frames stays near a core, and calls are few.

Their floats take less than the 128 KiB from which glibc asks the system anew for each array."""
_CHUNK = 8
_NARROW = 90
"""Counts within which the squares of a chunk's deviations add up to less than 2**16."""
_FEW_WIDE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseModel:
    """Variance of a pixel in one frame, from gain, read noise and the steps of the converter."""

    gain_e_per_adu: float
    read_noise_e: float
    adc_step_adu: float = 1.0

    @property
    def floor_e2(self) -> float:
        """Variance without charge, read noise and quantisation, in e-²."""
        return self.read_noise_e**2 + (self.gain_e_per_adu * self.adc_step_adu) ** 2 / 12

    def variance_adu2(self, level_adu: Floats, least_adu: float) -> Floats:
        """Variance of one frame at a level of dark charge, which counts as `least_adu` at the least."""
        variance = np.maximum(level_adu, np.float32(least_adu))
        variance *= np.float32(1 / self.gain_e_per_adu)
        variance += np.float32(self.floor_e2 / self.gain_e_per_adu**2)
        return variance


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameScale:
    """What is taken off each frame before frames are compared: pedestal first, then the rate factor."""

    pedestals_adu: NDArray[np.float64]
    factors: NDArray[np.float64] | None = None
    """dark rate of each frame relative to the group's; None where all are one"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """When a value counts as a cosmic-ray hit, and how many hits a pixel may have had."""

    sigma: float = 6.0
    most: int = 2
    """a pixel with more hits keeps all its values: it is the pixel that is unstable"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Combined:
    """Frames of one exposure time, combined; all arrays of one shape, (ny, nx) or flat."""

    mean_adu: Floats
    """above the pedestal"""
    n_used: NDArray[np.uint16]
    n_rejected: NDArray[np.uint16]
    n_saturated: NDArray[np.uint16]
    chi2: Floats
    """sum of squared deviations of the used frames over the model variance, n_used - 1 degrees of freedom"""


_Where = slice | NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stack:
    """Flat frames, and how their values become levels above `rest_adu`."""

    frames: list[NDArray[Any]]
    scale: FrameScale
    shifts: NDArray[np.uint16] | None
    """counts to add to each frame; None where levels are no whole numbers"""
    rest_adu: np.float32
    noise: NoiseModel
    base: Floats | None
    """None: no level is charge"""
    least_adu: float
    n_combined: int

    @property
    def n(self) -> int:
        return len(self.frames)

    def levels(self, where: NDArray[np.intp]) -> Floats:
        """Levels of chosen pixels in all frames, (n, n pixels)."""
        if self.shifts is None:
            return np.stack([self.level(i, where) for i in range(self.n)])
        values = np.stack([frame[where] for frame in self.frames])
        return _shifted(values, self.shifts[:, np.newaxis]).astype(np.float32)

    def level(self, i: int, where: _Where) -> Floats:
        """Levels in one frame; the same numbers in whatever company a pixel is asked for."""
        values = self.frames[i][where]
        if self.shifts is not None:
            return _shifted(values, self.shifts[i]).astype(np.float32)
        level: Floats = values.astype(np.float32)
        level -= np.float32(self.scale.pedestals_adu[i])
        if self.scale.factors is not None:
            base = np.float32(0) if self.base is None else self.base[where]
            level -= base
            level *= np.float32(1 / self.scale.factors[i])
            level += base
        if values.dtype != np.uint16:
            np.nan_to_num(level, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        return level

    def variance(self, level: Floats, where: _Where) -> Floats:
        if self.base is None:
            found = self.noise.variance_adu2(np.zeros_like(level), 0.0)
        else:
            found = self.noise.variance_adu2(level - self.base[where] + self.rest_adu, self.least_adu)
        if self.n_combined > 1:
            found *= np.float32(1 / self.n_combined)
        return found

    @property
    def least_deviation(self) -> np.float32:
        """Standard deviation of the model below which that of no level lies."""
        least_adu = 0.0 if self.base is None else self.least_adu
        variance = self.noise.variance_adu2(np.zeros(1, np.float32), least_adu)[0]
        deviation: np.float32 = np.sqrt(variance / np.float32(self.n_combined))
        return deviation

    def reach(self, centre: Floats, where: _Where, sigma: float) -> Floats:
        """Level that no value about this centre passes without a hit."""
        reach = self.variance(centre, where)
        np.sqrt(reach, out=reach)
        reach *= np.float32(sigma)
        reach += centre
        return reach


def combine(
    stack: Sequence[NDArray[Any]] | NDArray[Any],
    scale: FrameScale,
    noise: NoiseModel,
    *,
    saturation_adu: float,
    least_adu: float = 0.0,
    base_adu: Floats | float = 0.0,
    charged: bool = True,
    rejection: Rejection = Rejection(),
    n_combined: int = 1,
) -> Combined:
    """Average frames without the charge that cosmic rays added, by the noise model.

    A value is a hit when it exceeds the pixel's median by `rejection.sigma` standard deviations of
    the *model* at that median. The sample's own deviation is useless for few frames: none of N values
    can lie more than (N - 1) / sqrt(N) of it from their mean.

    Parameters
    ----------
    stack : n arrays (ny, nx), all uint16 or all float32 [ADU]
        Frames as read, pedestal included. A value that is not finite counts as saturated.
    saturation_adu : float
        Level as read from which a value is saturated; infinity for none.
    least_adu : float
        Bulk level of dark charge: no pixel's shot noise is believed smaller than its.
    base_adu : (ny, nx) float32, or float
        Level above the pedestal without charge: it has no shot noise and no rate factor.
    charged : bool
        False for bias frames: none of their level is charge.
    n_combined : int
        Exposures behind each frame of the stack, for master darks.

    Returns
    -------
    Combined
        Arrays of shape (ny, nx).
    """
    shape, size = stack[0].shape, stack[0].size
    shifts = _whole_shifts(scale, stack[0].dtype, noise)
    known = _Stack(
        frames=[frame.reshape(-1) for frame in stack],
        scale=scale,
        shifts=shifts,
        rest_adu=np.float32(0 if shifts is None else -np.mean(scale.pedestals_adu + shifts)),
        noise=noise,
        base=np.broadcast_to(np.asarray(base_adu, np.float32), shape).reshape(-1) if charged else None,
        least_adu=least_adu,
        n_combined=n_combined,
    )
    n = np.float32(known.n)
    found = Combined(
        mean_adu=np.empty(size, np.float32),
        n_used=np.full(size, known.n, np.uint16),
        n_rejected=np.zeros(size, np.uint16),
        n_saturated=np.zeros(size, np.uint16),
        chi2=np.zeros(size, np.float32),
    )
    least_reach = np.float32(0.999 * rejection.sigma) * known.least_deviation
    scratch = np.empty((_CHUNK + 4, min(size, _TILE_PIXELS)), np.uint16)
    high, doubtful = [], []
    for start in range(0, size, _TILE_PIXELS):
        tile = slice(start, min(start + _TILE_PIXELS, size))
        sums = _level_sums(known, tile) if shifts is None else _count_sums(known, tile, scratch)
        high.append(np.flatnonzero(~(sums.peak < saturation_adu)) + start)
        average, squares = _moments(sums.near, sums.total, sums.squares, n)
        np.add(average, known.rest_adu, out=found.mean_adu[tile])
        if known.n > 1:
            np.divide(squares, known.variance(average, tile), out=found.chi2[tile])
            # no median lies further from the mean than the standard deviation, nor a lower one of two
            squares *= np.float32(1.01 / n)
            average -= np.sqrt(squares, out=squares)
            average -= np.float32(0.01)
            high_up = np.flatnonzero(sums.top - average > least_reach)
            centre, where = average[high_up], high_up + start
            is_doubtful = sums.top[high_up] > known.reach(centre, where, rejection.sigma)
            doubtful.append(where[is_doubtful])
    _count_saturated(known, np.concatenate(high), saturation_adu, found)
    if doubtful:
        _reject(known, np.concatenate(doubtful), rejection, found)
    return Combined(**{f.name: getattr(found, f.name).reshape(shape) for f in fields(Combined)})


def _whole_shifts(scale: FrameScale, dtype: np.dtype[Any], noise: NoiseModel) -> NDArray[np.uint16] | None:
    """Counts to add to each frame so that pedestals agree to half a count; None if that will not do."""
    if dtype != np.uint16 or scale.factors is not None:
        return None
    shift = scale.pedestals_adu.max() - scale.pedestals_adu
    rounded = np.rint(shift)
    fine_enough = noise.floor_e2 > 16 * noise.gain_e_per_adu**2
    if rounded.max() > 20_000 or not (fine_enough or np.array_equal(shift, rounded)):
        return None
    counts: NDArray[np.uint16] = rounded.astype(np.uint16)
    return counts


def _count_saturated(stack: _Stack, where: NDArray[np.intp], saturation_adu: float, found: Combined) -> None:
    for frame in stack.frames:
        found.n_saturated[where] += ~(frame[where] < saturation_adu)


def _reject(stack: _Stack, where: NDArray[np.intp], rejection: Rejection, found: Combined) -> None:
    """Average anew those of some pixels that were hit, about a median that no hit moves."""
    n = stack.n
    most = min(rejection.most, (n + 1) // 2 - 1 if n > 2 else n - 1)
    levels = stack.levels(where)
    ordered = np.sort(levels, axis=0)
    # two frames know no median: the lower one is the robust centre
    centre = ordered[0] if n == 2 else (ordered[(n - 1) // 2] + ordered[n // 2]) * np.float32(0.5)
    hit = levels > stack.reach(centre, where, rejection.sigma)
    count = hit.sum(axis=0)
    struck = (count > 0) & (count <= most)
    where, centre, count = where[struck], centre[struck], count[struck]
    kept = np.where(hit[:, struck], centre, levels[:, struck])
    average, squares = _moments(centre, *_sums_about(centre, kept), (n - count).astype(np.float32))
    found.mean_adu[where] = average + stack.rest_adu
    found.chi2[where] = squares / stack.variance(average, where)
    found.n_rejected[where] = count
    found.n_used[where] -= found.n_rejected[where]


def _moments(near: Floats, total: Floats, squares: Floats, n: np.float32 | Floats) -> tuple[Floats, Floats]:
    """Mean, and sum of squared deviations from it, from the same about a number near it."""
    average = total / n
    about_average = squares - total * average
    np.maximum(about_average, np.float32(0), out=about_average)
    average += near
    return average, about_average


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sums:
    """What one pass over the frames of a tile tells of its pixels."""

    near: Floats
    """level in the first frame: about one of the values themselves no digits are lost"""
    total: Floats
    """of the deviations from it"""
    squares: Floats
    top: NDArray[Any]
    """highest level"""
    peak: NDArray[Any]
    """no value as read is higher"""


def _level_sums(stack: _Stack, tile: slice) -> _Sums:
    near = stack.level(0, tile)
    top, peak = near.copy(), stack.frames[0][tile].copy()
    total, squares = np.zeros_like(near), np.zeros_like(near)
    for i in range(1, stack.n):
        level = stack.level(i, tile)
        np.maximum(top, level, out=top)
        np.maximum(peak, stack.frames[i][tile], out=peak)
        _add_deviations(level, near, total, squares)
    return _Sums(near=near, total=total, squares=squares, top=top, peak=peak)


def _count_sums(stack: _Stack, tile: slice, scratch: NDArray[np.uint16]) -> _Sums:
    """Sum in 16-bit integers where counts lie close together: several times as fast as floats.

    They are exact, as floats are too for such small numbers: the result does not depend on the way.
    """
    assert stack.shifts is not None
    raw, shifts = [frame[tile] for frame in stack.frames], stack.shifts
    n, size = len(raw), raw[0].size
    near = _shifted(raw[0], shifts[0])
    # deviations count from the narrow ones' least: without a sign, one bound holds on both sides
    origin, highest, sums, of_chunk = scratch[-4:, :size]
    origin_shift: np.uint16 | None = None
    highest[...] = _NARROW
    total, squares = np.zeros((2, size), np.float32)
    for first in range(0, n, _CHUNK):
        chunk = scratch[: min(_CHUNK, n - first), :size]
        for i, counts in enumerate(chunk, first):
            if shifts[i] != origin_shift:
                origin_shift = shifts[i]
                np.subtract(near, origin_shift + np.uint16(_NARROW), out=origin)
            np.subtract(raw[i], origin, out=counts)
        np.maximum(highest, np.maximum.reduce(chunk, axis=0, out=of_chunk), out=highest)
        np.add.reduce(chunk, axis=0, dtype=np.uint16, out=sums)
        np.einsum("ij,ij->j", chunk, chunk, out=of_chunk)
        total += sums
        # Σ(d - a)² = Σd² - 2aΣd + na², whatever wraps round on the way
        sums *= np.uint16(2 * _NARROW)
        of_chunk -= sums
        of_chunk += np.uint16(len(chunk) * _NARROW**2)
        squares += of_chunk
    total -= np.float32(n * _NARROW)
    is_wide = highest > 2 * _NARROW
    # a deviation of about 65536 looks like none
    if near.max() > 65535 - _NARROW:
        is_wide |= near > 65535 - _NARROW
    if near.min() < _NARROW + shifts.max():
        is_wide |= np.maximum.reduce(raw) > 65535 - _NARROW - shifts.max()
    wide = np.flatnonzero(is_wide)
    if wide.size > _FEW_WIDE * size:
        return _level_sums(stack, tile)
    floats = near.astype(np.float32)
    top = floats + highest
    top -= np.float32(_NARROW)
    if wide.size:
        levels = stack.levels(wide + tile.start)
        top[wide] = np.maximum.reduce(levels)
        total[wide], squares[wide] = _sums_about(floats[wide], levels)
    return _Sums(near=floats, total=total, squares=squares, top=top, peak=top)


def _shifted(counts: NDArray[np.uint16], shift: np.uint16 | NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Counts with the pedestal brought to that of all, none above 65535."""
    shifted: NDArray[np.uint16] = counts + shift
    wrapped = shifted < shift
    if wrapped.any():
        shifted[wrapped] = 65535
    return shifted


def _sums_about(near: Floats, levels: Floats) -> tuple[Floats, Floats]:
    """Σ and Σ² of deviations, frame after frame: a plain sum would round a single pixel unlike many."""
    deviations = levels - near
    total = np.add.accumulate(deviations)[-1]
    deviations *= deviations
    return total, np.add.accumulate(deviations)[-1]


def _add_deviations(level: Floats, near: Floats, total: Floats, squares: Floats) -> None:
    """Add a frame; its levels become squares of deviations."""
    level -= near
    total += level
    level *= level
    squares += level
