"""Writing the frames of a simulated camera as FITS files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from astropy.io import fits

from hotpix_registry.errors import StorageError
from hotpix_registry.simulate.camera import SimulatedCamera
from hotpix_registry.simulate.truth import REFERENCE_TEMP_C, Stream, stream

Progress = Callable[[int, int], None]
"""Called with the number of frames done and the number of frames in all."""

DEMO_NIGHT = datetime(2018, 8, 23, 2, 30, tzinfo=UTC)
"""Evening of 2018-08-22 at the longitude of Aspen, 106.8° west."""


def write_frame(
    path: Path,
    camera: SimulatedCamera,
    *,
    exptime_s: float,
    index: int,
    start: datetime,
    temperature_c: float = REFERENCE_TEMP_C,
    set_temp_c: float = REFERENCE_TEMP_C,
    epoch: int = 0,
    header_gain_e_per_adu: float | None = None,
) -> Path:
    """Take a dark, or a bias of 0 s, and write it as the guide's camera would; return the path.

    `header_gain_e_per_adu` is what the header says instead of the truth. The same arguments write
    the same bytes.

    Raises
    ------
    StorageError
        When the file cannot be written.
    """
    traits = camera.traits
    ny, nx = camera.shape
    hdu = fits.PrimaryHDU(camera.frame(exptime_s, index=index, temperature_c=temperature_c, epoch=epoch))
    steps = stream(camera.seed, Stream.THERMOMETER, epoch, round(exptime_s * 1000), index).integers(-1, 2)
    kind = "DARK" if exptime_s > 0 else "BIAS"
    moment = start.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
    cards: list[tuple[str, Any, str]] = [
        ("OBJECT", kind.lower(), ""),
        ("INSTRUME", "aspen", "simulated camera"),
        ("IMAGETYP", kind, "type of exposure"),
        ("DATE-OBS", moment, "UTC, start of exposure"),
        ("EXPTIME", float(exptime_s), "[s] exposure time"),
        ("EXPOSURE", float(exptime_s), "[s] exposure time"),
        ("SET-TEMP", set_temp_c, "[deg C] set point"),
        ("CCD-TEMP", round(temperature_c + 0.1 * int(steps), 1), "[deg C] sensor at start"),
        ("XBINNING", 1, ""),
        ("YBINNING", 1, ""),
        ("EGAIN", header_gain_e_per_adu or traits.gain_e_per_adu, "[electron/adu] gain"),
        ("RDNOISE", traits.read_noise_e, "[electron] read noise"),
        ("BUNIT", "adu", ""),
    ]
    if traits.overscan_columns:
        cards += [
            ("BIASSEC", f"[{nx + 1}:{nx + traits.overscan_columns},1:{ny}]", "overscan"),
            ("TRIMSEC", f"[1:{nx},1:{ny}]", "exposed pixels"),
        ]
    cards += [
        ("SITELAT", "+39 11 28", "north"),
        ("SITELONG", "-106 49 03", "east"),
        ("SWCREATE", "hotpix-registry simulator", ""),
    ]
    hdu.header.extend(cards)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        hdu.writeto(path, overwrite=True)
    except OSError as error:
        raise StorageError(
            f"Cannot write {path}: {error.strerror or error}.", next_step="Choose another folder."
        ) from error
    return path


def write_night(
    directory: Path,
    camera: SimulatedCamera,
    *,
    start: datetime,
    biases: int = 10,
    darks: Mapping[float, int] | None = None,
    readout_s: float = 10.0,
    temperature_c: float = REFERENCE_TEMP_C,
    set_temp_c: float = REFERENCE_TEMP_C,
    jitter_c: float = 0.0,
    epoch: int = 0,
    first_index: int = 0,
    header_gain_e_per_adu: float | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write the biases and darks (exposure time in s → number) of a night, one after the other.

    The default is the guide's: ten darks of 90 s and twenty of 1000 s. Another night of the same
    camera needs another `first_index` (or epoch), else its noise is the same. Return the paths in
    order of time.
    """
    darks = {90.0: 10, 1000.0: 20} if darks is None else darks
    wanted = {0.0: biases, **{float(exptime_s): n for exptime_s, n in darks.items()}}
    plan = [(exptime_s, i) for exptime_s, n in wanted.items() for i in range(n)]
    night = start.strftime("%Y%m%d%H%M")
    paths = []
    for done, (exptime_s, index) in enumerate(plan):
        number = first_index + index
        rng = stream(camera.seed, Stream.TEMPERATURE, epoch, round(exptime_s * 1000), number)
        name = f"dark-{exptime_s:g}s" if exptime_s else "bias"
        paths.append(
            write_frame(
                directory / f"aspen-{night}-{name}-{index + 1:03d}.fits",
                camera,
                exptime_s=exptime_s,
                index=number,
                start=start,
                temperature_c=temperature_c + jitter_c * float(rng.standard_normal()),
                set_temp_c=set_temp_c,
                epoch=epoch,
                header_gain_e_per_adu=header_gain_e_per_adu,
            )
        )
        start += timedelta(seconds=exptime_s + readout_s)
        if progress:
            progress(done + 1, len(plan))
    return paths


def write_demo_night(
    directory: Path, size: int = 1024, seed: int = 20180822, progress: Progress | None = None
) -> list[Path]:
    """Write ten biases, ten 90 s and twenty 1000 s darks of a small "aspen", night of 2018-08-22."""
    camera = SimulatedCamera.create((size, size), seed)
    return write_night(directory, camera, start=DEMO_NIGHT, progress=progress)
