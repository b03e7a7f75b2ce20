"""A sample of all frames: some rows of each, of which chosen pixels are kept."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.errors import NothingToBuild
from hotpix_registry.science.combine import Floats
from hotpix_registry.science.forks import can_fork, in_order
from hotpix_registry.science.inputs import DarkFrame, Detector, ExposureGroup
from hotpix_registry.science.noise import Doubles, FrameFactors, robust_sd
from hotpix_registry.science.ranks import median, ranked, row_median
from hotpix_registry.science.strips import (
    BAND_ROWS,
    are_streams,
    bands,
    block_medians,
    read_stack,
    spread_blocks,
    to_adu,
)
from hotpix_registry.work import processors

_SAMPLE_PIXELS = 1 << 22
_LATTICE_PIXELS = 1 << 16
_HOT_PIXELS = 60_000
_MOST_VALUES = 2_000_000
_MOST_BYTES = 16 << 20
_MEDIAN_OF = 9
_CLAMPED_SHARE = 0.02
_FEWEST_PROFILE_ROWS = 256


@dataclass(slots=True)
class Look:
    """What the sample shows of one group; (n frames, n pixels) arrays in ADU."""

    group: ExposureGroup
    frames: tuple[DarkFrame, ...]
    gain_e_per_adu: float
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
    _centre: tuple[Doubles, Doubles] | None = None

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
        return float(row_median(self.centre()))

    def centre(self) -> Doubles:
        """Mean of the lattice's frames without cosmic-ray hits; (n pixels,), computed once."""
        if self._centre is None or self._centre[0] is not self.lattice:
            self._centre = self.lattice, centre(self.lattice)
        return self._centre[1]

    def take_off(self, level_adu: Doubles) -> None:
        """Lower the lattice's pixels in all frames alike, which makes nothing more or less of a hit."""
        middle = self.centre() - level_adu
        self.lattice = self.lattice - level_adu
        self._centre = self.lattice, middle

    def keep(self, kept: NDArray[np.bool_]) -> None:
        self.frames = tuple(frame for frame, keep in zip(self.frames, kept, strict=True) if keep)
        self.lattice, self.hot = self.lattice[kept], self.hot[kept]
        self.pedestals_adu = self.pedestals_adu[kept]


def sample_bands(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Bands spread evenly over the sensor, about four million pixels in all."""
    every = bands(shape[0])
    wanted = max(1, math.ceil(_SAMPLE_PIXELS / (BAND_ROWS * shape[1])))
    if wanted >= len(every):
        return every
    return [every[(2 * i + 1) * len(every) // (2 * wanted)] for i in range(wanted)]


def gather(
    groups: Sequence[ExposureGroup],
    shape: tuple[int, int],
    detector: Detector,
    progress: Callable[[], None],
    workers: int,
) -> list[Look]:
    """Read the sample: a lattice of pixels for the bulk, and the hot pixels of the longest exposure."""
    n_values = sum(len(group.frames) for group in groups)
    rows = max(8, _MOST_BYTES // (2 * n_values * shape[1]))
    chosen = [(y0, min(y1, y0 + rows)) for y0, y1 in sample_bands(shape)]
    n_pixels = sum(y1 - y0 for y0, y1 in chosen) * shape[1]
    stride = max(1, n_pixels // min(_LATTICE_PIXELS, max(1, _MOST_VALUES // n_values))) | 1
    sampling = _Sampling(
        longest=int(np.argmax([group.exptime_s for group in groups])),
        most_hot=max(1, min(_HOT_PIXELS, _MOST_VALUES // n_values) // len(chosen)),
        colours=detector.bayer_pattern is not None,
        profiled=groups[-1].exptime_s > 0 and sum(y1 - y0 for y0, y1 in chosen) >= _FEWEST_PROFILE_ROWS,
    )
    frames = [tuple(sorted(group.frames, key=lambda frame: frame.name)) for group in groups]
    pixels: list[NDArray[np.intp]] = []
    phase = 0
    for y0, y1 in chosen:
        size = (y1 - y0) * shape[1]
        pixels.append(np.arange(phase, size, stride))
        phase = (phase - size) % stride
    views = [_View(*rows, lattice) for rows, lattice in zip(chosen, pixels, strict=True)]
    parts = []
    for part in _looks(groups, frames, views, sampling, detector, workers):
        parts.append(part)
        for _ in groups:
            progress()
    by_group = list(zip(*parts, strict=True))
    peaks = [[part.peak for part in of_group] for of_group in by_group]
    ceilings = [_ceiling(group, peak, detector) for group, peak in zip(groups, peaks, strict=True)]
    raw_lattice = [np.concatenate([part.lattice for part in of_group], axis=1) for of_group in by_group]
    usable = np.ones(raw_lattice[0].shape[1], np.bool_)
    for group, raw, ceiling in zip(groups, raw_lattice, ceilings, strict=True):
        usable &= np.all(np.isfinite(raw) & (raw < ceiling), axis=0)
        if not usable.any():
            names = ", ".join(frame.name for frame in group.frames[:3])
            raise NothingToBuild(
                f"The {group.exptime_s:g} s frames ({names}) hold no unsaturated pixels.",
                next_step="Exclude them, or check the camera's saturation level.",
            )
    columns = np.concatenate(pixels)[usable] % shape[1]
    lattices = [raw[:, usable].astype(np.float64) for raw in raw_lattice]
    del raw_lattice

    def look_of(i: int) -> Look:
        return _look_of(
            groups[i], frames[i], by_group[i], lattices[i], usable, columns, ceilings[i], detector
        )

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(look_of, range(len(groups))))


def _look_of(
    group: ExposureGroup,
    frames: tuple[DarkFrame, ...],
    parts: Sequence[_Part],
    lattice: Doubles,
    usable: NDArray[np.bool_],
    columns: NDArray[np.intp],
    ceiling: float,
    detector: Detector,
) -> Look:
    clamped = bool(np.mean(lattice == lattice.min()) > _CLAMPED_SHARE)
    pedestals = _pedestals(group, frames, lattice, detector)
    seen = pedestals[:_MEDIAN_OF].mean()
    lattice -= pedestals[:, np.newaxis]
    raw_hot = np.concatenate([part.hot for part in parts], axis=1)
    sound = np.all(raw_hot < ceiling, axis=0)
    hot = np.nan_to_num(raw_hot.astype(np.float64), copy=False)
    del raw_hot
    hot -= pedestals[:, np.newaxis]
    return Look(
        group=group,
        frames=frames,
        gain_e_per_adu=detector.gain_e_per_adu,
        lattice=lattice,
        hot=hot,
        sound=sound,
        lattice_column=columns,
        profile=_profile(parts, seen),
        lattice_local=_joined([part.lattice_local for part in parts])[usable] - seen,
        hot_local=_joined([part.hot_local for part in parts]) - seen,
        clamped=clamped,
        saturation_adu=ceiling,
        pedestals_adu=pedestals,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sampling:
    longest: int
    """position of the group whose hot pixels are looked at"""
    most_hot: int
    colours: bool
    profiled: bool


class _View(NamedTuple):
    """Rows that are looked at."""

    y0: int
    y1: int
    lattice: NDArray[np.intp]
    """flat indices of the pixels that are kept whatever they are"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What one band shows of a group."""

    lattice: Floats
    hot: Floats
    lattice_local: Floats
    hot_local: Floats
    profile: Floats | None
    peak: Floats
    """highest values of master darks; none for frames, whose converter has a known end"""


def _looks(
    groups: Sequence[ExposureGroup],
    frames: Sequence[Sequence[DarkFrame]],
    views: Sequence[_View],
    sampling: _Sampling,
    detector: Detector,
    workers: int,
) -> Iterator[list[_Part]]:
    """What each view shows of all groups, in order, by so many processes; streams are read by threads."""

    def stacks_of(view: _View, readers: Executor | None = None) -> list[list[NDArray[Any]]]:
        return [
            read_stack(members, group.exptime_s, detector.gain_e_per_adu, view.y0, view.y1, readers)
            for members, group in zip(frames, groups, strict=True)
        ]

    def look(view: _View) -> list[_Part]:
        return _look_at(stacks_of(view), groups, view.lattice, sampling)

    if can_fork() and not any(map(are_streams, frames)):
        yield from in_order(look, views, workers)
        return
    with ThreadPoolExecutor(processors()) as readers, ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[list[_Part]]] = deque()
        for view in views:
            stacks = stacks_of(view, readers)
            if len(waiting) >= workers:
                yield waiting.popleft().result()
            waiting.append(pool.submit(_look_at, stacks, groups, view.lattice, sampling))
            del stacks
        while waiting:
            yield waiting.popleft().result()


def _look_at(
    stacks: Sequence[Sequence[NDArray[Any]]],
    groups: Sequence[ExposureGroup],
    every: NDArray[np.intp],
    sampling: _Sampling,
) -> list[_Part]:
    where = _hot_pixels(stacks[sampling.longest], sampling.most_hot, sampling.colours)
    parts = []
    for stack, group in zip(stacks, groups, strict=True):
        flat = [strip.reshape(-1) for strip in stack]
        mean = _mean_of_some(stack)
        around = spread_blocks(block_medians(mean, sampling.colours), mean.shape).reshape(-1)
        peak = np.empty(0, np.float32)
        if group.frames[0].n_combined > 1:
            top = np.nan_to_num(np.stack(flat), nan=-np.inf, posinf=-np.inf).max(axis=0)
            peak = np.sort(top)[-8:].astype(np.float32)
        parts.append(
            _Part(
                lattice=np.stack([strip[every] for strip in flat]).astype(np.float32),
                hot=np.stack([strip[where] for strip in flat]).astype(np.float32),
                lattice_local=around[every],
                hot_local=around[where],
                profile=median(mean) if sampling.profiled else None,
                peak=peak,
            )
        )
    return parts


def _profile(parts: Sequence[_Part], seen_adu: float) -> Doubles | None:
    medians = [part.profile for part in parts if part.profile is not None]
    return median(medians).astype(np.float64) - seen_adu if medians else None


def _joined(values: Sequence[Floats]) -> Doubles:
    return np.concatenate(values).astype(np.float64)


def _mean_of_some(stack: Sequence[NDArray[Any]]) -> Floats:
    total = stack[0].astype(np.uint32 if stack[0].dtype == np.uint16 else np.float32)
    some = stack[:_MEDIAN_OF]
    for strip in some[1:]:
        total += strip
    mean: Floats = np.nan_to_num(total.astype(np.float32) / np.float32(len(some)))
    return mean


def _hot_pixels(stack: Sequence[NDArray[Any]], most: int, colours: bool) -> NDArray[np.intp]:
    """Flat indices of the pixels far above their surroundings, the hottest if there are too many."""
    rows = stack[:_MEDIAN_OF]
    half = (len(rows) - 1) // 2
    middle = np.nan_to_num(ranked(rows, {half})[half].astype(np.float32))
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


def _ceiling(group: ExposureGroup, peaks: Sequence[Floats], detector: Detector) -> float:
    """Level of saturation; in a master it is known only by the plateau of its highest pixels."""
    if group.frames[0].n_combined == 1:
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
    drift = np.median(lattice - centre(lattice), axis=1, overwrite_input=True)
    return np.asarray(drift - drift.mean(), np.float64)


def centre(values: Doubles) -> Doubles:
    """Mean of the frames without cosmic-ray hits, for pixels of one level and so of one noise."""
    if values.shape[0] < 3 or values.size == 0:
        return np.asarray(values.mean(axis=0), np.float64)
    reach = 6 * _frame_noise(values)
    hit = values - median(values) > reach
    return np.asarray(values.mean(axis=0, where=~hit), np.float64)


def hot_centre(values: Doubles, gain_e_per_adu: float) -> Doubles:
    """The same for pixels of any level, whose noise grows with it; trimming would cut Poisson's tail."""
    if values.shape[0] < 3 or values.size == 0:
        return np.asarray(values.mean(axis=0), np.float64)
    floor = _frame_noise(values)
    middle = median(values)
    above = np.maximum(middle - np.median(middle), 0.0)
    hit = values - middle > 6 * np.sqrt(floor**2 + above / gain_e_per_adu)
    return np.asarray(values.mean(axis=0, where=~hit), np.float64)


def _frame_noise(values: Doubles) -> float:
    """Noise of one value, from the differences of frames: about a median of three frames one is always 0."""
    steps = np.diff(values, axis=0).reshape(-1)
    return float(1.4826 / math.sqrt(2) * row_median(np.abs(steps, out=steps), overwrite=True))
