"""Exposing and reading out a simulated camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.science.inputs import ArrayRows, DarkFrame, Detector, ExposureGroup
from hotpix_registry.simulate.truth import (
    REFERENCE_TEMP_C,
    Stream,
    Traits,
    Truth,
    draw_truth,
    rate_factor,
    stream,
)

_EXACT_POISSON_BELOW_E = 4.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedCamera:
    """A camera that takes dark frames; the same seed takes the same frames, in any order."""

    seed: int
    truth: Truth

    @classmethod
    def create(cls, shape: tuple[int, int] = (1024, 1024), seed: int = 1, **traits: Any) -> SimulatedCamera:
        """Draw the pixels of a camera; `traits` are the fields of `Traits`."""
        return cls(seed=seed, truth=draw_truth(shape, seed, Traits(**traits)))

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) without overscan."""
        ny, nx = self.truth.population.shape
        return ny, nx

    @property
    def traits(self) -> Traits:
        return self.truth.traits

    @property
    def detector(self) -> Detector:
        """What an honest camera profile says of this camera."""
        return Detector(
            gain_e_per_adu=self.traits.gain_e_per_adu,
            read_noise_e=self.traits.read_noise_e,
            saturation_adu=self.traits.saturation_adu,
            adc_step_adu=self.traits.adc_step_adu,
        )

    def frame(
        self, exptime_s: float, *, index: int, temperature_c: float = REFERENCE_TEMP_C, epoch: int = 0
    ) -> NDArray[np.uint16]:
        """Expose once in the dark and read out, as (ny, nx + overscan columns) uint16 in ADU.

        Zero seconds are a bias frame. `index` tells frames of one exposure time and epoch apart.
        Telegraph pixels start every frame in a state of their own, as if frames lay far apart.
        """
        traits, truth = self.traits, self.truth
        key = (epoch, round(exptime_s * 1000), index)
        rng = stream(self.seed, Stream.FRAME, *key)
        pedestal_adu = traits.pedestal_adu + traits.pedestal_drift_adu * rng.standard_normal()

        factor = rate_factor(temperature_c)
        charge = truth.mean_charge(exptime_s, factor=factor, epoch=epoch)
        flat = charge.reshape(-1)
        upper_s = time_in_upper_state(truth.telegraph_dwell_s, exptime_s, rng)
        flat[truth.telegraph_index] += truth.telegraph_amplitude_e_per_s * factor * upper_s
        if exptime_s > 0:
            draw_poisson(flat, rng)
            self._add_cosmic_rays(charge, exptime_s, stream(self.seed, Stream.COSMIC_RAYS, *key))

        noise = rng.standard_normal(charge.shape, dtype=np.float32)
        noise.reshape(-1)[truth.noisy_index] *= truth.noisy_factor
        noise *= np.float32(traits.read_noise_e)
        charge += noise
        flat[truth.offset_index] += truth.offset_e
        charge /= np.float32(traits.gain_e_per_adu)
        if truth.pattern_adu is not None:
            charge += truth.pattern_adu
        raw = self._digitise(charge, pedestal_adu)
        raw.reshape(-1)[truth.stuck_index] = truth.stuck_adu
        if not traits.overscan_columns:
            return raw
        overscan = rng.standard_normal((raw.shape[0], traits.overscan_columns), dtype=np.float32)
        overscan *= np.float32(traits.read_noise_e / traits.gain_e_per_adu)
        return np.hstack([raw, self._digitise(overscan, pedestal_adu)])

    def group(
        self,
        exptime_s: float,
        n_frames: int,
        *,
        temperature_c: float = REFERENCE_TEMP_C,
        jitter_c: float = 0.0,
        epoch: int = 0,
    ) -> ExposureGroup:
        """Take the frames of one exposure time, trimmed, in memory, with the overscan's pedestal.

        `jitter_c` is the rms of the temperature from frame to frame.
        """
        nx = self.shape[1]
        frames = []
        for index in range(n_frames):
            rng = stream(self.seed, Stream.TEMPERATURE, epoch, round(exptime_s * 1000), index)
            actual_c = temperature_c + jitter_c * rng.standard_normal()
            raw = self.frame(exptime_s, index=index, temperature_c=actual_c, epoch=epoch)
            overscan = raw[:, nx:]
            frames.append(
                DarkFrame(
                    rows=ArrayRows(np.ascontiguousarray(raw[:, :nx])),
                    name=f"{exptime_s:g} s {index + 1}",
                    pedestal=float(overscan.mean()) if overscan.size else None,
                )
            )
        return ExposureGroup(exptime_s=exptime_s, frames=tuple(frames))

    def _digitise(self, level_adu: NDArray[np.float32], pedestal_adu: float) -> NDArray[np.uint16]:
        """Round to steps of the converter and clip, working in place on (ny, nx) float32."""
        step = np.float32(self.traits.adc_step_adu)
        level_adu += np.float32(pedestal_adu)
        level_adu /= step
        np.rint(level_adu, out=level_adu)
        np.clip(level_adu, 0, self.traits.saturation_adu // self.traits.adc_step_adu, out=level_adu)
        level_adu *= step
        return level_adu.astype(np.uint16)

    def _add_cosmic_rays(
        self, charge: NDArray[np.float32], exptime_s: float, rng: np.random.Generator
    ) -> None:
        ny, nx = charge.shape
        area_cm2 = charge.size * (self.traits.pixel_um * 1e-4) ** 2
        n_rays = rng.poisson(self.traits.cosmic_rays_per_cm2_min * area_cm2 * exptime_s / 60)
        angle = rng.uniform(0, 2 * np.pi, n_rays)
        length = 1 + rng.exponential(4.0, n_rays).astype(np.intp)
        y0, x0 = rng.uniform(0, ny, n_rays), rng.uniform(0, nx, n_rays)
        ray = np.repeat(np.arange(n_rays), length)
        along = np.arange(ray.size) - np.repeat(np.cumsum(length) - length, length)
        y = np.floor(y0[ray] + along * np.sin(angle[ray])).astype(np.intp)
        x = np.floor(x0[ray] + along * np.cos(angle[ray])).astype(np.intp)
        deposit_e = 10 ** rng.normal(2.9, 0.35, ray.size)
        inside = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
        np.add.at(charge, (y[inside], x[inside]), deposit_e[inside].astype(np.float32))


def draw_poisson(mean_e: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Replace expected charges by drawn ones, in place on (n,) float32.

    Small means are drawn exactly. Above, λ + √(λ − 1/18) n + (n² − 1)/6 with n normal has the first
    three moments of the Poisson law (Cornish and Fisher 1938) at a quarter of the cost; read noise
    hides that it is no whole number.
    """
    faint = mean_e < _EXACT_POISSON_BELOW_E
    bright = mean_e[~faint]
    n = rng.standard_normal(bright.size, dtype=np.float32)
    bright += np.sqrt(bright - np.float32(1 / 18)) * n
    n *= n
    n -= 1
    n /= 6
    bright += n
    mean_e[~faint] = bright
    mean_e[faint] = rng.poisson(mean_e[faint])


def time_in_upper_state(
    dwell_s: NDArray[np.float64], exptime_s: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the seconds of an exposure in the upper of two states, as (n,) float32.

    Both states end at random with mean `dwell_s` (2, n); the first is drawn from the long-term odds.
    """
    n = dwell_s.shape[1]
    pixel = np.arange(n)
    state = (rng.random(n) * dwell_s.sum(axis=0) < dwell_s[1]).astype(np.intp)
    left_s = np.full(n, float(exptime_s))
    upper_s = np.zeros(n)
    while np.any(left_s > 0):
        stay_s = np.minimum(rng.exponential(dwell_s[state, pixel]), left_s)
        upper_s += state * stay_s
        left_s -= stay_s
        state = 1 - state
    return upper_s.astype(np.float32)
