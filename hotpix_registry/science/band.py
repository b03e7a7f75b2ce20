"""One band of rows: what its combined frames tell, and the pixels of it that any test might condemn."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.domain import Recipe
from hotpix_registry.science import tails
from hotpix_registry.science.combine import Combined, Floats
from hotpix_registry.science.current import Charge, Line, fit_line
from hotpix_registry.science.ranks import median
from hotpix_registry.science.strips import (
    block_medians,
    spread_blocks,
)
from hotpix_registry.science.survey import Survey

_SUSPECT_SIGMA = 3.0
_SUSPECT_P_OF_HIT = 0.01
"""of pixels that were hit by cosmic rays, which counts against them too"""
_WILD_CHI2 = 60.0
_STANDS_OUT = 3.0
"""standard deviations from which a pixel's bias level is no part of the pattern"""

HISTOGRAM_BITS = 20
"""Histograms of dark current drop so many bits of a float32: eight bins per factor of two."""
_HISTOGRAM_RANGE = (2.0**-10, 2.0**17)
_Z_MOST, _Z_PER_UNIT = 8, 20
Z_EDGES = np.linspace(-_Z_MOST, _Z_MOST, 2 * _Z_MOST * _Z_PER_UNIT + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspects:
    """Pixels that any test might condemn, and all hot ones; arrays are (n,).

    All others are normal pixels, of which only numbers are kept: memory does not grow with planes.
    """

    index: NDArray[np.int64]
    """into the flat image"""
    short: Floats
    """dark current in the pair's shorter exposure, e-/s, as the guide has it"""
    long: Floats
    short_excess: Floats
    """the same above the local bulk"""
    long_excess: Floats
    pooled: Floats
    """dark current from all exposures, referred to the longest one's temperature"""
    sigma: Floats
    nearby: Floats
    """median of the same in eight pixels of the row, six to twelve columns away"""
    chi2: Floats
    """of the line"""
    n_points: NDArray[np.uint8]
    z: Floats
    departure: Floats
    temporal_chi2: Floats
    """(n, groups and biases)"""
    temporal_dof: Floats
    n_rejected: NDArray[np.uint16]
    saturated: NDArray[np.bool_]
    """in any frame of any exposure"""
    comparable: NDArray[np.bool_]
    """saturated in neither exposure of the pair"""
    above_limit: NDArray[np.bool_]
    """above a given limit"""
    offset: NDArray[np.bool_]
    """an intercept in the bias frames"""
    still: NDArray[np.bool_]
    """varies from frame to frame by less than read noise allows"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandMeasure:
    """What is kept of one band besides its suspects."""

    bulk: Floats
    """(colours, blocks) medians of the pooled dark current"""
    column_z: Floats
    """(nx,) mean of the clipped z-scores along the band's columns"""
    short_counts: NDArray[np.int64]
    long_counts: NDArray[np.int64]
    z_counts: NDArray[np.int64]
    """of the bulk's z-scores"""
    excess_counts: NDArray[np.int64]
    """of the excess over the local bulk, over its error, on every eighth row"""
    n_hits: NDArray[np.int64]
    """cosmic-ray hits per group"""
    line_chi2: float
    """sum over the bulk's pixels that have all exposures"""
    line_pixels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the judgement of a band needs besides the survey."""

    survey: Survey
    recipe: Recipe
    pair: tuple[int, int]
    """positions of the shorter and the longer exposure that the guide's rule compares"""
    short_sigma_e_per_s: float
    """noise of the shorter exposure's dark current in the bulk"""
    still_chi2: float
    """χ² in time, for read noise alone, below which a pixel is stuck; negative: not tested"""
    offset_threshold_adu: float
    joint_p: float
    """p-value that one of two tests must pass for both together to condemn a pixel of the bulk"""
    colours: bool


def histogram_edges() -> NDArray[np.float64]:
    """Edges of the histograms of dark current, e-/s."""
    first, last = (int(np.float32(x).view(np.int32)) >> HISTOGRAM_BITS for x in _HISTOGRAM_RANGE)
    bits = (np.arange(first, last + 1, dtype=np.int32) << HISTOGRAM_BITS).astype(np.int32)
    return bits.view(np.float32).astype(np.float64)


def _histogram(rate: Floats) -> NDArray[np.int64]:
    """Count dark currents, (first, …, last bin, above): the bits of a float are its logarithm."""
    first = int(np.float32(_HISTOGRAM_RANGE[0]).view(np.int32)) >> HISTOGRAM_BITS
    n_bins = histogram_edges().size
    bins = rate.reshape(-1).view(np.int32) >> HISTOGRAM_BITS
    bins -= first - 1
    np.clip(bins, 0, n_bins, out=bins)
    return np.bincount(bins, minlength=n_bins + 1)[1:].astype(np.int64)


def _z_histogram(z: Floats, where: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Count z-scores between `Z_EDGES`; what lies beyond, and what is no number, is left out."""
    n_bins = Z_EDGES.size - 1
    bins = z * np.float32(_Z_PER_UNIT)
    bins += np.float32(_Z_MOST * _Z_PER_UNIT + 1)
    # the first and the last bin are for what lies beyond, the first for what is no number, too
    np.fmax(bins, np.float32(0), out=bins)
    np.fmin(bins, np.float32(n_bins + 1), out=bins)
    if where is not None:
        bins *= where
    return np.bincount(bins.reshape(-1).astype(np.intp), minlength=n_bins + 2)[1:-1].astype(np.int64)


def joined_suspects(parts: Sequence[Suspects]) -> Suspects:
    """Suspects of all bands in one."""
    return Suspects(
        **{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Suspects)}
    )


def measure_band(
    plan: Plan, band: tuple[int, int], combined: Sequence[Combined]
) -> tuple[BandMeasure, Suspects]:
    """Compare the exposures of a band of rows.

    Parameters
    ----------
    band : (first row, row after the last)
    combined : sequence of Combined, (rows, nx)
        The biases first, where there are any; then by exposure time, shortest first.
    """
    seen = _seen(plan, combined)
    return _summary(seen), _suspects(plan, seen, band[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """The planes of one band that are judged; lists go by exposure time."""

    combined: Sequence[Combined]
    """biases first, where there are any"""
    saturated: Sequence[NDArray[np.bool_]]
    """of the same"""
    exptimes_s: Sequence[np.float32]
    raw_e: Sequence[Floats]
    """charge above the pedestal, or the bias frames"""
    charges_e: Sequence[Floats]
    """the same above each pixel's own bias level, or the columns' profile"""
    bulks_e: Sequence[Floats]
    short_e_per_s: Floats
    """dark current in the pair's shorter exposure, as the guide has it"""
    long_e_per_s: Floats
    line: Line
    line_bulk: Floats
    excess: Floats
    """of the line above the bulk, e-/s"""
    chi2: Sequence[Floats]
    """in time, of all that was combined"""
    chi2_of_all: Floats
    n_rejected: NDArray[np.uint16]
    hit: NDArray[np.intp]
    """flat indices of the pixels of which values were rejected"""
    offset: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.excess.shape

    @property
    def exposed_saturated(self) -> Sequence[NDArray[np.bool_]]:
        return self.saturated[-len(self.exptimes_s) :]


def _seen(plan: Plan, combined: Sequence[Combined]) -> _Seen:
    survey, noise = plan.survey, plan.survey.noise
    bias = combined[0] if survey.biases else None
    of_groups = combined[1:] if survey.biases else combined
    shape = of_groups[0].mean_adu.shape
    g = np.float32(noise.gain_e_per_adu)

    raw, charges, bulks = [], [], []
    level_adu, offset_variance_e2 = _bias_level(plan, bias, of_groups[-1])
    for group, mean in zip(survey.groups, of_groups, strict=True):
        from_bias = bias is not None and not group.bias_subtracted
        zero = bias.mean_adu if bias is not None and from_bias else np.float32(group.offset_adu)
        raw.append((mean.mean_adu - zero) * g)
        charge = (mean.mean_adu - level_adu) * g if from_bias else raw[-1]
        if survey.column_offset_adu is not None and not group.bias_subtracted:
            charge = charge - survey.column_offset_adu * g
        charges.append(charge)
        bulks.append(_bulk(block_medians(charge, plan.colours), shape))
    saturated = [c.n_saturated != 0 for c in combined]
    points = [
        _point(survey, i, mean, charge, bulks, ~full)
        for i, (mean, charge, full) in enumerate(
            zip(of_groups, charges, saturated[-len(of_groups) :], strict=True)
        )
    ]
    line = fit_line(points, noise.floor_e2, offset_variance_e2)
    line_bulk = block_medians(line.rate_e_per_s, plan.colours)
    times = [np.float32(group.exptime_s) for group in survey.groups]
    short_rate, long_rate = (raw[i] * (1 / times[i]) for i in plan.pair)
    chi2 = [_where_not(full, c.chi2) for c, full in zip(combined, saturated, strict=True)]
    n_rejected = functools.reduce(np.add, [c.n_rejected for c in combined])
    return _Seen(
        combined=combined,
        saturated=saturated,
        exptimes_s=times,
        raw_e=raw,
        charges_e=charges,
        bulks_e=bulks,
        short_e_per_s=short_rate,
        long_e_per_s=long_rate,
        line=line,
        line_bulk=line_bulk,
        excess=line.rate_e_per_s - _bulk(line_bulk, shape),
        chi2=chi2,
        chi2_of_all=functools.reduce(np.add, chi2),
        n_rejected=n_rejected,
        hit=np.flatnonzero(n_rejected != 0),
        offset=_offsets(plan, bias, shape),
    )


def _suspects(plan: Plan, seen: _Seen, y0: int) -> Suspects:
    """Pick what any test might condemn, and all hot pixels, of a band that begins at row `y0`."""
    (short, long), line = plan.pair, seen.line
    ever_saturated = functools.reduce(np.logical_or, seen.exposed_saturated)
    still = _still(plan, seen.charges_e, seen.chi2, seen.chi2_of_all) & ~ever_saturated
    above_limit = np.zeros(seen.shape, np.bool_)
    if plan.recipe.limit_e_per_s is not None:
        above_limit = seen.short_e_per_s > np.float32(plan.recipe.limit_e_per_s)

    suspect = seen.excess > np.float32(min(_SUSPECT_SIGMA, plan.recipe.cutoff_sigma)) * line.rate_sigma
    suspect |= np.maximum(seen.raw_e[short], seen.charges_e[short]) - seen.bulks_e[short] > (
        np.float32(3.5 * plan.short_sigma_e_per_s) * seen.exptimes_s[short]
    )
    suspect |= ever_saturated | seen.offset | above_limit | still | (seen.n_rejected > 1)
    most_dof = [_most_dof(c, full) for c, full in zip(seen.combined, seen.saturated, strict=True)]
    suspect |= _doubtful(seen, most_dof, plan.joint_p)
    suspect.reshape(-1)[seen.hit] |= _doubtful(seen, most_dof, _SUSPECT_P_OF_HIT, seen.hit)
    chosen = np.flatnonzero(suspect)

    def pick(plane: Any) -> Any:
        return plane.reshape(-1).take(chosen)

    def pick_excess(i: int) -> Any:
        bulk = seen.bulks_e[i]
        of_bulk = bulk[0].take(chosen % seen.shape[1]) if len(bulk) == 1 else pick(bulk)
        return (pick(seen.charges_e[i]) - of_bulk) * (1 / seen.exptimes_s[i])

    def pick_dof(c: Combined, full: NDArray[np.bool_]) -> Any:
        return (pick(c.n_used).astype(np.float32) - np.float32(1)) * ~pick(full)

    return Suspects(
        index=chosen.astype(np.int64) + y0 * seen.shape[1],
        short=pick(seen.short_e_per_s),
        long=pick(seen.long_e_per_s),
        short_excess=pick_excess(short),
        long_excess=pick_excess(long),
        pooled=pick(line.rate_e_per_s),
        sigma=pick(line.rate_sigma),
        nearby=_nearby(line.rate_e_per_s, chosen),
        chi2=pick(line.chi2),
        n_points=pick(line.n_points),
        z=pick(line.z),
        departure=pick(line.departure),
        temporal_chi2=np.stack([pick(c) for c in seen.chi2], axis=1),
        temporal_dof=np.stack(
            [pick_dof(c, full) for c, full in zip(seen.combined, seen.saturated, strict=True)], axis=1
        ),
        n_rejected=pick(seen.n_rejected),
        saturated=pick(ever_saturated),
        comparable=~pick(seen.exposed_saturated[short] | seen.exposed_saturated[long]),
        above_limit=pick(above_limit),
        offset=pick(seen.offset),
        still=pick(still),
    )


def _summary(seen: _Seen) -> BandMeasure:
    line, excess = seen.line, seen.excess
    cool = ~(excess > np.float32(6) * line.rate_sigma)
    complete = (line.n_points == len(seen.exptimes_s)) & cool & (line.chi2 < _WILD_CHI2)
    return BandMeasure(
        bulk=seen.line_bulk,
        column_z=np.clip(line.z, -3, 3).mean(axis=0),
        short_counts=_histogram(seen.short_e_per_s),
        long_counts=_histogram(seen.long_e_per_s),
        z_counts=_z_histogram(line.z, (line.n_points > 1) & cool),
        excess_counts=_z_histogram(excess[::8] / line.rate_sigma[::8]),
        line_chi2=float(np.where(complete, line.chi2, np.float32(0)).sum(dtype=np.float64)),
        line_pixels=int(np.count_nonzero(complete)),
        n_hits=np.array([c.n_rejected.reshape(-1)[seen.hit].sum(dtype=np.int64) for c in seen.combined]),
    )


def _bulk(medians: Floats, shape: tuple[int, int]) -> Floats:
    """Each pixel's block median, as one row where all rows have the same."""
    spread = spread_blocks(medians, shape)
    return spread[:1] if len(medians) == 1 else spread


def _where_not(excluded: NDArray[np.bool_], values: Floats) -> Floats:
    return np.where(excluded, np.float32(0), values) if excluded.any() else values


def _most_dof(of: Combined, saturated: NDArray[np.bool_]) -> int:
    counts = of.n_used[~saturated] if saturated.any() else of.n_used
    return int(counts.max(initial=1)) - 1


def _bias_level(
    plan: Plan, bias: Combined | None, longest: Combined
) -> tuple[Floats | float, Floats | float]:
    """Bias level of each pixel above the pedestal, and the variance of what is left unknown of it.

    A pixel that stands out from the pattern is believed in full, with all the noise of its mean.
    """
    survey, pattern = plan.survey, plan.survey.bias_pattern
    if bias is None or pattern is None or all(group.bias_subtracted for group in survey.groups):
        return 0.0, survey.offset_variance_e2
    shape = bias.mean_adu.shape
    level = spread_blocks(block_medians(bias.mean_adu, plan.colours), shape).copy()
    if pattern.readout_s:
        around = spread_blocks(block_medians(longest.mean_adu, plan.colours), shape)
        gathered = (longest.mean_adu - around) - (bias.mean_adu - level)
        gathered *= np.float32(pattern.readout_s / survey.groups[-1].exptime_s)
        level += np.maximum(gathered, np.float32(0), out=gathered)
    own = bias.mean_adu - level
    stands_out = np.abs(own) > np.float32(_STANDS_OUT * pattern.spread_adu)
    own *= np.where(stands_out, np.float32(1), np.float32(pattern.share))
    level += own
    alone_e2 = survey.offset_variance_e2 - pattern.left_e2 + pattern.noise_e2
    return level, np.where(stands_out, np.float32(alone_e2), np.float32(survey.offset_variance_e2))


def _point(
    survey: Survey,
    number: int,
    mean: Combined,
    charge: Floats,
    bulks: Sequence[Floats],
    usable: NDArray[np.bool_],
) -> Charge:
    """A group's charge, its bulk aligned with the longest exposure's where they are, block by block.

    What pedestals drift between the groups, and glow, which cares little for temperature, leave the
    comparison this way; only the excess over the bulk is brought to the longest exposure's temperature.
    """
    group, longest = survey.groups[number], survey.groups[-1]
    if group is not longest:
        per_ratio = np.float32(1 / group.ratio.ratio)
        bulk = bulks[-1] * np.float32(group.exptime_s / longest.exptime_s) - bulks[number] * per_ratio
        charge = charge * per_ratio
        charge += bulk
    return Charge(
        exptime_s=group.exptime_s,
        charge_e=charge,
        exposures=mean.n_used.astype(np.float32) * np.float32(group.n_combined),
        level_e=group.level_e,
        usable=usable,
        ratio=group.ratio.ratio,
        ratio_sigma=group.ratio.sigma / group.ratio.ratio,
    )


def _nearby(rate: Floats, chosen: NDArray[np.intp]) -> Floats:
    """Follow what is steeper than blocks are wide, such as glow at an edge; even steps keep the colour."""
    nx = rate.shape[1]
    x = chosen % nx
    row, flat = chosen - x, rate.reshape(-1)
    around = [flat.take(row + _reflected(x + step, nx)) for step in (-12, -10, -8, -6, 6, 8, 10, 12)]
    return median(around)


def _reflected(x: NDArray[np.intp], nx: int) -> NDArray[np.intp]:
    inside = np.where(x < 0, -x, np.where(x >= nx, 2 * (nx - 1) - x, x))
    return np.clip(inside, 0, nx - 1)


def _still(
    plan: Plan, charges: Sequence[Floats], chi2: Sequence[Floats], chi2_of_all: Floats
) -> NDArray[np.bool_]:
    """Pixels whose χ² in time for read noise alone is too small: no smaller than that of the full model."""
    still = np.zeros(chi2_of_all.shape, np.bool_)
    where = np.flatnonzero(chi2_of_all <= np.float32(plan.still_chi2))
    floor = max(plan.survey.noise.floor_e2, 1e-6)
    of_biases = chi2[: len(chi2) - len(charges)]
    total = sum((c.reshape(-1)[where] for c in of_biases), np.zeros(where.size, np.float32))
    for group, charge, values in zip(plan.survey.groups, charges, chi2[len(of_biases) :], strict=True):
        shot = np.maximum(charge.reshape(-1)[where], np.float32(group.level_e))
        shot *= np.float32(1 / floor)
        shot += np.float32(1)
        total += shot * values.reshape(-1)[where]
    still.reshape(-1)[where] = total <= np.float32(plan.still_chi2)
    return still


def _doubtful(
    seen: _Seen, most_dof: Sequence[int], p: float, where: NDArray[np.intp] | None = None
) -> NDArray[np.bool_]:
    """Whether a test passes a p-value, of all pixels or of chosen ones."""

    def of(plane: Any) -> Any:
        return plane if where is None else plane.reshape(-1)[where]

    line = seen.line
    doubtful = np.abs(of(line.z)) > np.float32(tails.normal_at(p / 2))
    for chi2, dof in ((seen.chi2_of_all, sum(most_dof)), *zip(seen.chi2, most_dof, strict=True)):
        if dof > 0:
            doubtful |= of(chi2) > np.float32(tails.chi2_at(p, dof))
    for dof in range(2, int(line.n_points.max())):
        doubtful |= (of(line.n_points) == dof + 1) & (of(line.chi2) > np.float32(tails.chi2_at(p, dof)))
    return np.asarray(doubtful, np.bool_)


def _offsets(plan: Plan, bias: Combined | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if bias is None or not math.isfinite(plan.offset_threshold_adu):
        return np.zeros(shape, np.bool_)
    level = bias.mean_adu - spread_blocks(block_medians(bias.mean_adu, plan.colours), bias.mean_adu.shape)
    return np.asarray(np.abs(level) > np.float32(plan.offset_threshold_adu), np.bool_)
