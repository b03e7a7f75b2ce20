"""Masks from outside: read, given the words of a mask of ours, and stored with their provenance."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.queries import CameraRow, MaskRow
from hotpix_registry.domain import DQ, Configuration, Rule, digest, parse_date
from hotpix_registry.errors import UsageError
from hotpix_registry.registry import masks
from hotpix_registry.registry.build import empty_numbers, software
from hotpix_registry.registry.ingest import sha256_of
from hotpix_registry.registry.masks import BuildResult

if TYPE_CHECKING:
    from hotpix_registry.fits.packing import PackedMask

ALGORITHM_VERSION = "import-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignMask:
    """A mask that was made elsewhere, packed as one of ours."""

    packed: PackedMask
    build_key: str
    recipe: dict[str, object]
    configuration: Configuration
    set_point: tuple[str, float | None]
    night: str
    shape: tuple[int, int]
    flagged: int


def read(
    path: Path,
    camera: CameraRow,
    known: list[MaskRow],
    valid_from: str,
    temperature_c: float | None,
    *,
    binning: tuple[int, int],
    bit: int | None,
    shape: tuple[int, int] | None,
) -> ForeignMask:
    """Read a foreign mask; a list of boxes takes the shape of the camera's other masks.

    Raises
    ------
    UsageError
        The date is no night, or the set point or the shape is missing.
    UnreadableFrame
        The file is no mask that can be read.
    """
    import numpy as np

    from hotpix_registry.fits import maskfile, packing
    from hotpix_registry.fits.exports import read_foreign_mask

    try:
        night = parse_date(valid_from)
    except ValueError as error:
        raise UsageError(f"{error}.") from None
    if not isinstance(night, date):
        raise UsageError(f"'{valid_from}' is an instant.", next_step="Give the first night, as 2018-08-22.")
    set_point = _set_point(camera, temperature_c)
    shapes = {(m.ny, m.nx) for m in known}
    if shape is None and len(shapes) == 1:
        (shape,) = shapes
    bad = read_foreign_mask(path, shape=shape, bit=bit)
    dq = np.where(bad, np.uint16(DQ.BAD | DQ.MANUAL), np.uint16(0)).astype(np.uint16)
    sha256 = sha256_of(str(path))
    recipe: dict[str, object] = {"rule": str(Rule.IMPORT), "bit": bit}
    configuration = Configuration(binning=binning)
    build_key = digest(
        {
            "camera": camera.name,
            "configuration": configuration.as_dict(),
            "set_point": set_point[0],
            "night": str(night),
            "inputs": [sha256],
            "recipe": recipe,
            "shape": list(bad.shape),
            "algorithm": ALGORITHM_VERSION,
        }
    )
    content = maskfile.MaskContent(
        dq=dq,
        camera=camera.name,
        configuration=configuration,
        set_point_c=set_point[1],
        first_night=str(night),
        last_night=str(night),
        build_key=build_key,
        algorithm_version=ALGORITHM_VERSION,
        recipe=recipe,
        inputs=(maskfile.MaskInput(role="import", sha256=sha256),),
        notes=("Imported: the pixels of this mask were decided elsewhere.",),
    )
    return ForeignMask(
        packed=packing.pack(maskfile.encode(content)),
        build_key=build_key,
        recipe=recipe | {"name": path.name, "sha256": sha256},
        configuration=configuration,
        set_point=set_point,
        night=str(night),
        shape=(bad.shape[0], bad.shape[1]),
        flagged=int(bad.sum()),
    )


def _set_point(camera: CameraRow, temperature_c: float | None) -> tuple[str, float | None]:
    if camera.profile.temperature_grid_c is None:
        return "none", None
    if temperature_c is None:
        raise UsageError(
            f"Camera {camera.name} is cooled, and a mask belongs to a set point.",
            next_step="Give it with --temperature.",
        )
    return f"{round(temperature_c, 1) + 0.0:.1f}", round(temperature_c, 1) + 0.0


def store(connection: Connection, foreign: ForeignMask, camera: CameraRow, tx: int) -> BuildResult:
    """Write a foreign mask as the next version of its series, and certify it."""
    before = queries.mask_by_build_key(connection, foreign.build_key)
    if before is not None:
        return _result(connection, before.id, new=False)
    series_id = queries.series_id(connection, camera.camera_id, foreign.configuration, foreign.set_point, tx)
    nights = masks.campaign_validity(foreign.night, foreign.night, camera)
    mask_id, _ = queries.add_mask(
        connection,
        {
            "series_id": series_id,
            "sha256": foreign.packed.sha256,
            "build_key": foreign.build_key,
            "rule": str(Rule.IMPORT),
            "algorithm_version": ALGORITHM_VERSION,
            "first_night": foreign.night,
            "last_night": foreign.night,
            "campaign_start_us": nights.start_us,
            "campaign_end_us": nights.end_us,
            "nx": foreign.shape[1],
            "ny": foreign.shape[0],
            "flagged": foreign.flagged,
            "profile_id": camera.profile_id,
            "created_tx": tx,
            "recipe": foreign.recipe,
            "counts": {"BAD": foreign.flagged, "MANUAL": foreign.flagged},
            "warnings": [],
            "software": software(),
            "report": {
                "limit_reason": "Imported: no exposures were compared.",
                "bias_method": "none",
                "gates": [],
            },
            "encoding": foreign.packed.encoding,
            "blob_sha256": foreign.packed.blob_sha256,
            "numbers": empty_numbers(),
            "blob": foreign.packed.blob,
        },
    )
    changes = masks.certify(connection, camera, mask_id, tx, reach_back_days=0)
    return _result(connection, mask_id, new=True, changes=changes)


def _result(
    connection: Connection, mask_id: int, *, new: bool, changes: tuple[masks.MaskChange, ...] = ()
) -> BuildResult:
    row = masks.find_mask(connection, mask_id)
    return BuildResult(
        mask_id=row.id,
        version=row.version,
        series=str(queries.series(connection)[row.series_id]),
        status=masks.status_of(connection, row),
        new=new,
        sha256=row.sha256,
        nights=(row.first_night, row.last_night),
        exposures_s=(),
        flagged=row.flagged,
        pixels=row.nx * row.ny,
        counts=row.counts,
        limit_e_per_s=None,
        limit_reason="Imported: no exposures were compared.",
        bias_method="none",
        changes=changes,
    )
