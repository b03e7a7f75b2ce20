"""What a build tells people and plots of itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.domain import and_list
from hotpix_registry.science import tails
from hotpix_registry.science.band import Z_EDGES, BandMeasure, Plan, Suspects, histogram_edges
from hotpix_registry.science.decide import by_stratum, gaussian_z
from hotpix_registry.science.limit import DepartureCurve, Limit
from hotpix_registry.science.survey import CalibratedGroup

_MOST_POINTS = 20_000
_FEWEST_IN_OCTAVE = 20
_SD_WITHIN_3 = 0.98658


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Findings:
    """All that a judgement has in hand when it is done."""

    plan: Plan
    measured: Sequence[BandMeasure]
    suspects: Suspects
    dq: NDArray[np.uint16]
    counts: Mapping[str, int]
    limit: Limit
    curve: DepartureCurve
    thresholds: Mapping[str, Mapping[int, float]]
    stratum: NDArray[np.intp]
    excess: NDArray[np.float64]


def histogram_sd(counts: NDArray[np.int64]) -> float | None:
    """Standard deviation of the normal core of z-scores counted in `Z_EDGES`; None for too few."""
    centres = (Z_EDGES[:-1] + Z_EDGES[1:]) / 2
    if counts.sum() < 100:
        return None
    mean, sd = 0.0, 1.0
    for _ in range(20):
        core = np.abs(centres - mean) <= 3 * sd
        weight = counts[core]
        if weight.sum() < 50:
            return None
        mean = float(np.sum(weight * centres[core]) / weight.sum())
        sd = math.sqrt(float(np.sum(weight * (centres[core] - mean) ** 2) / weight.sum())) / _SD_WITHIN_3
        if sd == 0:
            return None
    return sd


def report(f: Findings) -> dict[str, Any]:
    """The report of a build, ready for JSON: no NaN, no infinity."""
    survey, limit = f.plan.survey, f.limit
    z_sd = histogram_sd(np.sum([band.z_counts for band in f.measured], axis=0))
    transfer = survey.transfer
    warnings = list(survey.warnings)
    if f.plan.still_chi2 < 0:
        warnings.append("Stuck pixels were not tested: too few repeats, or too little noise in the bulk.")
    few = [f"{group.exptime_s:g}" for group in survey.groups if group.exposures < 3]
    if few:
        warnings.append(
            f"Of {and_list(few)} s there are fewer than three exposures: there a cosmic ray looks like a "
            "hot pixel, and an unstable pixel like a steady one."
        )
    if z_sd is not None and not 0.95 <= z_sd <= 1.05:
        warnings.append(
            f"The z-scores of normal pixels scatter by {z_sd:.3f} instead of 1: the noise model does not fit."
        )
    told: dict[str, Any] = _plain(
        {
            "rule": str(f.plan.recipe.rule),
            "counts": dict(f.counts),
            "flagged_fraction": f.counts["BAD"] / f.dq.size,
            "limit": {
                "e_per_s": limit.e_per_s,
                "low_e_per_s": limit.low_e_per_s,
                "high_e_per_s": limit.high_e_per_s,
                "charge_e": limit.charge_e,
                "exposures_s": None if limit.exposures_s is None else list(limit.exposures_s),
                "tolerance": limit.tolerance,
                "source": limit.source,
                "reason": limit.reason,
            },
            "bias_method": survey.bias_method,
            "noise": {
                "gain_e_per_adu": survey.noise.gain_e_per_adu,
                "read_noise_e": survey.noise.read_noise_e,
                "measured_gain_e_per_adu": transfer.gain_e_per_adu,
                "measured_gain_sigma": transfer.gain_sigma,
                "measured_read_noise_e": transfer.read_noise_e,
                "measured_read_noise_sigma": transfer.read_noise_sigma,
                "n_pixels": transfer.n_pixels,
                "offset_variance_e2": survey.offset_variance_e2,
            },
            "bulk_e_per_s": survey.bulk_e_per_s,
            "z_sd": z_sd,
            "line": _line(f),
            "groups": [_group(group) for group in survey.groups],
            "biases": None if survey.biases is None else _group(survey.biases),
            "thresholds": _thresholds(f),
            "tests": {
                "pedestal": "tested" if survey.biases is not None else "not tested",
                "stuck": "tested" if f.plan.still_chi2 >= 0 else "not tested",
                "in_time": "tested" if any(group.n > 1 for group in survey.groups) else "not tested",
                "difference": "tested" if len(survey.groups) > 1 else "not tested",
            },
            "warnings": warnings,
        }
    )
    return told


def _group(group: CalibratedGroup) -> dict[str, Any]:
    factors = group.frame_factors
    frames = []
    for i, frame in enumerate(group.frames):
        frames.append(
            {
                "name": frame.name,
                "used": True,
                "pedestal_adu": float(group.scale.pedestals_adu[i]),
                "rate_factor": None if factors is None else float(factors.factors[i]),
                "temperature_k": None if factors is None else float(factors.temperatures_k[i]),
            }
        )
    frames += [
        {"name": name, "used": False, "reason": reason, "temperature_k": None}
        for name, reason in group.rejected
    ]
    ratio = group.ratio
    return {
        "exptime_s": group.exptime_s,
        "exposures": group.exposures,
        "frames_used": group.n,
        "frames_rejected": len(group.rejected),
        "rate_ratio": ratio.ratio if ratio.n_pixels else None,
        "rate_ratio_sigma": ratio.sigma if ratio.n_pixels else None,
        "temperature_k": ratio.temperature_k if ratio.n_pixels else None,
        "rate_factors_applied": group.scale.factors is not None,
        "offset_adu": group.offset_adu,
        "frames": frames,
    }


def _line(f: Findings) -> dict[str, Any] | None:
    """How well charges lie on straight lines: of the bulk's pixels, and of hot ones by dark current."""
    dof = len(f.plan.survey.groups) - 1
    pixels = sum(band.line_pixels for band in f.measured)
    if dof < 1 or pixels == 0:
        return None
    chi2 = sum(band.line_chi2 for band in f.measured)
    return {
        "degrees_of_freedom": dof,
        "pixels": pixels,
        "mean_chi2_per_degree": chi2 / pixels / dof,
        "hot": _line_of_hot_pixels(f, dof),
    }


def _line_of_hot_pixels(f: Findings, dof: int) -> list[dict[str, float]]:
    """Median χ² over that of true lines, per factor of two in dark current above the bulk.

    A median, since some pixels of any dark current are bad.
    """
    complete = (f.suspects.n_points == dof + 1) & (f.stratum > 0)
    octave = np.floor(np.log2(np.maximum(f.excess[complete], 1e-6)))
    chi2 = f.suspects.chi2[complete]
    rows = []
    for low in np.unique(octave).tolist():
        members = octave == low
        if np.count_nonzero(members) >= _FEWEST_IN_OCTAVE:
            typical = float(np.median(chi2[members])) / tails.chi2_below_which(0.5, dof)
            rows.append(
                {
                    "from_e_per_s": 2.0**low,
                    "to_e_per_s": 2.0 ** (low + 1),
                    "pixels": int(np.count_nonzero(members)),
                    "median_chi2": typical,
                }
            )
    return rows


def _thresholds(f: Findings) -> list[dict[str, Any]]:
    rows = []
    for label, members in by_stratum(f.stratum).items():
        excess = f.excess[members]
        rows.append(
            {
                "stratum": "bulk" if label == 0 else f"hot {label}",
                "from_e_per_s": None if label == 0 else float(excess.min()),
                "to_e_per_s": None if label == 0 else float(excess.max()),
                "pixels": members.size,
                "sigma": {
                    test: gaussian_z(thresholds[label])
                    for test, thresholds in f.thresholds.items()
                    if label in thresholds
                },
            }
        )
    return rows


def _plain(value: Any) -> Any:
    """The same value in types that JSON has; what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value


def numbers(f: Findings) -> dict[str, NDArray[Any]]:
    """Arrays for the plots of a build; scalars are 0-dimensional, nan where there is none."""
    survey = f.plan.survey
    short, long = (survey.groups[i] for i in f.plan.pair)
    g = survey.noise.gain_e_per_adu
    counts = {
        name: np.sum([getattr(band, name) for band in f.measured], axis=0)
        for name in ("short_counts", "long_counts", "z_counts")
    }
    edges = histogram_edges()
    order = _points(f)
    index = f.suspects.index[order]
    biases = survey.biases

    def ceiling(group: CalibratedGroup) -> float:
        pedestal = float(group.scale.pedestals_adu.mean()) + group.offset_adu
        if biases is not None and not group.bias_subtracted:
            pedestal += survey.bias_level_adu
        return (group.saturation_adu - pedestal) * g / group.exptime_s

    return {
        "hist_edges": edges,
        "hist_short": counts["short_counts"][:-1],
        "hist_long": counts["long_counts"][:-1],
        "points_short": f.suspects.short[order].astype(np.float32),
        "points_long": f.suspects.long[order].astype(np.float32),
        "points_dq": f.dq.reshape(-1)[index],
        "points_index": index.astype(np.int64),
        "short_s": np.float64(short.exptime_s),
        "long_s": np.float64(long.exptime_s),
        "ceiling_short_e_per_s": np.float64(ceiling(short)),
        "ceiling_long_e_per_s": np.float64(ceiling(long)),
        "limit": _scalar(f.limit.e_per_s),
        "limit_low": _scalar(f.limit.low_e_per_s),
        "limit_high": _scalar(f.limit.high_e_per_s),
        "z_edges": Z_EDGES,
        "z_counts": counts["z_counts"],
        "threshold_edges": edges,
        "threshold_counts": np.cumsum(counts["short_counts"][::-1])[::-1],
        "departure_rate": f.curve.rate_e_per_s,
        "departure_median": f.curve.median,
        "departure_low": f.curve.low,
        "departure_high": f.curve.high,
        "departure_fit": f.curve.fit,
    }


def _scalar(value: float | None) -> NDArray[np.float64]:
    return np.array(math.nan if value is None else value, np.float64)


def _points(f: Findings) -> NDArray[np.intp]:
    """Pixels for the scatter plots: flagged ones first, then the hottest."""
    bad = (f.dq.reshape(-1)[f.suspects.index] & 1) != 0
    heat = np.where(bad, np.float32(np.inf), f.suspects.pooled)
    chosen = np.arange(bad.size)
    if bad.size > _MOST_POINTS:
        least = np.partition(heat, -_MOST_POINTS)[-_MOST_POINTS]
        chosen = np.flatnonzero(~(heat < least))
    order = np.lexsort((f.suspects.index[chosen], -f.suspects.pooled[chosen], ~bad[chosen]))
    return np.asarray(chosen[order[:_MOST_POINTS]], np.intp)
