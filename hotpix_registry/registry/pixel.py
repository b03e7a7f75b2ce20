"""One pixel: what it was measured as, its flags, and its flags in the other versions of its series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import Source, reading
from hotpix_registry.domain import DQ
from hotpix_registry.errors import UsageError
from hotpix_registry.fits.packing import unpack_flagged
from hotpix_registry.registry import content, masks


def pixel(
    engine: Source, mask_id: int, x: int, y: int, numbers: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """A pixel of a mask, 0-based, x first; `numbers` are those of its build.

    Raises
    ------
    UnknownId, IntegrityError
    UsageError
        The mask has no such pixel.
    """
    with reading(engine) as connection:
        mask = masks.find_mask(connection, mask_id)
        if not (0 <= x < mask.nx and 0 <= y < mask.ny):
            raise UsageError(
                f"Mask {mask_id} has {mask.nx} x {mask.ny} pixels, and {x},{y} is none of them.",
                next_step=f"x is 0 to {mask.nx - 1}, y is 0 to {mask.ny - 1}.",
            )
        versions = [
            row
            for row in queries.masks(connection, series_id=mask.series_id)
            if (row.nx, row.ny) == (mask.nx, mask.ny)
        ]
        status = masks.statuses(connection, versions)
    place = y * mask.nx + x
    through = []
    for row in versions:
        dq = _flags_at(engine, row.id, place)
        through.append(
            {
                "mask_id": row.id,
                "version": row.version,
                "status": status[row.id],
                "first_night": row.first_night,
                "last_night": row.last_night,
            }
            | _told(dq)
        )
    own = next(told for told in through if told["mask_id"] == mask_id)
    return {
        "mask_id": mask_id,
        "x": x,
        "y": y,
        "dq": own["dq"],
        "flags": own["flags"],
        "masked": own["masked"],
        "dark_current": _dark_current(numbers, place),
        "versions": through,
    }


def _flags_at(engine: Source, mask_id: int, place: int) -> int:
    encoding, blob, blob_sha256, _ = content.stored(engine, mask_id)
    _, positions, flags = unpack_flagged(encoding, blob, blob_sha256=blob_sha256)
    at = int(np.searchsorted(positions, place))
    return int(flags[at]) if at < positions.size and positions[at] == place else 0


def _told(dq: int) -> dict[str, Any]:
    return {
        "dq": dq,
        "flags": [str(flag.name) for flag in DQ if dq & flag],
        "masked": bool(dq & DQ.BAD),
    }


def _dark_current(numbers: Mapping[str, Any], place: int) -> list[dict[str, float]]:
    """Of each exposure time that was compared; none for a normal pixel, of which no numbers are kept."""
    known = np.flatnonzero(numbers.get("points_index", np.empty(0)) == place)
    if not known.size:
        return []
    told = [
        {"exptime_s": float(numbers[f"{name}_s"]), "e_per_s": float(numbers[f"points_{name}"][known[0]])}
        for name in ("short", "long")
    ]
    measured = {one["exptime_s"]: one for one in told if np.isfinite(one["e_per_s"])}
    return [measured[exptime_s] for exptime_s in sorted(measured)]
