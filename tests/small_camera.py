"""A small camera for tests: quick FITS frames whose hot pixels are known beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

SHAPE = (48, 64)
NIGHT = datetime(2021, 3, 4, 22, 0)
"""Start of the first frame; the header knows no longitude, so this is the night 2021-03-04."""

HOT_E_PER_S = {(5, 3): 40.0, (20, 7): 8.0, (33, 30): 12.0, (41, 11): 25.0, (60, 46): 9.0, (0, 0): 30.0}
"""(x, y) → dark current of the pixels that a limit of 4 e-/s finds."""
WARM_E_PER_S = {(10, 10): 1.0, (50, 40): 1.5}

_GAIN, _READ_NOISE_E, _BIAS_ADU, _BULK_E_PER_S = 1.0, 5.0, 500.0, 0.05


def hot_pixels(shape: tuple[int, int] = SHAPE) -> NDArray[np.bool_]:
    """(ny, nx) bool, True where the dark current is above 4 e-/s."""
    mask = np.zeros(shape, bool)
    for x, y in HOT_E_PER_S:
        mask[y, x] = True
    return mask


def pixels(exptime_s: float, seed: int, shape: tuple[int, int] = SHAPE) -> NDArray[np.uint16]:
    """One exposure without light, (ny, nx) uint16 in adu; the same arguments give the same pixels."""
    rng = np.random.default_rng(seed)
    rate = np.full(shape, _BULK_E_PER_S)
    for (x, y), hot in (HOT_E_PER_S | WARM_E_PER_S).items():
        rate[y, x] = hot
    charge = rng.poisson(rate * exptime_s) + rng.normal(0, _READ_NOISE_E, shape)
    return np.clip(np.rint(charge / _GAIN + _BIAS_ADU), 0, 65535).astype(np.uint16)


def write_frame(
    path: Path,
    *,
    exptime_s: float = 60.0,
    start: datetime | str = NIGHT,
    header: Mapping[str, Any] | None = None,
    data: NDArray[Any] | None = None,
    shape: tuple[int, int] = SHAPE,
) -> Path:
    """Write a dark, or a bias of 0 s; `header` replaces cards, or removes those given as None.

    Without `data`, exposure time and start decide the pixels, and the name does not.
    """
    moment = start if isinstance(start, str) else start.isoformat(timespec="milliseconds")
    cards: dict[str, Any] = {
        "INSTRUME": "Smallcam 48",
        "IMAGETYP": "Dark Frame" if exptime_s else "Bias Frame",
        "DATE-OBS": moment,
        "EXPTIME": exptime_s,
        "SET-TEMP": -10.0,
        "CCD-TEMP": -10.0,
        "XBINNING": 1,
        "YBINNING": 1,
        "EGAIN": _GAIN,
    } | dict(header or {})
    if data is None:
        data = pixels(exptime_s, crc32(f"{moment} {exptime_s}".encode()), shape)
    hdu = fits.PrimaryHDU(data)
    for keyword, value in cards.items():
        if value is not None:
            hdu.header[keyword] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    hdu.writeto(path, overwrite=True)
    return path


def write_campaign(
    folder: Path,
    *,
    start: datetime = NIGHT,
    darks: Mapping[float, int] | None = None,
    biases: int = 3,
    header: Mapping[str, Any] | None = None,
    shape: tuple[int, int] = SHAPE,
) -> list[Path]:
    """Write one night's biases and darks (exposure time in s → number), one after the other."""
    wanted = {0.0: biases} | ({30.0: 4, 120.0: 4} if darks is None else dict(darks))
    paths = []
    for exptime_s, number in wanted.items():
        for index in range(number):
            name = f"dark_{exptime_s:g}s_{index + 1:02d}.fits" if exptime_s else f"bias_{index + 1:02d}.fits"
            paths.append(
                write_frame(folder / name, exptime_s=exptime_s, start=start, header=header, shape=shape)
            )
            start += timedelta(seconds=exptime_s + 5)
    return paths
