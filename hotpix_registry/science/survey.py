"""A first look at some rows of every frame: what must be known before each pixel can be judged."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.errors import NothingToBuild
from hotpix_registry.science.combine import Floats, FrameScale, NoiseModel, sort_rows
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
)

BAND_ROWS = 64
"""All work goes by bands of so many rows, whatever the strips that are read."""

_SAMPLE_PIXELS = 1 << 22
_LATTICE_PIXELS = 1 << 16
_HOT_PIXELS = 60_000
_MOST_VALUES = 6_000_000
_MEDIAN_OF = 9
_FRAME_OFF_K = 0.5
_CLAMPED_SHARE = 0.02
_COLOURS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""(y, x) of the four pixels of a Bayer cell"""
_FEWEST_PROFILE_ROWS = 256
_GROUP_OFF_K = 3.0


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
    warnings: tuple[str, ...] = ()


def bands(ny: int) -> list[tuple[int, int]]:
    """Half-open ranges of rows, `BAND_ROWS` high; what is left over joins the last one if it is short."""
    starts = list(range(0, max(1, ny - BAND_ROWS // 4), BAND_ROWS))
    return list(zip(starts, [*starts[1:], ny], strict=True))


def sample_bands(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Bands spread evenly over the sensor, about four million pixels in all."""
    every = bands(shape[0])
    wanted = max(1, math.ceil(_SAMPLE_PIXELS / (BAND_ROWS * shape[1])))
    if wanted >= len(every):
        return every
    return [every[(2 * i + 1) * len(every) // (2 * wanted)] for i in range(wanted)]


def to_adu(frame: DarkFrame, exptime_s: float, gain_e_per_adu: float) -> float:
    """Factor that brings a frame's own unit to ADU."""
    match frame.unit:
        case "adu":
            return 1.0
        case "electron":
            return 1 / gain_e_per_adu
        case "adu/s":
            return exptime_s
        case "electron/s":
            return exptime_s / gain_e_per_adu
    raise ValueError(f"unknown unit {frame.unit!r}")


def read_stack(
    frames: Sequence[DarkFrame], exptime_s: float, gain_e_per_adu: float, y0: int, y1: int
) -> NDArray[Any]:
    """Rows `y0` to `y1` of frames, (n, y1 - y0, nx) [ADU]; uint16 where all hold that, else float32."""
    strips = [frame.rows.read(y0, y1) for frame in frames]
    factors = [to_adu(frame, exptime_s, gain_e_per_adu) for frame in frames]
    dtype = np.uint16 if all(s.dtype == np.uint16 for s in strips) and set(factors) == {1.0} else np.float32
    stack = np.empty((len(strips), *strips[0].shape), dtype)
    for out, strip, factor in zip(stack, strips, factors, strict=True):
        out[...] = strip
        if factor != 1.0:
            out *= np.float32(factor)
    return stack


# --- blocks ---------------------------------------------------------------------


def block_edges(size: int) -> NDArray[np.intp]:
    """Edges that divide rows or columns into blocks about as long as a band is high."""
    return np.linspace(0, size, max(1, round(size / BAND_ROWS)) + 1).astype(np.intp)


def block_medians(values: Floats, colours: bool) -> Floats:
    """Medians of one band in blocks along x, (4 or 1, n blocks), each Bayer colour for itself.

    Every other row is enough: the median of 2048 pixels is known to 3 % of their scatter.
    """
    edges = block_edges(values.shape[1])
    width = int(np.diff(edges).min())
    if not colours or min(values.shape[0], width) < 4:
        rows = values[::2] if values.shape[0] > 16 else values
        inside = rows[:, edges[:-1, np.newaxis] + np.arange(width)]
        medians = np.median(np.moveaxis(inside, 1, 0).reshape(edges.size - 1, -1), axis=1)
        return np.repeat(medians[np.newaxis], 4 if colours else 1, axis=0)
    starts = (edges[:-1] + 1) // 2 * 2
    steps = np.arange(0, width - 2, 2)
    planes = []
    for dy, dx in _COLOURS:
        inside = values[dy::2, starts[:, np.newaxis] + dx + steps]
        planes.append(np.median(np.moveaxis(inside, 1, 0).reshape(starts.size, -1), axis=1))
    return np.stack(planes)


def spread_blocks(medians: Floats, shape: tuple[int, int]) -> Floats:
    """Each pixel's block median, as (rows, nx) float32."""
    widths = np.diff(block_edges(shape[1]))
    if medians.shape[0] == 1:
        return np.broadcast_to(np.repeat(medians[0], widths), shape)
    rows = np.repeat(medians, widths, axis=1)
    out = np.empty(shape, np.float32)
    for i, (dy, dx) in enumerate(_COLOURS):
        out[dy::2, dx::2] = rows[i, dx::2]
    return out


# --- the sample -------------------------------------------------------------------


@dataclass(slots=True)
class _Look:
    """What the sample shows of one group; (n frames, n pixels) arrays in ADU."""

    group: ExposureGroup
    frames: tuple[DarkFrame, ...]
    lattice: Doubles
    hot: Doubles
    sound: NDArray[np.bool_]
    """hot pixels that are saturated in no frame"""
    lattice_column: NDArray[np.intp]
    profile: Doubles | None
    """(nx,) medians of the columns above the pedestal"""
    lattice_local: Doubles
    """level of the bulk around each pixel, above the pedestal"""
    hot_local: Doubles
    clamped: bool
    """the converter cuts off what lies below the black level"""
    saturation_adu: float
    pedestals_adu: Doubles
    factors: FrameFactors | None = None
    rejected: tuple[tuple[str, str], ...] = ()
    offset_adu: float = 0.0

    @property
    def n(self) -> int:
        return len(self.frames)

    @property
    def n_combined(self) -> int:
        return min(frame.n_combined for frame in self.frames)

    @property
    def bias_subtracted(self) -> bool:
        return all(frame.bias_subtracted for frame in self.frames)

    @property
    def bulk_adu(self) -> float:
        return float(np.median(_centre(self.lattice)))

    def keep(self, kept: NDArray[np.bool_]) -> None:
        self.frames = tuple(frame for frame, keep in zip(self.frames, kept, strict=True) if keep)
        self.lattice, self.hot = self.lattice[kept], self.hot[kept]
        self.pedestals_adu = self.pedestals_adu[kept]


def survey(
    groups: Sequence[ExposureGroup],
    biases: ExposureGroup | None,
    detector: Detector,
    progress: Callable[[], None],
) -> Survey:
    """Read some bands of all frames and measure noise, pedestals, rate factors and offsets.

    Raises
    ------
    NothingToBuild
        A group is really at another temperature.
    """
    shape = groups[0].frames[0].rows.shape
    ordered = sorted(groups, key=lambda group: group.exptime_s)
    looks = _gather([*ordered, *([biases] if biases else [])], shape, detector, progress)
    bias = looks.pop() if biases else None

    bias_method = _bias_method(looks, bias)
    if bias_method == "scalar offset":
        _set_scalar_offsets(looks)
    for look in looks:
        _read_thermometers(look, bias, detector)

    transfer = photon_transfer(_repeats(looks, bias), detector.adc_step_adu, detector.gain_e_per_adu)
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
    ratios = [_ratio(look, reference, bias, noise) for look in looks[:-1]] + [RateRatio()]
    return Survey(
        shape=shape,
        groups=tuple(
            _calibrated(look, ratio, bulk_e_per_s * look.group.exptime_s)
            for look, ratio in zip(looks, ratios, strict=True)
        ),
        biases=None if bias is None else _calibrated(bias, RateRatio(), 0.0),
        noise=noise,
        transfer=transfer,
        bias_method=bias_method,
        offset_variance_e2=_offset_variance(looks, bias, noise, bulk_e_per_s),
        bulk_e_per_s=bulk_e_per_s,
        quiet_chi2=_quiet_chi2([*looks, *([bias] if bias else [])], noise),
        bias_level_adu=math.nan if bias is None else bias.bulk_adu,
        column_offset_adu=None if profile is None else profile.astype(np.float32),
        offset_sd_adu=math.nan if bias is None else robust_sd(_centre(bias.lattice)),
        warnings=tuple(warnings),
    )


def _gather(
    groups: Sequence[ExposureGroup],
    shape: tuple[int, int],
    detector: Detector,
    progress: Callable[[], None],
) -> list[_Look]:
    """Read the sample: a lattice of pixels for the bulk, and the hot pixels of the longest exposure."""
    chosen = sample_bands(shape)
    n_values = sum(len(group.frames) for group in groups)
    n_pixels = sum(y1 - y0 for y0, y1 in chosen) * shape[1]
    stride = max(1, n_pixels // min(_LATTICE_PIXELS, max(1, _MOST_VALUES // n_values))) | 1
    most_hot = max(1, min(_HOT_PIXELS, _MOST_VALUES // n_values) // len(chosen))
    longest = int(np.argmax([group.exptime_s for group in groups]))
    frames = [tuple(sorted(group.frames, key=lambda frame: frame.name)) for group in groups]
    lattice: list[list[Floats]] = [[] for _ in groups]
    hot: list[list[Floats]] = [[] for _ in groups]
    lattice_local: list[list[Floats]] = [[] for _ in groups]
    profiles: list[list[Floats]] = [[] for _ in groups]
    columns: list[NDArray[np.intp]] = []
    hot_local: list[list[Floats]] = [[] for _ in groups]
    peaks: list[list[Floats]] = [[] for _ in groups]
    profiled = groups[-1].exptime_s > 0 and sum(y1 - y0 for y0, y1 in chosen) >= _FEWEST_PROFILE_ROWS
    phase = 0
    for y0, y1 in chosen:
        stacks = []
        for members, group in zip(frames, groups, strict=True):
            stacks.append(read_stack(members, group.exptime_s, detector.gain_e_per_adu, y0, y1))
            progress()
        where = _hot_pixels(stacks[longest], most_hot, detector.bayer_pattern is not None)
        every = np.arange(phase, stacks[0][0].size, stride)
        phase = (phase - stacks[0][0].size) % stride
        columns.append(every % shape[1])
        for i, stack in enumerate(stacks):
            flat = stack.reshape(len(stack), -1)
            lattice[i].append(flat[:, every].astype(np.float32))
            hot[i].append(flat[:, where].astype(np.float32))
            mean = np.nan_to_num(stack[:_MEDIAN_OF].mean(axis=0, dtype=np.float32))
            blocks = block_medians(mean, detector.bayer_pattern is not None)
            if profiled:
                profiles[i].append(np.median(mean, axis=0))
            around = spread_blocks(blocks, mean.shape).reshape(-1)
            lattice_local[i].append(around[every])
            hot_local[i].append(around[where])
            if groups[i].frames[0].n_combined > 1:
                top = np.nan_to_num(flat, nan=-np.inf, posinf=-np.inf).max(axis=0)
                peaks[i].append(np.sort(top)[-8:].astype(np.float32))
    ceilings = [_ceiling(group, peak, detector) for group, peak in zip(groups, peaks, strict=True)]
    raw_lattice = [np.concatenate(values, axis=1).astype(np.float64) for values in lattice]
    usable = np.ones(raw_lattice[0].shape[1], np.bool_)
    for group, raw, ceiling in zip(groups, raw_lattice, ceilings, strict=True):
        usable &= np.all(np.isfinite(raw) & (raw < ceiling), axis=0)
        if not usable.any():
            names = ", ".join(frame.name for frame in group.frames[:3])
            raise NothingToBuild(
                f"The {group.exptime_s:g} s frames ({names}) hold no unsaturated pixels.",
                next_step="Exclude them, or check the camera's saturation level.",
            )
    looks = []
    for i, (group, ceiling) in enumerate(zip(groups, ceilings, strict=True)):
        raw_hot = np.concatenate(hot[i], axis=1).astype(np.float64)
        raw = raw_lattice[i][:, usable]
        pedestals = _pedestals(group, frames[i], raw, detector)
        seen = pedestals[:_MEDIAN_OF].mean()
        looks.append(
            _Look(
                group=group,
                frames=frames[i],
                lattice=raw - pedestals[:, np.newaxis],
                hot=np.nan_to_num(raw_hot) - pedestals[:, np.newaxis],
                sound=np.all(raw_hot < ceiling, axis=0),
                lattice_column=np.concatenate(columns)[usable],
                profile=np.median(profiles[i], axis=0).astype(np.float64) - seen if profiled else None,
                lattice_local=np.concatenate(lattice_local[i]).astype(np.float64)[usable] - seen,
                hot_local=np.concatenate(hot_local[i]).astype(np.float64) - seen,
                clamped=bool(np.mean(raw == raw.min()) > _CLAMPED_SHARE),
                saturation_adu=ceiling,
                pedestals_adu=pedestals,
            )
        )
    return looks


def _hot_pixels(stack: NDArray[Any], most: int, colours: bool) -> NDArray[np.intp]:
    """Flat indices of the pixels far above their surroundings, the hottest if there are too many."""
    rows = [row.astype(np.float32).reshape(-1) for row in stack[:_MEDIAN_OF]]
    sort_rows(rows)
    middle = np.nan_to_num(rows[(len(rows) - 1) // 2].reshape(stack.shape[1:]))
    excess = (middle - spread_blocks(block_medians(middle, colours), middle.shape)).reshape(-1)
    least = 8 * max(robust_sd(excess[::7]), 1e-3)
    hot = np.flatnonzero(excess > least)
    # within a block glow may rise by more than that, but not from a pixel to the next ones in its row
    y, x = np.divmod(hot, middle.shape[1])
    neighbours = [middle[y, np.clip(x + step, 0, middle.shape[1] - 1)] for step in (-4, -2, 2, 4)]
    hot = hot[middle[y, x] - np.median(neighbours, axis=0) > least]
    if hot.size > most:
        hot = hot[np.argsort(-excess[hot], kind="stable")[:most]]
    return np.sort(hot)


def _ceiling(group: ExposureGroup, peaks: list[Floats], detector: Detector) -> float:
    """Level of saturation; in a master it is known only by the plateau of its highest pixels."""
    if not peaks:
        return detector.saturation_adu
    if not any(frame.bias_subtracted for frame in group.frames):
        return 0.995 * detector.saturation_adu
    highest = np.sort(np.concatenate(peaks))[-8:]
    if highest[-1] > 0.4 * detector.saturation_adu and highest[0] > 0.985 * highest[-1]:
        return float(0.98 * highest[0])
    return math.inf


def _pedestals(
    group: ExposureGroup, frames: Sequence[DarkFrame], lattice: Doubles, detector: Detector
) -> Doubles:
    """Pedestals from the overscan; without one, what the frame's bulk differs from the group's by."""
    known = [frame.pedestal for frame in frames]
    if all(pedestal is not None for pedestal in known):
        factors = [to_adu(frame, group.exptime_s, detector.gain_e_per_adu) for frame in frames]
        return np.array([p * f for p, f in zip(known, factors, strict=True) if p is not None])
    drift = np.median(lattice - _centre(lattice), axis=1)
    return np.asarray(drift - drift.mean(), np.float64)


def _centre(values: Doubles) -> Doubles:
    """Mean of the frames without cosmic-ray hits, for pixels of one level and so of one noise."""
    if values.shape[0] < 3 or values.size == 0:
        return np.asarray(values.mean(axis=0), np.float64)
    deviation = values - np.median(values, axis=0)
    hit = deviation > 6 * 1.4826 * np.median(np.abs(deviation))
    return np.asarray(np.where(hit, 0.0, values).sum(axis=0) / (~hit).sum(axis=0), np.float64)


def _hot_centre(values: Doubles) -> Doubles:
    """Mean of the frames without the highest and as many of the lowest: blind to hits, biased to no side."""
    n = values.shape[0]
    drop = 0 if n < 3 else 1 if n < 15 else 2
    return np.asarray(np.sort(values, axis=0)[drop : n - drop].mean(axis=0), np.float64)


def _bias_method(looks: Sequence[_Look], bias: _Look | None) -> str:
    if all(look.bias_subtracted for look in looks):
        return "already subtracted"
    if bias is not None:
        return "bias frames"
    if all(f.pedestal is not None or f.bias_subtracted for look in looks for f in look.frames):
        return "overscan"
    return "scalar offset"


def _set_scalar_offsets(looks: Sequence[_Look]) -> None:
    """Read dark current and offsets off the bulk: a line against exposure time, and what is left."""
    open_ = [look for look in looks if not look.bias_subtracted]
    exposures = np.array([look.group.exptime_s for look in open_])
    levels = np.array([look.bulk_adu for look in open_])
    slope = max(0.0, float(np.polyfit(exposures, levels, 1)[0])) if len(open_) > 1 else 0.0
    for look, level, exptime_s in zip(open_, levels, exposures, strict=True):
        look.offset_adu = float(level - slope * exptime_s)


def _column_offset(looks: Sequence[_Look]) -> Doubles | None:
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


def _take_off(look: _Look, profile: Doubles) -> None:
    """Remove the bias profile from the lattice and from what surrounds its pixels."""
    nx = profile.size
    edges = block_edges(nx)
    blocks = np.array([np.median(profile[a:b]) for a, b in itertools.pairwise(edges)])
    around = np.repeat(blocks, np.diff(edges))
    look.lattice = look.lattice - profile[look.lattice_column]
    look.lattice_local = look.lattice_local - around[look.lattice_column]


def _hot_zero(look: _Look, bias: _Look | None) -> Doubles | float:
    """Level of the hot pixels without dark charge, per pixel where bias frames tell it."""
    return look.offset_adu if bias is None or look.bias_subtracted else _hot_centre(bias.hot)


def _hot_excess(look: _Look, bias: _Look | None) -> Doubles:
    """Charge of the hot pixels above their surroundings, in ADU, (n frames, n pixels)."""
    excess = look.hot - look.hot_local
    if bias is not None and not look.bias_subtracted:
        excess -= _hot_centre(bias.hot) - bias.hot_local
    return excess


def _bulk_rate(look: _Look, bias: _Look | None, noise: NoiseModel) -> float:
    zero = look.offset_adu if bias is None or look.bias_subtracted else bias.bulk_adu
    return (look.bulk_adu - zero) * noise.gain_e_per_adu / look.group.exptime_s


def _read_thermometers(look: _Look, bias: _Look | None, detector: Detector) -> None:
    """Find each frame's rate factor; frames at really another temperature leave the group."""
    g = detector.gain_e_per_adu
    zero = _hot_zero(look, bias)
    floor_e2 = (detector.read_noise_e or 0.0) ** 2 + g * g / 12
    found = frame_factors((_hot_excess(look, bias) * g)[:, look.sound], floor_e2)
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


def _repeats(looks: Sequence[_Look], bias: _Look | None) -> list[Repeats]:
    """Levels and variances of all pixels that were repeated three times and more."""
    found = []
    for look in [*looks, *([bias] if bias else [])]:
        if look.n < 3 or look.n_combined > 1:
            continue
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
                level = _hot_centre(look.hot) - zero_hot
                level = level[look.sound]
            found.append(Repeats(mean_adu=level, variance_adu2=variance, dof=look.n - 1))
    return found


def _noise_from_scatter(noise: NoiseModel, looks: Sequence[_Look], bias: _Look | None) -> NoiseModel:
    look = bias or looks[0]
    spread_e = robust_sd(look.lattice[0]) * noise.gain_e_per_adu * math.sqrt(look.n_combined)
    return NoiseModel(
        gain_e_per_adu=noise.gain_e_per_adu, read_noise_e=spread_e, adc_step_adu=noise.adc_step_adu
    )


def _ratio(look: _Look, reference: _Look, bias: _Look | None, noise: NoiseModel) -> RateRatio:
    """Rate of a group relative to the longest exposure's.

    Raises
    ------
    NothingToBuild
        The group is really at another temperature.
    """
    g, exptime_s = noise.gain_e_per_adu, look.group.exptime_s
    sound = look.sound & reference.sound
    rates = [
        (_hot_centre(_hot_excess(each, bias)) * g / each.group.exptime_s)[sound] for each in (look, reference)
    ]
    charge = np.maximum(rates[1], 0) * exptime_s + noise.floor_e2
    sigma = np.sqrt(charge / (look.n * look.n_combined)) / exptime_s
    ratio = rate_ratio(rates[0], sigma, rates[1])
    if ratio.n_pixels and abs(ratio.temperature_k) > _GROUP_OFF_K and abs(ratio.ratio - 1) > 5 * ratio.sigma:
        names = ", ".join(frame.name for frame in look.frames[:3])
        raise NothingToBuild(
            f"The {exptime_s:g} s frames ({names}{', …' if look.n > 3 else ''}) were taken "
            f"{ratio.temperature_k:+.1f} K from the {reference.group.exptime_s:g} s frames, as their hot "
            "pixels show.",
            next_step="Build from darks of one temperature.",
        )
    return ratio


def _offset_variance(
    looks: Sequence[_Look], bias: _Look | None, noise: NoiseModel, bulk_e_per_s: float
) -> float:
    """Variance in e-² of what all exposures of a pixel share besides charge.

    The noise of the master bias, and what the bulk's dark currents differ by between exposures more
    than the noise model allows: without bias frames, the fixed pattern.
    """
    g = noise.gain_e_per_adu
    with_bias = bias is not None and not all(look.bias_subtracted for look in looks)
    shared = noise.floor_e2 / (bias.n * bias.n_combined) if bias is not None and with_bias else 0.0
    reference = looks[-1]
    most = 0.0
    for look in looks[:-1]:
        rates, variance = [], 0.0
        for each in (look, reference):
            exptime_s = each.group.exptime_s
            excess = _centre(each.lattice) - each.lattice_local
            if bias is not None and not each.bias_subtracted:
                excess -= _centre(bias.lattice) - bias.lattice_local
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


def _quiet_chi2(looks: Sequence[_Look], noise: NoiseModel) -> Doubles:
    floor_adu2 = max(noise.floor_e2, 1e-6) / noise.gain_e_per_adu**2
    total = np.zeros(looks[0].lattice.shape[1])
    for look in looks:
        if look.n > 1:
            total += look.lattice.var(axis=0, ddof=1) * (look.n - 1) * look.n_combined / floor_adu2
    return total


def _calibrated(look: _Look, ratio: RateRatio, level_e: float) -> CalibratedGroup:
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
