"""What the darks themselves say of gain, read noise, pedestals and temperatures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.science import tails
from hotpix_registry.science.combine import NoiseModel
from hotpix_registry.science.ranks import median, row_median

Doubles = NDArray[np.float64]

LOG_RATE_PER_K = 0.107
"""d ln(dark current) / dT of depletion dark current at −20 °C (Widenhorn and others 2002)"""

_THERMOMETER_E = (800.0, 40_000.0)
_FEWEST_THERMOMETERS = 20
_MAD_TO_SD = 1.4826
_SD_WITHIN_3 = 0.98658
"""standard deviation of a unit normal cut at ±3"""


def robust_sd(values: NDArray[Any]) -> float:
    """Standard deviation of the normal core of values, blind to tails; 0 for fewer than two values."""
    values = np.asarray(values, np.float64).reshape(-1)
    if values.size < 2:
        return 0.0
    centre = float(row_median(values))
    sd = _MAD_TO_SD * float(row_median(np.abs(values - centre)))
    for _ in range(4):
        core = values[np.abs(values - centre) <= 3 * sd] if sd > 0 else values
        if core.size < 2:
            break
        centre, sd = float(core.mean()), float(core.std()) / (_SD_WITHIN_3 if sd > 0 else 1.0)
    return sd


def weighted_median(values: Doubles, weights: Doubles) -> float:
    """Value at which half of the weight lies below."""
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulative, cumulative[-1] / 2)])


# --- photon transfer ----------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """Pixels seen in several frames of one exposure time."""

    mean_adu: Doubles
    """charge above the pedestal, (n pixels,)"""
    variance_adu2: Doubles
    """sample variance from frame to frame"""
    dof: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotonTransfer:
    """Gain and read noise as the darks have them; None where they cannot tell."""

    gain_e_per_adu: float | None
    gain_sigma: float | None
    read_noise_e: float | None
    read_noise_sigma: float | None
    n_pixels: int
    points: tuple[tuple[float, float], ...]
    """(level in ADU, variance in ADU²) of the bins"""


def photon_transfer(samples: Sequence[Repeats], adc_step_adu: float, gain_e_per_adu: float) -> PhotonTransfer:
    """Fit variance against level, V = (σ_R/g)² + step²/12 + level/g, over bins of pixels.

    The dark form of the photon-transfer curve (Janesick 2007, Photon Transfer): hot pixels serve as
    the light. A bin's variance is the median over its pixels, so that unstable ones do not count.
    `gain_e_per_adu` only serves for the read noise where the slope cannot be measured.
    """
    levels: list[float] = []
    variances: list[float] = []
    errors: list[float] = []
    n_pixels = 0
    for sample in samples:
        if sample.dof < 1:
            continue
        middle = tails.chi2_below_which(0.5, sample.dof)
        unbias = sample.dof / middle
        # relative standard error of a median: 1 / (2 f m √n), f the density there
        of_median = 0.5 / (middle * tails.chi2_density(middle, sample.dof))
        order = np.argsort(sample.mean_adu, kind="stable")
        for part in _bins(sample.mean_adu[order]):
            chosen = order[part]
            typical = float(np.median(sample.variance_adu2[chosen])) * unbias
            if typical <= 0:
                continue
            levels.append(float(np.median(sample.mean_adu[chosen])))
            variances.append(typical)
            errors.append(of_median / math.sqrt(chosen.size))
            n_pixels += chosen.size
    if not levels:
        return PhotonTransfer(
            gain_e_per_adu=None,
            gain_sigma=None,
            read_noise_e=None,
            read_noise_sigma=None,
            n_pixels=0,
            points=(),
        )
    level, variance, error = np.array(levels), np.array(variances), np.array(errors)
    intercept, slope, covariance = _line(level, variance, error)
    gain = gain_sigma = None
    if slope > 0 and covariance[1, 1] < (0.1 * slope) ** 2:
        gain, gain_sigma = 1 / slope, math.sqrt(covariance[1, 1]) / slope**2
    else:
        weight = 1 / (error * variance) ** 2
        slope = 1 / gain_e_per_adu
        intercept = float(np.sum(weight * (variance - slope * level)) / weight.sum())
        covariance = np.array([[1 / weight.sum(), 0.0], [0.0, 0.0]])
    read_variance = intercept - adc_step_adu**2 / 12
    read_noise = read_sigma = None
    if read_variance > 0:
        read_noise = math.sqrt(read_variance) / slope
        read_sigma = math.sqrt(covariance[0, 0]) / (2 * math.sqrt(read_variance)) / slope
    return PhotonTransfer(
        gain_e_per_adu=gain,
        gain_sigma=gain_sigma,
        read_noise_e=read_noise,
        read_noise_sigma=read_sigma,
        n_pixels=n_pixels,
        points=tuple(zip(level.tolist(), variance.tolist(), strict=True)),
    )


def _bins(level: Doubles) -> list[slice]:
    """Runs of sorted levels: at least 60 pixels, and no wider than they must be."""
    n = level.size
    if n < 60:
        return []
    wanted = int(min(40, n // 60))
    edges = np.linspace(0, n, wanted + 1).astype(int)
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def _line(x: Doubles, y: Doubles, relative_error: Doubles) -> tuple[float, float, Doubles]:
    """Intercept, slope and covariance; errors are relative to the line itself, hence the passes."""
    model = y.copy()
    intercept, slope = float(y.mean()), 0.0
    covariance = np.full((2, 2), np.inf)
    for _ in range(5):
        weight = 1 / (relative_error * model) ** 2
        s, sx, sxx = weight.sum(), (weight * x).sum(), (weight * x * x).sum()
        sy, sxy = (weight * y).sum(), (weight * x * y).sum()
        det = s * sxx - sx * sx
        if det <= 1e-9 * s * sxx:
            return float(y.mean()), 0.0, np.full((2, 2), np.inf)
        intercept, slope = float((sxx * sy - sx * sxy) / det), float((s * sxy - sx * sy) / det)
        covariance = np.array([[sxx, -sx], [-sx, s]]) / det
        model = np.maximum(intercept + slope * x, 0.05 * y)
    return intercept, slope, covariance


def adopt(
    profile_gain: float,
    profile_read_noise: float | None,
    adc_step_adu: float,
    found: PhotonTransfer,
) -> tuple[NoiseModel, list[str]]:
    """The noise model to decide with, and a sentence for each number that the darks contradict.

    The profile's numbers stand unless the darks differ by over 3 % and over 4σ.
    """
    warnings = []
    gain = profile_gain
    if found.gain_e_per_adu is not None and found.gain_sigma is not None:
        difference = abs(found.gain_e_per_adu - profile_gain)
        if difference > max(0.03 * profile_gain, 4 * found.gain_sigma):
            gain = found.gain_e_per_adu
            warnings.append(
                f"The profile's gain of {profile_gain:.4g} e-/ADU disagrees with the darks, which show "
                f"{found.gain_e_per_adu:.4g} ± {found.gain_sigma:.2g}; the darks' value was used."
            )
    read_noise = profile_read_noise
    if found.read_noise_e is not None and found.read_noise_sigma is not None:
        measured = found.read_noise_e
        if found.gain_e_per_adu is not None and gain != found.gain_e_per_adu:
            measured *= gain / found.gain_e_per_adu
        if read_noise is None:
            read_noise = measured
        elif abs(measured - read_noise) > max(0.03 * read_noise, 4 * found.read_noise_sigma):
            warnings.append(
                f"The profile's read noise of {read_noise:.4g} e- disagrees with the darks, which show "
                f"{measured:.4g} ± {found.read_noise_sigma:.2g}; the darks' value was used."
            )
            read_noise = measured
    if read_noise is None:
        read_noise = 0.0
    return NoiseModel(gain_e_per_adu=gain, read_noise_e=read_noise, adc_step_adu=adc_step_adu), warnings


# --- thermometers --------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFactors:
    """Dark rate of each frame relative to its group, from the hot pixels."""

    factors: Doubles
    sigmas: Doubles
    n_pixels: int

    @property
    def temperatures_k(self) -> Doubles:
        """Temperature of each frame relative to the group's, in K."""
        return np.log(self.factors) / LOG_RATE_PER_K

    @property
    def significant(self) -> bool:
        return bool(np.any(np.abs(self.factors - 1) > 4 * self.sigmas))


def frame_factors(charge_e: Doubles, floor_e2: float) -> FrameFactors | None:
    """Measure the rate of each frame relative to the others, hot pixels serving as thermometers.

    `charge_e` is (n frames, n pixels), unsaturated and above the pedestal. None where too few pixels
    hold enough charge. Hot pixels as the best sensors of a chip's temperature: Widenhorn and others.
    """
    n = charge_e.shape[0]
    mean = median(charge_e)
    chosen = (mean > _THERMOMETER_E[0]) & (mean < _THERMOMETER_E[1])
    if n < 2 or int(chosen.sum()) < _FEWEST_THERMOMETERS:
        return None
    mean = mean[chosen]
    weight = mean * mean / (mean + floor_e2)
    factors = np.array([weighted_median(row[chosen] / mean, weight) for row in charge_e])
    factors /= factors.mean()
    sigma = 1.25 / math.sqrt(float(weight.sum()))
    return FrameFactors(factors=factors, sigmas=np.full(n, sigma), n_pixels=int(chosen.sum()))


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRatio:
    """Dark rate of one group relative to that of the longest exposure."""

    ratio: float = 1.0
    sigma: float = 0.0
    n_pixels: int = 0

    @property
    def temperature_k(self) -> float:
        return math.log(self.ratio) / LOG_RATE_PER_K


def rate_ratio(
    rate: Doubles, rate_sigma: Doubles, reference: Doubles, *, fewest: int = _FEWEST_THERMOMETERS
) -> RateRatio:
    """Compare two groups' dark currents over hot pixels, (n,) e-/s above the bulk.

    Pixels are chosen by `reference` alone: choosing by the noisier rate would raise the ratio by
    percents. The lowest 60 % of those with a predicted signal-to-noise above 4 are taken, since the
    hottest may depart for a reason of their own.
    """
    good = np.flatnonzero(reference > 4 * rate_sigma)
    if good.size < fewest:
        return RateRatio()
    good = good[reference[good] <= np.quantile(reference[good], 0.6)]
    weight = (reference[good] / rate_sigma[good]) ** 2
    ratio = weighted_median(rate[good] / reference[good], weight)
    if ratio <= 0:
        return RateRatio()
    return RateRatio(ratio=ratio, sigma=1.25 / math.sqrt(float(weight.sum())), n_pixels=int(good.size))
