"""Masks whose pixels are known beforehand, for the tests of what happened: imported, and none built."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from hotpix_registry.registry import Registry
from tests import small_camera

CAMERA = "smallcam-48"
SHAPE = small_camera.SHAPE


def register_camera(registry: Registry, folder: Path) -> None:
    """Let the small camera be known, by one dark of 2021-03-04."""
    registry.ingest([small_camera.write_frame(folder / "first" / "dark.fits")])


def one_mask(registry: Registry, folder: Path) -> None:
    """A story: the small camera with a mask of two pixels, (5, 0) and (6, 1), from 2021-03-04 on."""
    register_camera(registry, folder)
    import_pixels(registry, folder, "2021-03-04", [5, 70])


def import_pixels(
    registry: Registry, folder: Path, night: str, pixels: Iterable[int], *, temperature_c: float = -10.0
) -> int:
    """Import a mask of some pixels, by their index, valid from a night; returns its id."""
    mask = np.zeros(SHAPE, bool)
    mask.reshape(-1)[list(pixels)] = True
    path = folder / f"{night}-{temperature_c:g}.npy"
    np.save(path, mask)
    imported = registry.import_mask(path, CAMERA, valid_from=night, temperature_c=temperature_c)
    return imported.mask_id
