"""What the pixels of a simulated camera are, and what they do.

Numbers of pixels are given per 2048 × 2048 and scale with the area of the sensor. Everything
follows from one seed; every population draws from a stream of its own, so that adding one leaves
the others as they were.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

REFERENCE_TEMP_C = -20.0

_REFERENCE_AREA = 2048 * 2048
_HOT_ABOVE_4 = 4308 / 4096**2
_HOT_RANGE_E_PER_S = (0.1, 3000.0)
_LINEAR_HOT_FRACTION = 0.1
_ONSET_SCATTER_DEX = 0.10
_SLOPES = (0.3, 0.85)
_COLUMN_E_PER_S = (0.03, 0.1, 1.0)
_HALF_GAP_EV = 0.56
_BOLTZMANN_EV_PER_K = 8.617333e-5


class Population(enum.IntEnum):
    """What a pixel of the simulated camera is; values of `Truth.population`."""

    NORMAL = 0
    HOT = 1
    TELEGRAPH = 2
    OFFSET = 3
    NOISY = 4
    STUCK = 5
    CHANGED = 6
    COLUMN = 7


class Stream(enum.IntEnum):
    """First number of a random stream's key; populations use their own value."""

    NORMAL_RATES = 100
    FIXED_PATTERN = 101
    FRAME = 102
    COSMIC_RAYS = 103
    THERMOMETER = 104
    TEMPERATURE = 105


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What kind of camera is simulated; the defaults are the guide's camera."""

    gain_e_per_adu: float = 1.5
    read_noise_e: float = 10.0
    pedestal_adu: float = 1000.0
    """0 clamps the black level: whatever lies below it is read as 0"""
    pedestal_drift_adu: float = 2.0
    """rms from frame to frame"""
    overscan_columns: int = 32
    adc_bits: int = 16
    """fewer bits are stretched to 16, so that 14 bits step by 4"""
    bulk_e_per_s: float = 0.01
    bulk_spread: float = 0.15
    onset_e: float | None = 4000.0
    """median charge above which hot pixels fall behind; None leaves all of them linear"""
    glow_e_per_s: float = 0.0
    """amplifier glow in the corner of pixel (0, 0), falling by e in a tenth of the sensor"""
    fixed_pattern_adu: float = 0.0
    """rms of the bias structure, half of its variance in columns"""
    cosmic_rays_per_cm2_min: float = 1.5
    pixel_um: float = 9.0

    @property
    def adc_step_adu(self) -> int:
        return 1 << (16 - self.adc_bits)

    @property
    def saturation_adu(self) -> int:
        return 65536 - self.adc_step_adu


def rate_factor(temperature_c: float) -> float:
    """Return dark current relative to that at −20 °C.

    Generation in the depletion region, T^1.5 exp(−0.56 eV / kT): Widenhorn and others 2002.
    """
    kelvin, reference = temperature_c + 273.15, REFERENCE_TEMP_C + 273.15
    exponent = -_HALF_GAP_EV / _BOLTZMANN_EV_PER_K * (1 / kelvin - 1 / reference)
    return float((kelvin / reference) ** 1.5 * np.exp(exponent))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Truth:
    """What every pixel of a simulated camera really does; planes are (ny, nx), indices flat.

    Rates are in e-/s at −20 °C and are those of epoch 0, before charge makes a hot pixel fall behind.
    """

    traits: Traits
    population: NDArray[np.uint8]
    rate_e_per_s: NDArray[np.float32]
    """base rate; of telegraph pixels the lower state"""
    pattern_adu: NDArray[np.float32] | None
    hot_index: NDArray[np.intp]
    hot_onset_e: NDArray[np.float32]
    """inf where the pixel is linear"""
    hot_slope: NDArray[np.float32]
    telegraph_index: NDArray[np.intp]
    telegraph_amplitude_e_per_s: NDArray[np.float32]
    telegraph_dwell_s: NDArray[np.float64]
    """(2, n): mean time in the lower and in the upper state"""
    offset_index: NDArray[np.intp]
    offset_e: NDArray[np.float32]
    noisy_index: NDArray[np.intp]
    noisy_factor: NDArray[np.float32]
    stuck_index: NDArray[np.intp]
    stuck_adu: NDArray[np.uint16]
    changed_index: NDArray[np.intp]
    changed_factor: NDArray[np.float32]
    """rate in any other epoch, relative to epoch 0"""

    @property
    def normal(self) -> NDArray[np.bool_]:
        """Pixels of no population, as (ny, nx) bool."""
        return np.equal(self.population, Population.NORMAL)

    def mean_charge(self, exptime_s: float, *, factor: float = 1.0, epoch: int = 0) -> NDArray[np.float32]:
        """Return the expected dark charge of an exposure in e-, as (ny, nx) float32.

        Telegraph pixels are taken in their lower state; offsets of the bias level are no charge.
        """
        charge = self.rate_e_per_s * np.float32(exptime_s * factor)
        if self.traits.glow_e_per_s:
            charge += _glow(charge.shape, self.traits.glow_e_per_s * exptime_s)
        flat = charge.reshape(-1)
        if epoch:
            flat[self.changed_index] *= self.changed_factor
        hot = flat[self.hot_index]
        flat[self.hot_index] = _fall_behind(hot, self.hot_onset_e, self.hot_slope)
        return charge

    def nonlinearity(self, exposures_s: Sequence[float]) -> NDArray[np.float32]:
        """Return how far dark current of hot pixels departs between exposures, as (ny, nx) float32.

        It is the largest difference of two dark currents relative to that of the longest exposure.
        """
        darks = [t for t in exposures_s if t > 0]
        rates = np.stack([self.mean_charge(t).reshape(-1)[self.hot_index] / t for t in darks])
        longest = rates[int(np.argmax(darks))]
        departure = np.zeros(self.population.size, np.float32)
        departure[self.hot_index] = (rates.max(axis=0) - rates.min(axis=0)) / longest
        return departure.reshape(self.population.shape)

    def saturated(self, exposures_s: Sequence[float]) -> NDArray[np.bool_]:
        """Return the pixels whose mean level in the longest exposure is at the ceiling, (ny, nx) bool."""
        traits = self.traits
        ceiling_e = (traits.saturation_adu - traits.pedestal_adu) * traits.gain_e_per_adu
        return self.mean_charge(max(exposures_s)) >= ceiling_e

    def telegraph_strength(self, exposures_s: Sequence[float]) -> NDArray[np.float64]:
        """Return the rms of charge from frame to frame over the noise, as (n telegraph pixels,).

        The largest over the exposures, from the variance of the time spent in the upper state:
        2 p (1 − p) τ² (t/τ − 1 + exp(−t/τ)) with 1/τ the sum of the switching rates.
        """
        low_s, high_s = self.telegraph_dwell_s
        occupancy = high_s / (low_s + high_s)
        tau_s = 1 / (1 / low_s + 1 / high_s)
        base = self.rate_e_per_s.reshape(-1)[self.telegraph_index]
        strengths = []
        for exptime_s in (t for t in exposures_s if t > 0):
            x = exptime_s / tau_s
            time_variance = 2 * occupancy * (1 - occupancy) * tau_s**2 * (x + np.expm1(-x))
            mean_e = (base + occupancy * self.telegraph_amplitude_e_per_s) * exptime_s
            noise_variance = self.traits.read_noise_e**2 + self.traits.gain_e_per_adu**2 / 12 + mean_e
            strengths.append(self.telegraph_amplitude_e_per_s * np.sqrt(time_variance / noise_variance))
        return np.asarray(np.max(strengths, axis=0), np.float64)

    def uncorrectable(
        self, exposures_s: Sequence[float], with_bias: bool, *, across_epochs: bool = True
    ) -> NDArray[np.bool_]:
        """Return the pixels that subtracting a dark cannot repair, as (ny, nx) bool.

        Dark current that differs between the exposures by over 5 %, saturated, telegraph of 1σ
        and more, noisy, stuck, changed between epochs, and offset pixels where no bias frames
        remove them.
        """
        mask = (self.nonlinearity(exposures_s) > 0.05) | self.saturated(exposures_s)
        mask |= np.isin(self.population, (Population.NOISY, Population.STUCK))
        if across_epochs:
            mask |= self.population == Population.CHANGED
        if not with_bias:
            mask |= self.population == Population.OFFSET
        mask.reshape(-1)[self.telegraph_index[self.telegraph_strength(exposures_s) >= 1]] = True
        return mask

    def doubtful(self, exposures_s: Sequence[float], with_bias: bool) -> NDArray[np.bool_]:
        """Return the pixels that count neither for nor against a mask, as (ny, nx) bool.

        Non-linear by 2 to 5 %, telegraph below 1σ, hot columns, and offset pixels where there are
        bias frames.
        """
        mask = self.nonlinearity(exposures_s) > 0.02
        mask |= np.isin(self.population, (Population.TELEGRAPH, Population.COLUMN))
        if with_bias:
            mask |= self.population == Population.OFFSET
        return mask & ~self.uncorrectable(exposures_s, with_bias)

    def limit_e_per_s(self, short_s: float, long_s: float, tolerance: float = 0.05) -> float | None:
        """Return the dark current in the shorter exposure at which the median departure is `tolerance`.

        The departure is (short − long) / long among pixels of one dark current in the longer
        exposure; from the laws of the population, not from the pixels drawn. None where all are linear.
        """
        if self.traits.onset_e is None:
            return None
        rng = np.random.default_rng(0)
        onset_e, slope = _draw_onset_and_slope(rng, 20_000, self.traits.onset_e)
        for long in np.geomspace(self.traits.onset_e / long_s / 2, self.traits.onset_e / long_s * 10, 1000):
            over_e = np.maximum(long * long_s - onset_e, 0)
            rate = long + over_e * (1 / slope - 1) / long_s
            weight = rate**-2 / np.where(over_e > 0, slope, 1)
            short = _fall_behind(rate * short_s, onset_e, slope) / short_s
            if np.sum(weight[short > long * (1 + tolerance)]) > np.sum(weight) / 2:
                return float(long * (1 + tolerance))
        return None


def stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=key)))


def draw_truth(shape: tuple[int, int], seed: int, traits: Traits) -> Truth:
    ny, nx = shape
    scale = ny * nx / _REFERENCE_AREA
    population = np.zeros(ny * nx, np.uint8)

    rate = stream(seed, Stream.NORMAL_RATES).standard_normal(ny * nx, dtype=np.float32)
    rate *= np.float32(traits.bulk_spread)
    rate += 1
    np.maximum(rate, 0, out=rate)
    rate *= np.float32(traits.bulk_e_per_s)

    coldest, hottest = _HOT_RANGE_E_PER_S
    n_hot = _HOT_ABOVE_4 * ny * nx * (4 / coldest - 4 / hottest)
    hot, rng = _settle(population, seed, Population.HOT, n_hot)
    rate[hot] = 1 / rng.uniform(1 / hottest, 1 / coldest, hot.size)
    onset_e, slope = _draw_onset_and_slope(rng, hot.size, traits.onset_e)

    telegraph, rng = _settle(population, seed, Population.TELEGRAPH, 600 * scale)
    rate[telegraph] = 10 ** rng.uniform(-2, 0, telegraph.size)
    amplitude = 10 ** rng.uniform(-2, 0.7, telegraph.size)
    dwell_s = 10 ** rng.uniform(2, 4.3, (2, telegraph.size))

    offset, rng = _settle(population, seed, Population.OFFSET, 300 * scale)
    offset_e = 10 ** rng.uniform(1.3, 3.48, offset.size)

    noisy, rng = _settle(population, seed, Population.NOISY, 300 * scale)
    noisy_factor = rng.uniform(3, 20, noisy.size)

    stuck, rng = _settle(population, seed, Population.STUCK, 100 * scale)
    stuck_adu = np.where(np.arange(stuck.size) % 2, rng.integers(500, 5001, stuck.size), 0)

    changed, rng = _settle(population, seed, Population.CHANGED, 300 * scale)
    rate[changed] = 10 ** rng.uniform(-0.5, 0.5, changed.size)
    fainter, brighter = rng.uniform(0.3, 0.8, changed.size), rng.uniform(1.25, 3, changed.size)
    changed_factor = np.where(rng.random(changed.size) < 0.5, fainter, brighter)

    plane, kinds = rate.reshape(shape), population.reshape(shape)
    _add_hot_columns(plane, kinds, stream(seed, Population.COLUMN))
    return Truth(
        traits=traits,
        population=kinds,
        rate_e_per_s=plane,
        pattern_adu=_draw_pattern(shape, seed, traits.fixed_pattern_adu),
        hot_index=hot,
        hot_onset_e=onset_e.astype(np.float32),
        hot_slope=slope.astype(np.float32),
        telegraph_index=telegraph,
        telegraph_amplitude_e_per_s=amplitude.astype(np.float32),
        telegraph_dwell_s=dwell_s,
        offset_index=offset,
        offset_e=offset_e.astype(np.float32),
        noisy_index=noisy,
        noisy_factor=noisy_factor.astype(np.float32),
        stuck_index=stuck,
        stuck_adu=stuck_adu.astype(np.uint16),
        changed_index=changed,
        changed_factor=changed_factor.astype(np.float32),
    )


def _settle(
    population: NDArray[np.uint8], seed: int, kind: Population, count: float
) -> tuple[NDArray[np.intp], np.random.Generator]:
    """Give `kind` about `count` free pixels of the flat plane; return them and the kind's stream."""
    rng = stream(seed, kind)
    n = round(count)
    drawn = rng.choice(population.size, min(n + n // 4 + 8, population.size), replace=False)
    index = np.sort(drawn[population[drawn] == Population.NORMAL][:n])
    population[index] = kind
    return index, rng


def _draw_onset_and_slope(
    rng: np.random.Generator, n: int, onset_e: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    slope = rng.uniform(*_SLOPES, n)
    linear = rng.random(n) < _LINEAR_HOT_FRACTION
    scatter = 10 ** rng.normal(0, _ONSET_SCATTER_DEX, n)
    onset = np.full(n, np.inf) if onset_e is None else np.where(linear, np.inf, onset_e * scatter)
    return onset, slope


def _fall_behind(charge: NDArray[Any], onset_e: NDArray[Any], slope: NDArray[Any]) -> NDArray[Any]:
    """Return the charge of hot pixels that collect only `slope` of what exceeds their onset."""
    below = np.minimum(charge, onset_e)
    return np.asarray(below + slope * (charge - below))


def _add_hot_columns(
    rate: NDArray[np.float32], population: NDArray[np.uint8], rng: np.random.Generator
) -> None:
    ny, nx = rate.shape
    n_columns = max(3, round(3 * nx / 2048))
    length = round(0.6 * ny * min(1.0, nx / 2048))
    for i, x in enumerate(rng.choice(nx, n_columns, replace=False)):
        y0 = int(rng.integers(0, ny - length + 1))
        rate[y0 : y0 + length, x] += np.float32(_COLUMN_E_PER_S[i % 3])
        part = population[y0 : y0 + length, x]
        part[part == Population.NORMAL] = Population.COLUMN


def _draw_pattern(shape: tuple[int, int], seed: int, rms_adu: float) -> NDArray[np.float32] | None:
    if not rms_adu:
        return None
    rng = stream(seed, Stream.FIXED_PATTERN)
    pattern = rng.standard_normal(shape, dtype=np.float32) + rng.standard_normal(shape[1], dtype=np.float32)
    return np.asarray(pattern * np.float32(rms_adu / np.sqrt(2)), np.float32)


def _glow(shape: tuple[int, ...], peak: float) -> NDArray[np.float32]:
    y, x = (np.exp(-10 * np.arange(n, dtype=np.float32) / n) for n in shape)
    return np.float32(peak) * y[:, None] * x
