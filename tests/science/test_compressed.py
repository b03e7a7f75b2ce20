"""Compressed frames: the same flags, whatever reads them and in whatever strips."""

import bz2
import dataclasses
import gzip
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from hotpix_registry.domain import Recipe
from hotpix_registry.fits.pixels import open_rows
from hotpix_registry.science.detection import detect
from hotpix_registry.science.inputs import Detector, ExposureGroup
from hotpix_registry.simulate import SimulatedCamera

DETECTOR = Detector(gain_e_per_adu=1.5, read_noise_e=10.0)


def write(path: Path, array: np.ndarray, compression: str) -> Path:
    if compression == "fz":
        hdus = fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(array)])
        hdus.writeto(path.with_suffix(".fits.fz"))
        return path.with_suffix(".fits.fz")
    fits.PrimaryHDU(array).writeto(path)
    if compression:
        path.write_bytes({"gz": gzip, "bz2": bz2}[compression].compress(path.read_bytes()))
    return path


def on_disk(group: ExposureGroup, folder: Path, compression: str, stack: ExitStack) -> ExposureGroup:
    folder.mkdir(parents=True)
    frames = []
    for i, frame in enumerate(group.frames):
        path = write(folder / f"{i}.fits", frame.rows.read(0, frame.rows.shape[0]), compression)
        frames.append(dataclasses.replace(frame, rows=stack.enter_context(open_rows(path))))
    return dataclasses.replace(group, frames=tuple(frames))


@pytest.mark.parametrize(
    ("compression", "strip_rows", "workers"),
    [("", 7, 2), ("gz", None, 2), ("gz", 5, 1), ("bz2", None, 2), ("fz", 33, 2)],
)
def test_flags_do_not_depend_on_compression_strips_and_workers(
    tmp_path: Path, compression: str, strip_rows: int | None, workers: int
) -> None:
    camera = SimulatedCamera.create((160, 200), seed=3)
    groups = [camera.group(90.0, 4), camera.group(1000.0, 5)]
    expected = detect(groups, DETECTOR, Recipe(), workers=1)
    with ExitStack() as stack:
        stored = [on_disk(group, tmp_path / f"{group.exptime_s:g}", compression, stack) for group in groups]
        found = detect(stored, DETECTOR, Recipe(), strip_rows=strip_rows, workers=workers)
    assert np.array_equal(found.dq, expected.dq)
    assert found.counts["BAD"] > 0
