"""Frames of one exposure time become one: a mean that cosmic rays cannot spoil."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_TILE_BYTES = 256 * 1024
"""What a tile of all frames may take, so that sorting it stays within a core's cache."""
_SORTED_WHOLE = 32
"""Up to so many frames are sorted whole; more in chunks, whose cost grows in proportion to the frames."""
_CHUNK = 16
_NARROW = 63
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


def combine(
    stack: NDArray[Any],
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
    stack : (n, ny, nx) uint16 or float32 [ADU]
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
    n, *shape = stack.shape
    flat = stack.reshape(n, -1)
    base = np.broadcast_to(np.asarray(base_adu, np.float32), shape).reshape(-1)
    size = flat.shape[1]
    mean = np.empty(size, np.float32)
    chi2 = np.zeros(size, np.float32)
    n_rejected = np.zeros(size, np.uint16)
    n_saturated = np.zeros(size, np.uint16)
    whole = _whole_pedestals(scale, stack.dtype, noise)
    width = max(1024, _TILE_BYTES // (n * (2 if whole is not None else 4)))
    for start in range(0, size, width):
        tile = slice(start, min(start + width, size))
        raw = flat[:, tile]
        _count_saturated(raw, saturation_adu, n_saturated[tile])
        if whole is not None:
            rows, rest_adu = _shifted(raw, whole, scale.pedestals_adu)
        else:
            rows, rest_adu = _scaled(raw, scale, base[tile])
        _combine_tile(
            rows,
            rest_adu,
            noise,
            least_adu,
            base[tile] if charged else None,
            rejection,
            n_combined,
            mean=mean[tile],
            chi2=chi2[tile],
            n_rejected=n_rejected[tile],
        )
    n_used = np.subtract(np.uint16(n), n_rejected)
    return Combined(
        mean_adu=mean.reshape(shape),
        n_used=n_used.reshape(shape),
        n_rejected=n_rejected.reshape(shape),
        n_saturated=n_saturated.reshape(shape),
        chi2=chi2.reshape(shape),
    )


def _whole_pedestals(scale: FrameScale, dtype: np.dtype[Any], noise: NoiseModel) -> NDArray[np.uint16] | None:
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


def _count_saturated(raw: NDArray[Any], saturation_adu: float, out: NDArray[np.uint16]) -> None:
    peak = raw.max(axis=0)
    touched = np.flatnonzero(~(peak < saturation_adu))
    if touched.size:
        out[touched] = (~(raw[:, touched] < saturation_adu)).sum(axis=0, dtype=np.uint16)


def _shifted(
    raw: NDArray[Any], whole: NDArray[np.uint16], pedestals_adu: NDArray[np.float64]
) -> tuple[list[NDArray[Any]], float]:
    rows = []
    for row, shift in zip(raw, whole, strict=True):
        if shift:
            row = np.minimum(row, np.uint16(65535 - int(shift)))  # a sum past 65535 would wrap to zero
            row += shift
        rows.append(row)
    return rows, -float(np.mean(pedestals_adu + whole))


def _scaled(raw: NDArray[Any], scale: FrameScale, base: Floats) -> tuple[list[NDArray[Any]], float]:
    rows = []
    for i, values in enumerate(raw):
        row = values.astype(np.float32)
        row -= np.float32(scale.pedestals_adu[i])
        if scale.factors is not None:
            row -= base
            row *= np.float32(1 / scale.factors[i])
            row += base
        np.nan_to_num(row, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        rows.append(row)
    return rows, 0.0


def _combine_tile(
    rows: list[NDArray[Any]],
    rest_adu: float,
    noise: NoiseModel,
    least_adu: float,
    base: Floats | None,
    rejection: Rejection,
    n_combined: int,
    *,
    mean: Floats,
    chi2: Floats,
    n_rejected: NDArray[np.uint16],
) -> None:
    n = len(rows)
    most = min(rejection.most, (n + 1) // 2 - 1 if n > 2 else n - 1)
    median, highest, lowest = _order(rows, most + 1)
    if n == 1:
        np.add(median, np.float32(rest_adu), out=mean)
        return
    near, total, squares = _sums(rows, median, highest[0], lowest)

    # two frames know no median: the lower one is the robust centre
    centre = (lowest.astype(np.float32) if n == 2 else median) + np.float32(rest_adu)
    variance = _variance(noise, centre, base, least_adu)
    variance *= np.float32(1 / n_combined)
    reach = np.sqrt(variance, out=variance)
    reach *= np.float32(rejection.sigma)
    reach += centre - np.float32(rest_adu)
    hit = np.flatnonzero(highest[0] > reach)
    used = np.full(median.size, n, np.float32)
    if hit.size:
        tops = np.stack([row[hit].astype(np.float32) for row in highest])
        above = tops > reach[hit]
        above &= above.sum(axis=0) <= most
        count = above.sum(axis=0)
        n_rejected[hit] = count
        used[hit] -= count
        _sum_afresh(hit[count > 0], rows, reach, near, total, squares)
    total /= used
    np.add(near, total, out=mean)
    mean += np.float32(rest_adu)
    total *= total
    total *= used
    squares -= total
    np.maximum(squares, np.float32(0), out=squares)
    variance = _variance(noise, mean, base, least_adu)
    np.divide(squares, variance, out=chi2)
    if n_combined > 1:
        chi2 *= np.float32(n_combined)


def _variance(noise: NoiseModel, level: Floats, base: Floats | None, least_adu: float) -> Floats:
    if base is None:
        return noise.variance_adu2(np.zeros_like(level), 0.0)
    return noise.variance_adu2(level - base, least_adu)


def _sums(
    rows: Sequence[NDArray[Any]], median: Floats, highest: NDArray[Any], lowest: NDArray[Any]
) -> tuple[Floats, Floats, Floats]:
    """(near, Σ, Σ²) of the deviations from a number near the median.

    Counts that lie close together are summed as 16-bit integers, several times as fast as floats and
    exact, as floats are too for such small numbers: the result does not depend on the way.
    """
    total = np.zeros(median.size, np.float32)
    squares = np.zeros(median.size, np.float32)
    if rows[0].dtype != np.uint16:
        _add_floats(rows, median, total, squares)
        return median, total, squares
    near = np.floor(median)
    wide = np.flatnonzero(highest - lowest > np.uint16(_NARROW))
    if wide.size > _FEW_WIDE * median.size:
        _add_floats(rows, near, total, squares)
        return near, total, squares
    counts = near.astype(np.uint16)
    deviation = np.empty(median.size, np.int16)
    for i in range(0, len(rows), _CHUNK):
        some = np.zeros(median.size, np.int16)
        some_squares = np.zeros(median.size, np.uint16)
        for row in rows[i : i + _CHUNK]:
            np.subtract(row, counts, out=deviation.view(np.uint16))
            some += deviation
            deviation *= deviation
            some_squares += deviation.view(np.uint16)
        total += some
        squares += some_squares
    if wide.size:
        of_wide = np.zeros((2, wide.size), np.float32)
        _add_floats([row[wide] for row in rows], near[wide], *of_wide)
        total[wide], squares[wide] = of_wide
    return near, total, squares


def _add_floats(rows: Sequence[NDArray[Any]], near: Floats, total: Floats, squares: Floats) -> None:
    deviation = np.empty(near.size, np.float32)
    for row in rows:
        np.subtract(row, near, out=deviation)
        total += deviation
        deviation *= deviation
        squares += deviation


def _sum_afresh(
    hit: NDArray[np.intp],
    rows: Sequence[NDArray[Any]],
    reach: Floats,
    near: Floats,
    total: Floats,
    squares: Floats,
) -> None:
    """Sums without the hits, afresh: taking a hit's huge square off again loses the digits of the rest."""
    if not hit.size:
        return
    total[hit] = 0
    squares[hit] = 0
    # row by row: a sum along the stack would round differently for one pixel than for many
    for row in rows:
        value = row[hit].astype(np.float32)
        deviation = np.where(value > reach[hit], np.float32(0), value - near[hit])
        total[hit] += deviation
        squares[hit] += deviation * deviation


def _order(rows: Sequence[NDArray[Any]], top: int) -> tuple[Floats, list[NDArray[Any]], NDArray[Any]]:
    """Median, the `top` highest values, highest first, and the lowest of each column.

    Beyond `_SORTED_WHOLE` rows the median is that of the medians of chunks: as a centre for rejection
    it serves as well.
    """
    n = len(rows)
    if n <= _SORTED_WHOLE:
        half = n // 2
        middle = {half} if n % 2 else {half - 1, half}
        ordered = ranked(rows, middle | {0, *range(n - top, n)})
        return _middle(ordered), ordered[::-1][:top], ordered[0]
    medians: list[NDArray[Any]] = []
    highest: list[NDArray[Any]] = []
    lowest: list[NDArray[Any]] = []
    for i in range(0, n, _CHUNK):
        chunk = rows[i : i + _CHUNK]
        median, tops, low = _order(chunk, min(top, len(chunk)))
        medians.append(median)
        highest += tops
        lowest.append(low)
    return _order(medians, 1)[0], _top(highest, top), functools.reduce(np.minimum, lowest)


def _top(rows: list[NDArray[Any]], top: int) -> list[NDArray[Any]]:
    while len(rows) > _SORTED_WHOLE:
        rows = [row for i in range(0, len(rows), _CHUNK) for row in _top(rows[i : i + _CHUNK], top)]
    n, top = len(rows), min(top, len(rows))
    return ranked(rows, set(range(n - top, n)))[::-1][:top]


def _middle(rows: Sequence[NDArray[Any]]) -> Floats:
    half = len(rows) // 2
    middle: Floats = rows[half].astype(np.float32)
    if len(rows) % 2 == 0:
        middle += rows[half - 1]
        middle *= np.float32(0.5)
    return middle


def ranked(rows: Sequence[NDArray[Any]], ranks: Collection[int]) -> list[NDArray[Any]]:
    """Sort each column of equally long rows ascending as far as some ranks need it.

    Batcher's odd-even merge sort: its comparisons do not depend on the data, so each is one vector
    operation (K. Batcher 1968, AFIPS 32, 307). The rows of other ranks hold nothing of use.
    """
    found = [row.copy() for row in rows]
    spare = np.empty_like(found[0])
    for low, high, lower, higher in _selection(len(found), frozenset(ranks)):
        a, b = found[low], found[high]
        if lower and higher:
            np.minimum(a, b, out=spare)
            np.maximum(a, b, out=b)
            found[low], spare = spare, a
        elif lower:
            np.minimum(a, b, out=a)
        else:
            np.maximum(a, b, out=b)
    return found


def sort_rows(rows: list[NDArray[Any]]) -> None:
    """Sort each column of equally long rows ascending, in place."""
    rows[:] = ranked(rows, range(len(rows)))


@functools.cache
def _selection(n: int, ranks: frozenset[int]) -> tuple[tuple[int, int, bool, bool], ...]:
    """(low, high, whether the lower and the higher value are needed) for the ranks that are."""
    needed = set(ranks)
    steps = []
    for low, high in reversed(sorting_network(n)):
        lower, higher = low in needed, high in needed
        if lower or higher:
            steps.append((low, high, lower, higher))
            needed |= {low, high}
    return tuple(reversed(steps))


@functools.cache
def sorting_network(n: int) -> tuple[tuple[int, int], ...]:
    """Pairs (low, high) of rows whose exchange in this order sorts n rows."""
    pairs: list[tuple[int, int]] = []
    p = 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                pairs.extend(
                    (i + j, i + j + k)
                    for i in range(min(k, n - j - k))
                    if (i + j) // (2 * p) == (i + j + k) // (2 * p)
                )
            k //= 2
        p *= 2
    return tuple(pairs)
