"""From dark frames to a data-quality plane: the one way into the science."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.domain import DQ, Recipe, Rule
from hotpix_registry.errors import NothingToBuild
from hotpix_registry.science import decide, tails
from hotpix_registry.science.band import BandMeasure, Plan, Suspects, joined_suspects
from hotpix_registry.science.inputs import Detector, ExposureGroup
from hotpix_registry.science.limit import DepartureCurve, Limit, find_limit, no_limit
from hotpix_registry.science.measure import measure
from hotpix_registry.science.report import Findings, histogram_sd, numbers, report
from hotpix_registry.science.sample import sample_bands
from hotpix_registry.science.strips import bands, local_bulk
from hotpix_registry.science.survey import Survey, survey

_EVIDENCE = DQ.DARK_SATURATED | DQ.DARK_NONLINEAR | DQ.UNSTABLE | DQ.STUCK | DQ.COLUMN | DQ.MANUAL
_LEAST_Z = 2.0
_LEAST_VARIANCE_RATIO = 1.5
_HINT_P = 0.05
"""a joint verdict names a pixel unstable only if its frames hint at it by themselves"""
_COMPARED_SIGMA = 4.0
"""predicted signal-to-noise in the shorter exposure from which pixels tell of the consistency limit"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detection:
    """What was found in a set of darks."""

    dq: NDArray[np.uint16]
    """(ny, nx), bits of `domain.DQ`"""
    counts: dict[str, int]
    """flag name → pixels"""
    limit: Limit
    exposures_s: tuple[float, ...]
    """exposure times tested, shortest first"""
    bias_method: str
    """'bias frames', 'overscan', 'already subtracted' or 'scalar offset'"""
    report: dict[str, Any]
    """all that a person or a gate needs to trust it; JSON without NaN"""
    numbers: dict[str, NDArray[Any]]
    """arrays for plots"""


def detect(
    groups: Sequence[ExposureGroup],
    detector: Detector,
    recipe: Recipe,
    *,
    biases: ExposureGroup | None = None,
    manual: NDArray[np.bool_] | None = None,
    progress: Callable[[int, int], None] | None = None,
    reading_done: Callable[[], None] | None = None,
    strip_rows: int | None = None,
    workers: int = 1,
) -> Detection:
    """Find the bad pixels of a camera in its dark frames.

    The frames are read in strips, about a quarter of large sensors twice; memory depends neither on
    their number nor, beyond the result, on planes. The result depends neither on `strip_rows` and
    `workers` nor on the order of groups and frames.

    With more than two exposure times the guide's rule compares the longest with that one, among those
    at most half as long, whose dark current has the least noise.

    Parameters
    ----------
    groups : sequence of ExposureGroup
        One per exposure time above zero, of one frame and more; masters too.
    biases : ExposureGroup, optional
        Frames of 0 s. Without, the pedestal comes from the overscan, else a scalar per exposure time
        is measured in the bulk.
    manual : (ny, nx) bool, optional
        The camera's static defects, True = bad.
    progress : callable, optional
        Called with (done, total).
    reading_done : callable, optional
        Called once, when no frame is read any more and one processor is enough for the rest.
    workers : int
        Processes that share the work, this one and forks of it; threads for compressed frames, which are
        read as streams, and where there can be no forks.

    Raises
    ------
    NothingToBuild
        Nothing usable, shapes that disagree, or a group taken at another temperature.
    """
    shape = _check(groups, biases, manual)
    if recipe.rule in (Rule.IMPORT, Rule.EDIT):
        raise ValueError(f"a mask of rule {recipe.rule} is not detected in darks")
    ordered = sorted(groups, key=lambda group: group.exptime_s)
    step = _counter(shape, len(groups) + (biases is not None), progress)
    known = survey(ordered, biases, detector, step, workers)
    plan = _plan(known, recipe, detector)
    measured, suspects = _gathered(measure(plan, progress=step, strip_rows=strip_rows, workers=workers))
    if reading_done is not None:
        reading_done()
    return _judge(plan, measured, suspects, manual)


def measure_gain(
    groups: Sequence[ExposureGroup],
    detector: Detector,
    biases: ExposureGroup | None = None,
    *,
    workers: int = 1,
) -> tuple[float, float] | None:
    """The gain and its error, e-/adu, that the darks themselves show; `detector`'s own is not used.

    Variance against mean over the hot pixels (`noise.photon_transfer`), looked at twice, since what
    counts as hot depends on the gain. None where it is not known to 5 %.

    Raises
    ------
    NothingToBuild
        As `detect` does.
    """
    _check(groups, biases, None)
    ordered = sorted(groups, key=lambda group: group.exptime_s)
    gain, sigma = 1.0, math.inf
    for _ in range(2):
        guess = dataclasses.replace(detector, gain_e_per_adu=gain, read_noise_e=None)
        found = survey(ordered, biases, guess, lambda: None, workers).transfer
        if found.gain_e_per_adu is None or found.gain_sigma is None:
            return None
        gain, sigma = found.gain_e_per_adu, found.gain_sigma
    return (gain, sigma) if sigma < 0.05 * gain else None


def _check(
    groups: Sequence[ExposureGroup], biases: ExposureGroup | None, manual: NDArray[np.bool_] | None
) -> tuple[int, int]:
    everyone = [*groups, *([biases] if biases else [])]
    if not groups or not all(group.frames for group in everyone):
        raise NothingToBuild("There are no dark frames to build from.", next_step="Ingest darks first.")
    if any(group.exptime_s <= 0 for group in groups):
        raise ValueError("frames of 0 s are biases, no exposure group")
    first = groups[0].frames[0]
    shape = first.rows.shape
    for group in everyone:
        for frame in group.frames:
            if frame.rows.shape != shape:
                (ny, nx), (ny0, nx0) = frame.rows.shape, shape
                raise NothingToBuild(
                    f"{frame.name} has {nx} x {ny} pixels, {first.name} has {nx0} x {ny0}.",
                    next_step="Exclude the frames of the other shape.",
                )
    if manual is not None and manual.shape != shape:
        raise ValueError(f"manual has shape {manual.shape}, the frames {shape}")
    return shape


def _counter(
    shape: tuple[int, int], n_groups: int, progress: Callable[[int, int], None] | None
) -> Callable[[], None]:
    total = (len(bands(shape[0])) + len(sample_bands(shape))) * n_groups
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return step


# --- thresholds --------------------------------------------------------------------


def _plan(known: Survey, recipe: Recipe, detector: Detector) -> Plan:
    n_pixels = known.shape[0] * known.shape[1]
    p = decide.bulk_p(recipe.bulk_false_flags, n_pixels, _n_tests(known))
    pair = _pair(known)
    short = known.groups[pair[0]]
    least = math.sqrt((known.noise.floor_e2 + short.level_e) / short.exposures) / short.exptime_s
    offset = math.nan
    if known.biases is not None:
        offset = tails.normal_at(p) * known.offset_sd_adu
    return Plan(
        survey=known,
        recipe=recipe,
        pair=pair,
        short_sigma_e_per_s=least,
        still_chi2=_still_chi2(known, p),
        offset_threshold_adu=offset,
        joint_p=decide.factor_of_joint(p),
        colours=detector.bayer_pattern is not None,
    )


def _n_tests(known: Survey) -> int:
    """Tests that share the false flags of the bulk: in time, stuck; both signs, joint; the line's χ²."""
    return 2 + (3 if len(known.groups) > 1 else 0) + (len(known.groups) > 2)


def _pair(known: Survey) -> tuple[int, int]:
    longest = len(known.groups) - 1
    half = known.groups[longest].exptime_s / 2
    shorter = [i for i in range(longest) if known.groups[i].exptime_s <= half] or list(range(longest))

    def variance(i: int) -> float:
        group = known.groups[i]
        return (known.noise.floor_e2 + group.level_e) / group.exposures / group.exptime_s**2

    return min(shorter, key=variance, default=longest), longest


def _still_chi2(known: Survey, p: float) -> float:
    """χ² below which a pixel is stuck; negative where repeats are too few or steps too coarse to tell."""
    everyone = [*known.groups, *([known.biases] if known.biases else [])]
    dof = sum(group.n - 1 for group in everyone)
    sd_steps = math.sqrt(known.noise.floor_e2) / known.noise.gain_e_per_adu / known.noise.adc_step_adu
    if dof < 5 or sd_steps <= 0 or dof * math.log(max(3.5 * sd_steps, 1.0)) < -math.log(p):
        return -1.0
    threshold = tails.chi2_below_which(p, dof)
    return threshold if np.mean(known.quiet_chi2 <= threshold) < 0.01 else -1.0


def _gathered(parts: Iterable[tuple[BandMeasure, Suspects]]) -> tuple[list[BandMeasure], Suspects]:
    measured, suspects = zip(*parts, strict=True)
    return list(measured), joined_suspects(suspects)


# --- judgement -----------------------------------------------------------------------


def _judge(
    plan: Plan,
    measured: Sequence[BandMeasure],
    suspects: Suspects,
    manual: NDArray[np.bool_] | None,
) -> Detection:
    known, recipe = plan.survey, plan.recipe
    shape = known.shape
    grid = np.stack([band.bulk for band in measured], axis=1)
    bulk = local_bulk(grid, shape, suspects.index, plan.colours)
    bulk = np.where(suspects.nearby > bulk + 2 * suspects.sigma, suspects.nearby, bulk)
    excess = (suspects.pooled - bulk).astype(np.float64)
    sigma = suspects.sigma * max(1.0, _excess_sd(measured))
    stratum = decide.strata(excess, sigma.astype(np.float64))

    flags = np.zeros(suspects.index.size, np.uint16)
    flags[suspects.saturated] |= DQ.DARK_SATURATED.value
    flags[suspects.offset] |= DQ.PEDESTAL.value
    flags[suspects.still] |= DQ.STUCK.value
    p_bulk = decide.bulk_p(recipe.bulk_false_flags, shape[0] * shape[1], _n_tests(known))
    thresholds = _test(plan, suspects, stratum, measured, p_bulk, flags)
    warm = excess > decide.gaussian_z(1 / (shape[0] * shape[1])) * sigma
    flags[warm] |= DQ.WARM.value

    limit, curve = _limit(plan, suspects, flags)
    cutoff = (excess > recipe.cutoff_e_per_s) & (excess > recipe.cutoff_sigma * sigma)
    if recipe.rule is Rule.CUTOFF or limit.e_per_s is None:
        hot = cutoff
    elif limit.source == "given":
        hot = suspects.above_limit
    else:
        hot = suspects.short > limit.e_per_s
    flags[hot] |= DQ.HOT.value

    dq = np.zeros(shape, np.uint16)
    dq.reshape(-1)[suspects.index] = flags
    column_z = np.stack([band.column_z for band in measured]).astype(np.float64)
    unreliable = suspects.index[(flags & (_EVIDENCE & ~DQ.DARK_SATURATED).value) != 0]
    for part in decide.bad_columns(unreliable, column_z, bands(shape[0])):
        dq[part] |= DQ.COLUMN.value
    if manual is not None:
        dq[manual] |= DQ.MANUAL.value
    condemns = condemning(recipe.rule, limit, len(known.groups)).value
    if recipe.rule is Rule.NONE:
        dq[...] = 0
    counts = _condemn(dq, condemns)
    findings = Findings(
        plan=plan,
        measured=measured,
        suspects=suspects,
        dq=dq,
        counts=counts,
        limit=limit,
        curve=curve,
        thresholds=thresholds,
        stratum=stratum,
        excess=excess,
    )
    return Detection(
        dq=dq,
        counts=counts,
        limit=limit,
        exposures_s=tuple(group.exptime_s for group in known.groups),
        bias_method=known.bias_method,
        report=report(findings),
        numbers=numbers(findings),
    )


def _condemn(dq: NDArray[np.uint16], condemns: int) -> dict[str, int]:
    """Make pixels with some of these flags BAD, and count all flags; nearly all pixels have none."""
    of_value = np.zeros(1 << 16, np.int64)
    for band in bands(dq.shape[0]):
        plane = dq[slice(*band)].reshape(-1)
        flagged = np.flatnonzero(plane != 0)
        values = plane[flagged]
        values[(values & condemns) != 0] |= DQ.BAD.value
        plane[flagged] = values
        of_value += np.bincount(values, minlength=of_value.size)
    found = np.flatnonzero(of_value)
    return {
        flag.name: int(of_value[found[(found & flag.value) != 0]].sum())
        for flag in DQ
        if flag.name is not None
    }


def _excess_sd(measured: Sequence[BandMeasure]) -> float:
    """How much more the bulk scatters from pixel to pixel than the noise model says."""
    return histogram_sd(np.sum([band.excess_counts for band in measured], axis=0)) or 1.0


def condemning(rule: Rule, limit: Limit, n_exposures: int) -> DQ:
    """Flags that make a pixel BAD under a rule.

    Where no limit was found the significance alone decides; with a single exposure time there is
    nothing to compare, and the cut-off takes the limit's place.
    """
    has_bound = limit.e_per_s is not None or n_exposures == 1
    match rule:
        case Rule.NONE:
            return DQ(0)
        case Rule.CUTOFF:
            return _EVIDENCE | DQ.HOT
        case Rule.LIMIT if has_bound:
            return DQ.HOT | DQ.DARK_SATURATED | DQ.MANUAL
        case Rule.EVIDENCE_AND_LIMIT if has_bound:
            return _EVIDENCE | DQ.HOT
    return _EVIDENCE


def _test(
    plan: Plan,
    suspects: Suspects,
    stratum: NDArray[np.intp],
    measured: Sequence[BandMeasure],
    p_bulk: float,
    flags: NDArray[np.uint16],
) -> dict[str, dict[int, float]]:
    """Set DARK_NONLINEAR and UNSTABLE; return the thresholds of each test and stratum."""
    rate = plan.recipe.false_discovery_rate
    highest = float(tails.normal_above(_LEAST_Z))
    thresholds: dict[str, dict[int, float]] = {}

    def condemned(
        name: str, p: NDArray[np.float64], eligible: NDArray[np.bool_], share: float
    ) -> NDArray[np.bool_]:
        guilty = np.zeros(p.size, np.bool_)
        chosen = np.flatnonzero(eligible)
        guilty[chosen], thresholds[name] = decide.condemn(
            p[chosen], stratum[chosen], rate=share * rate, bulk_p=p_bulk, highest_p=highest
        )
        return guilty

    p_time, varies = _time_test(plan, suspects, measured)
    unstable = condemned("in time", p_time, np.isfinite(p_time), 1.0) & varies
    tested = suspects.n_points > 1
    if tested.any():
        z = suspects.z.astype(np.float64)
        p_falls, p_rises = tails.normal_above(z), tails.normal_above(-z)
        differs = np.abs(suspects.departure) > plan.recipe.min_effect
        # these tests find much the same pixels, so that they share the false ones
        nonlinear = condemned("falling", p_falls, tested, 0.5) | condemned("rising", p_rises, tested, 0.5)
        on_line = suspects.n_points > 2
        if on_line.any():
            p_line = tails.chi2_above(suspects.chi2, np.maximum(suspects.n_points - 1.0, 1.0))
            nonlinear |= condemned("line", p_line, on_line, 0.5)
        joint = decide.fisher(2 * np.minimum(p_falls, p_rises), np.where(np.isfinite(p_time), p_time, 1.0))
        changed = condemned("joint", joint, tested & np.isfinite(p_time), 0.5)
        flags[nonlinear & differs] |= DQ.DARK_NONLINEAR.value
        unstable |= changed & differs & varies & (p_time < _HINT_P)
    flags[unstable] |= DQ.UNSTABLE.value
    return thresholds


def _time_test(
    plan: Plan, suspects: Suspects, measured: Sequence[BandMeasure]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """p-value of constancy in time (nan: not tested), and where the variance is more than a little too large.

    Each group's χ² and their sum share the false alarms by what they can tell (weighted Bonferroni:
    Genovese, Roeder and Wasserman 2006, Biometrika 93, 509); and the values rejected as cosmic-ray
    hits, since a pixel that is hit twice is more likely one that jumps.
    """
    chi2, dof = suspects.temporal_chi2.astype(np.float64), suspects.temporal_dof.astype(np.float64)
    known = plan.survey
    everyone = [*([known.biases] if known.biases is not None else []), *known.groups]
    shares = decide.shares_in_time(
        [(group.n, group.exptime_s, known.noise.floor_e2 + group.level_e) for group in everyone]
    )
    p = np.ones(suspects.index.size)
    varies = np.zeros(p.size, np.bool_)
    tests = [*zip(shares[:-1], chi2.T, dof.T, strict=True), (shares[-1], chi2.sum(axis=1), dof.sum(axis=1))]
    with ThreadPoolExecutor(2) as pool:
        of_tests = pool.map(lambda test: tails.chi2_above(test[1], np.maximum(test[2], 1e-3)), tests)
        for (share, values, degrees), tail in zip(tests, of_tests, strict=True):
            if share > 0:
                p = np.minimum(p, tail / share)
            varies |= values > _LEAST_VARIANCE_RATIO * degrees
    if not dof.any():
        return np.full(p.size, np.nan), np.zeros(p.size, np.bool_)
    n_pixels = known.shape[0] * known.shape[1]
    hits_per_pixel = float(np.sum([band.n_hits for band in measured])) / n_pixels
    hit = suspects.n_rejected > 0
    by_chance = tails.poisson_above(suspects.n_rejected[hit] - 1.0, hits_per_pixel)
    p[hit] = decide.fisher(p[hit], by_chance)
    varies |= suspects.n_rejected > 1
    p[dof.sum(axis=1) == 0] = np.nan
    return p, varies


def _limit(plan: Plan, suspects: Suspects, flags: NDArray[np.uint16]) -> tuple[Limit, DepartureCurve]:
    known, recipe = plan.survey, plan.recipe
    short, long = (known.groups[i] for i in plan.pair)
    exposures_s = None if short is long else (short.exptime_s, long.exptime_s)
    nothing = DepartureCurve.empty()
    if exposures_s is None:
        found, curve = no_limit("There is one exposure time only.", recipe.tolerance, None), nothing
    else:
        steady = suspects.comparable & ((flags & (DQ.UNSTABLE | DQ.STUCK).value) == 0)
        factor = short.ratio.ratio
        found, curve = find_limit(
            suspects.short_excess[steady].astype(np.float64),
            suspects.long_excess[steady].astype(np.float64) * factor,
            least_e_per_s=_COMPARED_SIGMA * plan.short_sigma_e_per_s,
            tolerance=recipe.tolerance,
            exposures_s=exposures_s,
            temperature_factor=1 / factor,
        )
    if recipe.limit_e_per_s is None:
        return found, curve
    given = dataclasses.replace(
        found,
        e_per_s=recipe.limit_e_per_s,
        low_e_per_s=None,
        high_e_per_s=None,
        charge_e=recipe.limit_e_per_s * long.exptime_s,
        exposures_s=exposures_s,
        source="given",
        reason=f"{recipe.limit_e_per_s:g} e-/s was given.",
    )
    return given, curve
