"""What the science takes in: dark frames as rows of numbers, and what is known of the detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from hotpix_registry.domain import Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class DarkFrame:
    """One dark, bias or master, ready to be combined.

    `pedestal` is the level without charge in the frame's own unit, known from the overscan; None
    where there is none. A master has `n_combined` > 1 and may already be bias-subtracted, scaled to
    electrons (`unit` "electron") or to a rate (`adu/s`, `electron/s`).
    """

    rows: Rows
    name: str
    pedestal: float | None = None
    n_combined: int = 1
    unit: str = "adu"
    bias_subtracted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureGroup:
    """The frames of one exposure time; 0 s is the biases."""

    exptime_s: float
    frames: tuple[DarkFrame, ...]
    borrowed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """What the noise model needs to know of a camera."""

    gain_e_per_adu: float
    read_noise_e: float | None = None
    """None: measured from the darks"""
    saturation_adu: float = 65535.0
    """raw level, pedestal included, from which a pixel counts as saturated"""
    adc_step_adu: float = 1.0
    """14-bit data stretched to 16 bits step by 4"""
    bayer_pattern: str | None = None


@dataclass(frozen=True, slots=True)
class ArrayRows:
    """An array in memory, seen as rows: what tests, demos and masters already read use."""

    array: NDArray[Any]

    @property
    def shape(self) -> tuple[int, int]:
        ny, nx = self.array.shape
        return ny, nx

    def read(self, y0: int, y1: int) -> NDArray[Any]:
        return self.array[y0:y1]
