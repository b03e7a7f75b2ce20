"""How others choose bad pixels from darks, written anew from their published rules.

Every rule takes the same `Darks` and returns a mask as (ny, nx) bool, True = bad.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import ccdproc
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hotpix_registry.science.inputs import Detector, ExposureGroup

Mask = NDArray[np.bool_]
_STRIP_ROWS = 64


@dataclass(frozen=True)
class DarkStack:
    """The frames of one exposure time, as others see them: in electrons, pedestal removed."""

    group: ExposureGroup
    detector: Detector

    @property
    def exptime_s(self) -> float:
        return self.group.exptime_s

    @property
    def shape(self) -> tuple[int, int]:
        return self.group.frames[0].rows.shape

    def electrons(self, y0: int, y1: int) -> NDArray[np.float32]:
        """Return a strip of every frame as (n, y1 - y0, nx) float32 [e-]."""
        frames = []
        for frame in self.group.frames:
            rows = frame.rows.read(y0, y1)
            pedestal = np.median(rows) if frame.pedestal is None else frame.pedestal
            frames.append((rows - np.float32(pedestal)) * np.float32(self.detector.gain_e_per_adu))
        return np.stack(frames)

    def strips(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        ny = self.shape[0]
        for y0 in range(0, ny, _STRIP_ROWS):
            y1 = min(y0 + _STRIP_ROWS, ny)
            yield slice(y0, y1), self.electrons(y0, y1)

    def frames(self) -> Iterator[NDArray[np.float32]]:
        for frame in self.group.frames:
            alone = DarkStack(ExposureGroup(exptime_s=self.exptime_s, frames=(frame,)), self.detector)
            yield alone.electrons(0, self.shape[0])[0]

    @cached_property
    def master(self) -> NDArray[np.float32]:
        """Mean of the frames within 5 MAD of their median, as the guide combines them [e-]."""
        master = np.empty(self.shape, np.float32)
        for rows, stack in self.strips():
            deviation = np.abs(stack - np.median(stack, axis=0))
            spread = np.median(deviation, axis=0) * np.float32(1.4826)
            keep = deviation <= 5 * spread
            master[rows] = np.sum(stack * keep, axis=0) / np.maximum(keep.sum(axis=0), 1)
        return master

    @property
    def dark_current(self) -> NDArray[np.float32]:
        return self.master / np.float32(self.exptime_s)


@dataclass(frozen=True)
class Darks:
    """What every rule is given; biases only matter to the line fit."""

    short: DarkStack
    long: DarkStack
    bias: DarkStack
    detector: Detector


def guide(darks: Darks) -> Mask:
    """astropy CCD reduction guide, "Identifying hot pixels": 90 s dark current above 4 e-/s."""
    return np.asarray(darks.short.dark_current > 4)


def rule_of_thumb(darks: Darks) -> Mask:
    """The guide's cut-off for a single exposure: above 1 e-/s."""
    return np.asarray(darks.short.dark_current > 1)


def lco(darks: Darks) -> Mask:
    """LCO pixel-mask-gen: dark current above 35 e-/s, the default of its command."""
    return np.asarray(darks.short.dark_current > 35)


def lsst_value(darks: Darks) -> Mask:
    """LSST cp_pipe with a threshold in e-/s: above 5 in at least 70 % of the long darks."""
    return _in_most_frames(darks.long, lambda frame: frame > 5 * darks.long.exptime_s)


def lsst_sigma(darks: Darks) -> Mask:
    """LSST cp_pipe: 4.8 clipped standard deviations above the clipped mean, in 70 % of the frames.

    Columns with 50 and more bad pixels are filled between those less than 30 apart, frame by frame.
    """

    def bright(frame: NDArray[np.float32]) -> Mask:
        mean, sd = _clipped_mean_and_sd(frame, n_sigma=3)
        return _fill_columns(frame > mean + 4.8 * sd)

    return _in_most_frames(darks.long, bright)


def jwst_noisy(darks: Darks) -> Mask:
    """After jwst_reffiles: standard deviation over the frames above its mean by 5 of its own sigma."""
    scatter = np.empty(darks.long.shape, np.float32)
    for rows, stack in darks.long.strips():
        scatter[rows] = np.std(stack, axis=0)
    mean, sd = _clipped_mean_and_sd(scatter, n_sigma=3)
    return np.asarray(scatter > mean + 5 * sd)


def hdrl_line(p_value: float) -> Callable[[Darks], Mask]:
    """ESO HDRL bpm_fit: a straight line through bias and darks, bad where χ² has p below `p_value`."""

    def rule(darks: Darks) -> Mask:
        stacks = (darks.bias, darks.short, darks.long)
        t = np.array([s.exptime_s for s in stacks])[:, None, None]
        y = np.stack([s.master for s in stacks]).astype(np.float64)
        n = np.array([len(s.group.frames) for s in stacks])[:, None, None]
        read_variance = (darks.detector.read_noise_e or 0) ** 2 + darks.detector.gain_e_per_adu**2 / 12
        w = n / (read_variance + np.maximum(y, 0))
        s, st, stt = w.sum(0), (w * t).sum(0), (w * t * t).sum(0)
        sy, sty = (w * y).sum(0), (w * t * y).sum(0)
        slope = (s * sty - st * sy) / (s * stt - st * st)
        chi2 = np.sum(w * (y - (sy - slope * st) / s - slope * t) ** 2, axis=0)
        return np.asarray(chi2 > stats.chi2.isf(p_value, 1))

    return rule


def ccdmask_long(darks: Darks) -> Mask:
    """ccdproc.ccdmask on the long dark, its defaults."""
    return _ccdmask(darks.long.dark_current)


def ccdmask_difference(darks: Darks) -> Mask:
    """ccdproc.ccdmask on the difference of the dark currents, its defaults."""
    return _ccdmask(darks.long.dark_current - darks.short.dark_current)


RULES: Mapping[str, Callable[[Darks], Mask]] = {
    "guide, dark_90 > 4 e-/s": guide,
    "guide's rule of thumb, > 1 e-/s": rule_of_thumb,
    "LCO pixel-mask-gen, > 35 e-/s": lco,
    "LSST cp_pipe, 5 e-/s in 70 %": lsst_value,
    "LSST cp_pipe, 4.8 sigma in 70 %": lsst_sigma,
    "JWST-like noisy, > 5 sigma": jwst_noisy,
    "ESO HDRL line fit, p 0.1 %": hdrl_line(1e-3),
    "ESO HDRL line fit, p 1e-5 %": hdrl_line(1e-7),
    "ccdproc.ccdmask, long dark": ccdmask_long,
    "ccdproc.ccdmask, difference": ccdmask_difference,
}


def _in_most_frames(stack: DarkStack, bad: Callable[[NDArray[np.float32]], Mask]) -> Mask:
    count = np.zeros(stack.shape, np.uint16)
    for frame in stack.frames():
        count += bad(frame)
    return np.asarray(count >= 0.7 * len(stack.group.frames))


def _clipped_mean_and_sd(values: NDArray[np.float32], *, n_sigma: float) -> tuple[float, float]:
    kept = values.ravel().astype(np.float64)
    for _ in range(3):
        mean, sd = kept.mean(), kept.std()
        kept = kept[np.abs(kept - mean) < n_sigma * sd]
    return float(kept.mean()), float(kept.std())


def _fill_columns(bad: Mask) -> Mask:
    filled = bad.copy()
    for x in np.flatnonzero(np.count_nonzero(bad, axis=0) >= 50):
        y = np.flatnonzero(bad[:, x])
        for below, above in itertools.pairwise(y):
            if above - below < 30:
                filled[below:above, x] = True
    return filled


def _ccdmask(image: NDArray[np.float32]) -> Mask:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(ccdproc.ccdmask(image))
