"""A first look at some rows of every frame: what must be known before each pixel can be judged."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.errors import NothingToBuild
from hotpix_registry.science.combine import Floats, FrameScale, NoiseModel
from hotpix_registry.science.inputs import DarkFrame, Detector, ExposureGroup
from hotpix_registry.science.noise import (
    LOG_RATE_PER_K,
    Doubles,
    FrameFactors,
    PhotonTransfer,
    RateRatio,
    Repeats,
    adopt,
    frame_factors,
    photon_transfer,
    rate_ratio,
    robust_sd,
    weighted_median,
)
from hotpix_registry.science.sample import Look, gather, hot_centre
from hotpix_registry.science.strips import block_edges

_FRAME_OFF_K = 0.5
_GROUP_OFF_K = 3.0
_FEWEST_HOT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedGroup:
    """An exposure group with what the survey found out about its frames."""

    exptime_s: float
    frames: tuple[DarkFrame, ...]
    scale: FrameScale
    n_combined: int = 1
    bias_subtracted: bool = False
    offset_adu: float = 0.0
    """scalar offset above the pedestals, where no bias frames tell it pixel by pixel"""
    level_e: float = 0.0
    """bulk dark charge of one frame"""
    ratio: RateRatio
    frame_factors: FrameFactors | None = None
    rejected: tuple[tuple[str, str], ...] = ()
    """(frame's name, reason)"""
    saturation_adu: float = math.inf

    @property
    def n(self) -> int:
        return len(self.frames)

    @property
    def exposures(self) -> int:
        return self.n * self.n_combined


@dataclass(frozen=True, slots=True, kw_only=True)
class BiasPattern:
    """How far a pixel's own mean of the bias frames is to be believed.

    A pixel's bias level is its surroundings', plus what it gathers while the chip is read out, plus a
    departure of its own. Of the departure that its mean shows, only `share` is its own, the rest is the
    noise of few frames: an empirical Bayes estimate (Efron and Morris 1973, J. Am. Stat. Assoc. 68, 117).
    """

    share: float
    """variance of the pattern over that of the means, 0 to 1"""
    spread_adu: float
    """standard deviation of the means about their surroundings"""
    noise_e2: float
    """variance of a mean by read noise alone"""
    readout_s: float
    """time of exposure to which a bias frame's charge in hot pixels amounts"""

    @property
    def left_e2(self) -> float:
        """Variance of what remains unknown of a pixel's level."""
        return self.share * self.noise_e2


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Everything global that the judgement of a pixel needs."""

    shape: tuple[int, int]
    groups: tuple[CalibratedGroup, ...]
    """by exposure time, shortest first"""
    biases: CalibratedGroup | None
    noise: NoiseModel
    transfer: PhotonTransfer
    bias_method: str
    offset_variance_e2: float
    """variance of what a pixel's exposures share besides charge: master bias noise, fixed pattern"""
    bulk_e_per_s: float
    quiet_chi2: Doubles
    """(n,) χ² in time of pixels of the bulk, for read noise alone"""
    column_offset_adu: Floats | None
    """(nx,) bias profile along the rows, from the darks themselves; None with bias frames"""
    offset_sd_adu: float
    """scatter of the bias level from pixel to pixel; nan without bias frames"""
    bias_level_adu: float
    """of the bulk, above the pedestals; nan without bias frames"""
    bias_pattern: BiasPattern | None
    """None without bias frames"""
    warnings: tuple[str, ...] = ()


def survey(
    groups: Sequence[ExposureGroup],
    biases: ExposureGroup | None,
    detector: Detector,
    progress: Callable[[], None],
    workers: int = 1,
) -> Survey:
    """Read some bands of all frames and measure noise, pedestals, rate factors and offsets.

    Raises
    ------
    NothingToBuild
        A group is really at another temperature.
    """
    shape = groups[0].frames[0].rows.shape
    ordered = sorted(groups, key=lambda group: group.exptime_s)
    looks = gather([*ordered, *([biases] if biases else [])], shape, detector, progress, workers)
    bias = looks.pop() if biases else None

    bias_method = _bias_method(looks, bias)
    everyone = [*looks, *([bias] if bias else [])]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(Look.centre, everyone))
        if bias_method == "scalar offset":
            _set_scalar_offsets(looks)
        list(pool.map(lambda look: _read_thermometers(look, bias, detector), looks))
        repeats = list(itertools.chain(*pool.map(lambda look: _repeats(look, bias), everyone)))

    transfer = photon_transfer(repeats, detector.adc_step_adu, detector.gain_e_per_adu)
    clamped = any(look.clamped for look in looks)
    noise, warnings = adopt(
        detector.gain_e_per_adu,
        detector.read_noise_e,
        detector.adc_step_adu,
        dataclasses.replace(transfer, gain_e_per_adu=None, read_noise_e=None)
        if clamped and detector.read_noise_e is not None
        else transfer,
    )
    if noise.read_noise_e == 0:
        noise = _noise_from_scatter(noise, looks, bias)
        warnings.append(
            "The read noise is neither known nor measurable from repeated darks; "
            f"{noise.read_noise_e:.3g} e-, the scatter from pixel to pixel, was used instead."
        )
    warnings += [f"{name} was left out: {reason}." for look in looks for name, reason in look.rejected]

    if clamped:
        warnings.append(
            "The camera cuts off its black level: the noise of the bulk cannot be seen, and faint dark "
            "current is overestimated; raise the camera's offset."
        )
    profile = _column_offset(looks) if bias is None else None
    if profile is not None:
        for look in looks:
            if not look.bias_subtracted:
                _take_off(look, profile)
    reference = looks[-1]
    bulk_e_per_s = max(0.0, _bulk_rate(reference, bias, noise))
    pattern = None if bias is None else _bias_pattern(bias, reference, noise)
    with ThreadPoolExecutor(workers) as pool:
        rates = list(pool.map(lambda look: _hot_rate(look, bias, noise), looks))
    ratios = [
        _ratio(look, rate, reference, rates[-1], noise)
        for look, rate in zip(looks[:-1], rates[:-1], strict=True)
    ]
    return Survey(
        shape=shape,
        groups=tuple(
            _calibrated(look, ratio, bulk_e_per_s * look.group.exptime_s)
            for look, ratio in zip(looks, [*ratios, RateRatio()], strict=True)
        ),
        biases=None if bias is None else _calibrated(bias, RateRatio(), 0.0),
        noise=noise,
        transfer=transfer,
        bias_method=bias_method,
        offset_variance_e2=_offset_variance(looks, bias, pattern, noise, bulk_e_per_s),
        bulk_e_per_s=bulk_e_per_s,
        quiet_chi2=_quiet_chi2(everyone, noise),
        bias_level_adu=math.nan if bias is None else bias.bulk_adu,
        bias_pattern=pattern,
        column_offset_adu=None if profile is None else profile.astype(np.float32),
        offset_sd_adu=math.nan if bias is None else robust_sd(bias.centre()),
        warnings=tuple(warnings),
    )


def _bias_method(looks: Sequence[Look], bias: Look | None) -> str:
    if all(look.bias_subtracted for look in looks):
        return "already subtracted"
    if bias is not None:
        return "bias frames"
    if all(f.pedestal is not None or f.bias_subtracted for look in looks for f in look.frames):
        return "overscan"
    return "scalar offset"


def _set_scalar_offsets(looks: Sequence[Look]) -> None:
    """Read dark current and offsets off the bulk: a line against exposure time, and what is left."""
    open_ = [look for look in looks if not look.bias_subtracted]
    exposures = np.array([look.group.exptime_s for look in open_])
    levels = np.array([look.bulk_adu for look in open_])
    slope = max(0.0, float(np.polyfit(exposures, levels, 1)[0])) if len(open_) > 1 else 0.0
    for look, level, exptime_s in zip(open_, levels, exposures, strict=True):
        look.offset_adu = float(level - slope * exptime_s)


def _column_offset(looks: Sequence[Look]) -> Doubles | None:
    """Bias profile along the rows: each column's bulk extrapolated to zero seconds, less the mean offset.

    Columns and slopes of the bias are most of a sensor's fixed pattern; hot columns, whose charge grows
    with time, are none of it.
    """
    open_ = [look for look in looks if look.profile is not None and not look.bias_subtracted]
    if len(open_) < 2:
        return None
    exposures = np.array([look.group.exptime_s for look in open_])
    levels = np.stack([look.profile for look in open_ if look.profile is not None])
    offset = np.polyfit(exposures, levels, 1, w=np.sqrt([look.n * look.n_combined for look in open_]))[1]
    return np.asarray(offset - np.median(offset), np.float64)


def _take_off(look: Look, profile: Doubles) -> None:
    """Remove the bias profile from the lattice and from what surrounds its pixels."""
    nx = profile.size
    edges = block_edges(nx)
    blocks = np.array([np.median(profile[a:b]) for a, b in itertools.pairwise(edges)])
    around = np.repeat(blocks, np.diff(edges))
    look.take_off(profile[look.lattice_column])
    look.lattice_local = look.lattice_local - around[look.lattice_column]


def _hot_zero(look: Look, bias: Look | None) -> Doubles | float:
    """Level of the hot pixels without dark charge, per pixel where bias frames tell it."""
    return (
        look.offset_adu if bias is None or look.bias_subtracted else hot_centre(bias.hot, bias.gain_e_per_adu)
    )


def _hot_excess(look: Look, bias: Look | None, sound: NDArray[np.bool_] | None = None) -> Doubles:
    """Charge of the hot pixels, or of the sound ones, above their surroundings, in ADU, (n frames, n)."""
    levels = [look.hot_local]
    if bias is not None and not look.bias_subtracted:
        levels.append(hot_centre(bias.hot, bias.gain_e_per_adu) - bias.hot_local)
    excess = look.hot.copy() if sound is None else look.hot[:, sound]
    for level in levels:
        excess -= level if sound is None else level[sound]
    return excess


def _bulk_rate(look: Look, bias: Look | None, noise: NoiseModel) -> float:
    zero = look.offset_adu if bias is None or look.bias_subtracted else bias.bulk_adu
    return (look.bulk_adu - zero) * noise.gain_e_per_adu / look.group.exptime_s


def _read_thermometers(look: Look, bias: Look | None, detector: Detector) -> None:
    """Find each frame's rate factor; frames at really another temperature leave the group."""
    g = detector.gain_e_per_adu
    zero = _hot_zero(look, bias)
    floor_e2 = (detector.read_noise_e or 0.0) ** 2 + g * g / 12
    excess_e = _hot_excess(look, bias, look.sound)
    excess_e *= g
    found = frame_factors(excess_e, floor_e2)
    if found is None:
        return
    off_k = np.log(found.factors / np.median(found.factors)) / LOG_RATE_PER_K
    bad = (np.abs(off_k) > _FRAME_OFF_K) & (np.abs(found.factors - 1) > 6 * found.sigmas)
    if bad.any() and not bad.all():
        reason = "its hot pixels show it {:+.2f} K from the other frames"
        look.rejected = tuple(
            (frame.name, reason.format(k)) for frame, k, b in zip(look.frames, off_k, bad, strict=True) if b
        )
        look.keep(~bad)
        _read_thermometers(look, bias, detector)
        return
    look.factors = found
    if found.significant:
        scale = found.factors[:, np.newaxis]
        look.hot = (look.hot - zero) / scale + zero


def _repeats(look: Look, bias: Look | None) -> list[Repeats]:
    """Levels and variances of a group's pixels, if they were repeated."""
    found: list[Repeats] = []
    if look.n < 2 or look.n_combined > 1:
        return found
    for values, which in ((look.lattice, "lattice"), (look.hot[:, look.sound], "hot")):
        if look.clamped and (which == "lattice" or look is bias):
            continue
        variance = values.var(axis=0, ddof=1)
        if look is bias:
            level = np.zeros(variance.size)
        elif which == "lattice":
            zero = look.offset_adu if bias is None or look.bias_subtracted else bias.bulk_adu
            level = np.full(variance.size, look.bulk_adu - zero)
        else:
            zero_hot = _hot_zero(look, bias)
            level = hot_centre(look.hot, look.gain_e_per_adu) - zero_hot
            level = level[look.sound]
        found.append(Repeats(mean_adu=level, variance_adu2=variance, dof=look.n - 1))
    return found


def _noise_from_scatter(noise: NoiseModel, looks: Sequence[Look], bias: Look | None) -> NoiseModel:
    look = bias or looks[0]
    spread_e = robust_sd(look.lattice[0]) * noise.gain_e_per_adu * math.sqrt(look.n_combined)
    return NoiseModel(
        gain_e_per_adu=noise.gain_e_per_adu, read_noise_e=spread_e, adc_step_adu=noise.adc_step_adu
    )


def _hot_rate(look: Look, bias: Look | None, noise: NoiseModel) -> Doubles:
    """Dark current of the hot pixels above their surroundings, e-/s."""
    g = noise.gain_e_per_adu
    return hot_centre(_hot_excess(look, bias), g) * (g / look.group.exptime_s)


def _ratio(
    look: Look, rate: Doubles, reference: Look, reference_rate: Doubles, noise: NoiseModel
) -> RateRatio:
    """Rate of a group relative to the longest exposure's.

    Raises
    ------
    NothingToBuild
        The group is really at another temperature.
    """
    exptime_s = look.group.exptime_s
    sound = look.sound & reference.sound
    charge = np.maximum(reference_rate[sound], 0) * exptime_s + noise.floor_e2
    sigma = np.sqrt(charge / (look.n * look.n_combined)) / exptime_s
    ratio = rate_ratio(rate[sound], sigma, reference_rate[sound])
    if ratio.n_pixels and abs(ratio.temperature_k) > _GROUP_OFF_K and abs(ratio.ratio - 1) > 5 * ratio.sigma:
        names = ", ".join(frame.name for frame in look.frames[:3])
        raise NothingToBuild(
            f"The {exptime_s:g} s frames ({names}{', …' if look.n > 3 else ''}) were taken "
            f"{ratio.temperature_k:+.1f} K from the {reference.group.exptime_s:g} s frames, as their hot "
            "pixels show.",
            next_step="Build from darks of one temperature.",
        )
    return ratio


def _bias_pattern(bias: Look, reference: Look, noise: NoiseModel) -> BiasPattern:
    """Measure how much the bias level differs from pixel to pixel, beyond the noise of its mean."""
    noise_e2 = noise.floor_e2 / (bias.n * bias.n_combined)
    spread_adu = robust_sd(bias.centre() - bias.lattice_local)
    spread_e2 = (spread_adu * noise.gain_e_per_adu) ** 2
    share = max(0.0, 1 - noise_e2 / spread_e2) if spread_e2 > 0 else 1.0
    return BiasPattern(
        share=share,
        spread_adu=spread_adu,
        noise_e2=noise_e2,
        readout_s=0.0 if reference.bias_subtracted else _readout_s(bias, reference),
    )


def _readout_s(bias: Look, reference: Look) -> float:
    """Read off the hot pixels how long bias frames gather charge; 0 where that is not beyond doubt."""
    sound = bias.sound & reference.sound
    levels = hot_centre(bias.hot, bias.gain_e_per_adu) - bias.hot_local
    charges = hot_centre(reference.hot, reference.gain_e_per_adu) - reference.hot_local
    rates = (charges - levels)[sound] / reference.group.exptime_s
    levels = levels[sound]
    bright = rates > 0
    if np.count_nonzero(bright) < _FEWEST_HOT:
        return 0.0
    rates, levels = rates[bright], levels[bright]
    seconds = weighted_median(levels / rates, rates**2)
    scatter = robust_sd(levels - seconds * rates)
    sigma = 1.25 * scatter / math.sqrt(float(np.sum(rates**2)))
    return seconds if seconds > 5 * sigma else 0.0


def _offset_variance(
    looks: Sequence[Look],
    bias: Look | None,
    pattern: BiasPattern | None,
    noise: NoiseModel,
    bulk_e_per_s: float,
) -> float:
    """Variance in e-² of what all exposures of a pixel share besides charge.

    What the bias frames leave unknown of a pixel's level, and what the bulk's dark currents differ by
    between exposures more than the noise model allows: without bias frames, the fixed pattern.
    """
    g = noise.gain_e_per_adu
    with_bias = pattern is not None and not all(look.bias_subtracted for look in looks)
    shared = pattern.left_e2 if pattern is not None and with_bias else 0.0
    reference = looks[-1]
    most = 0.0
    for look in looks[:-1]:
        rates, variance = [], 0.0
        for each in (look, reference):
            exptime_s = each.group.exptime_s
            excess = each.centre() - each.lattice_local
            if bias is not None and pattern is not None and not each.bias_subtracted:
                excess -= pattern.share * (bias.centre() - bias.lattice_local)
            rates.append(excess * g / exptime_s)
            variance += (
                (noise.floor_e2 + bulk_e_per_s * exptime_s) / (each.n * each.n_combined) / exptime_s**2
            )
        lever = (1 / look.group.exptime_s - 1 / reference.group.exptime_s) ** 2
        if lever > 0:
            spread = robust_sd(rates[0] - rates[1]) ** 2
            unexplained = spread - variance - shared * lever
            if unexplained > 4 * spread * math.sqrt(2 / rates[0].size):
                most = max(most, unexplained / lever)
    return shared + most


def _quiet_chi2(looks: Sequence[Look], noise: NoiseModel) -> Doubles:
    floor_adu2 = max(noise.floor_e2, 1e-6) / noise.gain_e_per_adu**2
    total = np.zeros(looks[0].lattice.shape[1])
    for look in looks:
        if look.n > 1:
            total += look.lattice.var(axis=0, ddof=1) * (look.n - 1) * look.n_combined / floor_adu2
    return total


def _calibrated(look: Look, ratio: RateRatio, level_e: float) -> CalibratedGroup:
    factors = look.factors.factors if look.factors is not None and look.factors.significant else None
    return CalibratedGroup(
        exptime_s=look.group.exptime_s,
        frames=look.frames,
        scale=FrameScale(pedestals_adu=look.pedestals_adu, factors=factors),
        n_combined=look.n_combined,
        bias_subtracted=look.bias_subtracted,
        offset_adu=look.offset_adu,
        level_e=level_e,
        ratio=ratio,
        frame_factors=look.factors,
        rejected=look.rejected,
        saturation_adu=look.saturation_adu,
    )
