"""Masks that no build of darks made: imported, edited by hand, or followed through the campaigns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.queries import CameraRow, MaskRow
from hotpix_registry.domain import DQ, Configuration, Rule, Series, digest
from hotpix_registry.errors import UsageError
from hotpix_registry.instants import parse_date
from hotpix_registry.registry import life, masks
from hotpix_registry.registry.compute import empty_numbers, software
from hotpix_registry.registry.ingest import sha256_of
from hotpix_registry.registry.masks import BuildResult
from hotpix_registry.timeline import epoch_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hotpix_registry.fits.maskfile import MaskInput
    from hotpix_registry.fits.packing import PackedMask

ALGORITHM_VERSION = "derived-1"
MISSES = 2
"""campaigns in a row without a pixel, after which it is no longer followed"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """A mask made from masks, ready to be packed and stored."""

    rule: Rule
    dq: NDArray[np.uint16]
    configuration: Configuration
    set_point: tuple[str, float | None]
    nights: tuple[str, str]
    exposures_s: tuple[float, ...]
    inputs: tuple[MaskInput, ...]
    recipe: Mapping[str, Any]
    note: str
    """a sentence: how its pixels were decided"""
    raw_section: str | None = None
    """the part of the raw frame that it covers, as its source's file says"""


def read_foreign(
    path: Path,
    camera: CameraRow,
    known: Sequence[tuple[MaskRow, Series]],
    valid_from: str,
    temperature_c: float | None,
    *,
    configuration: Configuration,
    bit: int | None,
    shape: tuple[int, int] | None,
) -> Derived:
    """Read a mask that was made elsewhere, for frames of a configuration.

    Its shape is that of the sub-frame, if there is one, else that of the camera's other masks of the
    same binning, if they agree.

    Raises
    ------
    UsageError
        The date is no night, or the set point or the shape is missing.
    UnreadableFrame
        The file is no mask that can be read.
    """
    import numpy as np

    from hotpix_registry.fits.foreign import read_foreign_mask
    from hotpix_registry.fits.maskfile import MaskInput

    night = _night(valid_from)
    if configuration.sub_frame is not None:
        sub_frame_shape = configuration.sub_frame[3], configuration.sub_frame[2]
        if shape not in (None, sub_frame_shape):
            raise UsageError("The shape is another than the sub-frame's.", next_step="Leave out --shape.")
        shape = sub_frame_shape
    elif shape is None:
        shapes = {(mask.ny, mask.nx) for mask, series in known if _same_pixels(series, configuration)}
        shape = shapes.pop() if len(shapes) == 1 else None
    bad = read_foreign_mask(path, shape=shape, bit=bit)
    return Derived(
        rule=Rule.IMPORT,
        dq=np.where(bad, np.uint16(DQ.BAD | DQ.MANUAL), np.uint16(0)).astype(np.uint16),
        configuration=configuration,
        set_point=_set_point(camera, temperature_c),
        nights=(night, night),
        exposures_s=(),
        inputs=(MaskInput(role="import", sha256=sha256_of(str(path))),),
        recipe={"rule": str(Rule.IMPORT), "bit": bit},
        note="Imported: its pixels were decided elsewhere.",
    )


def _same_pixels(series: Series, configuration: Configuration) -> bool:
    other = series.configuration
    return (other.binning, other.sub_frame) == (configuration.binning, configuration.sub_frame)


def _night(text: str) -> str:
    try:
        night = parse_date(text)
    except ValueError as error:
        raise UsageError(f"{error}.") from None
    if not isinstance(night, date):
        raise UsageError(f"'{text}' is an instant.", next_step="Give the first night, as 2018-08-22.")
    return str(night)


def _set_point(camera: CameraRow, temperature_c: float | None) -> tuple[str, float | None]:
    if camera.profile.temperature_grid_c is None:
        return "none", None
    if temperature_c is None:
        raise UsageError(
            f"Camera {camera.name} is cooled, and a mask belongs to a set point.",
            next_step="Give it with --temperature.",
        )
    return f"{round(temperature_c, 1) + 0.0:.1f}", round(temperature_c, 1) + 0.0


def edit(
    source: MaskRow,
    series: Series,
    dq: NDArray[np.uint16],
    *,
    mask: Sequence[tuple[int, int]],
    unmask: Sequence[tuple[int, int]],
    raw_section: str | None = None,
) -> Derived:
    """Mask or unmask single pixels (x, y) of a mask by hand.

    Raises
    ------
    UsageError
        A pixel lies outside the mask.
    """
    from hotpix_registry.fits.maskfile import MaskInput

    ny, nx = dq.shape
    edited = dq.copy()
    for x, y in (*mask, *unmask):
        if not (x < nx and y < ny):
            raise UsageError(
                f"Pixel {x},{y} lies outside the {nx} x {ny} pixels of mask {source.id}.",
                next_step="Coordinates are 0-based, x first.",
            )
    for x, y in mask:
        edited[y, x] |= (DQ.BAD | DQ.MANUAL).value
    for x, y in unmask:
        edited[y, x] = 0
    return Derived(
        rule=Rule.EDIT,
        dq=edited,
        **_from(source, series),
        inputs=(MaskInput(role="mask", sha256=source.sha256),),
        recipe={
            "rule": str(Rule.EDIT),
            "mask": [list(p) for p in mask],
            "unmask": [list(p) for p in unmask],
        },
        note=(
            f"Edited by hand from version {source.version}: {len(mask)} pixels masked, "
            f"{len(unmask)} unmasked."
        ),
        raw_section=raw_section,
    )


def follow(
    history: Sequence[tuple[MaskRow, NDArray[np.uint16]]],
    series: Series,
    *,
    misses: int = MISSES,
    raw_section: str | None = None,
) -> Derived:
    """Follow pixels through a series' masks by evidence, oldest first; the last gives the dates."""
    from hotpix_registry.fits.maskfile import MaskInput
    from hotpix_registry.science.persist import persist

    newest = history[-1][0]
    return Derived(
        rule=Rule.PERSIST,
        dq=persist([dq for _, dq in history], misses=misses),
        **_from(newest, series),
        inputs=tuple(MaskInput(role="mask", sha256=row.sha256) for row, _ in history),
        recipe=_following(misses),
        note=f"Pixels followed through {len(history)} campaigns: on when found, off after {misses} misses.",
        raw_section=raw_section,
    )


def followed_up_to(connection: Connection, camera: CameraRow, evidence_id: int) -> int | None:
    """The mask in which pixels are followed up to one by evidence, if that was made before."""
    newest = masks.find_mask(connection, evidence_id)
    series = queries.series(connection, camera.camera_id)[newest.series_id]
    own = _from(newest, series)
    key = _build_key(
        camera,
        own["configuration"],
        own["set_point"],
        own["nights"],
        [row.sha256 for row in evidence_before(connection, camera, newest)],
        _following(MISSES),
        (newest.ny, newest.nx),
    )
    found = queries.mask_by_build_key(connection, key)
    return None if found is None else found.id


def _following(misses: int) -> dict[str, Any]:
    return {"rule": str(Rule.PERSIST), "misses": misses}


def _from(source: MaskRow, series: Series) -> dict[str, Any]:
    key = "none" if series.set_point_c is None else f"{series.set_point_c:.1f}"
    tested = [s for s in (source.shortest_s, source.longest_s) if s is not None]
    return {
        "configuration": series.configuration,
        "set_point": (key, series.set_point_c),
        "nights": (source.first_night, source.last_night),
        "exposures_s": tuple(dict.fromkeys(tested)),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A derived mask with its file, packed for storage."""

    derived: Derived
    build_key: str
    file: PackedMask
    counts: dict[str, int]


def pack(derived: Derived, camera: CameraRow) -> Packed:
    """Write the mask file of a derived mask in memory."""
    from hotpix_registry.fits import maskfile, packing

    build_key = _build_key(
        camera,
        derived.configuration,
        derived.set_point,
        derived.nights,
        [i.sha256 for i in derived.inputs],
        derived.recipe,
        derived.dq.shape,
    )
    content = maskfile.MaskContent(
        dq=derived.dq,
        camera=camera.name,
        configuration=derived.configuration,
        set_point_c=derived.set_point[1],
        first_night=derived.nights[0],
        last_night=derived.nights[1],
        exposures_s=derived.exposures_s,
        build_key=build_key,
        algorithm_version=ALGORITHM_VERSION,
        recipe=derived.recipe,
        trim_section=derived.raw_section,
        inputs=derived.inputs,
        notes=(derived.note,),
    )
    parts = maskfile.parts(content)
    counts = {flag.name or "": n for flag, n in parts.flagged.counts().items() if n}
    return Packed(derived=derived, build_key=build_key, file=packing.pack(parts), counts={"BAD": 0} | counts)


def _build_key(
    camera: CameraRow,
    configuration: Configuration,
    set_point: tuple[str, float | None],
    nights: tuple[str, str],
    inputs: Sequence[str],
    recipe: Mapping[str, Any],
    shape: Sequence[int],
) -> str:
    return digest(
        {
            "camera": camera.name,
            "configuration": configuration.as_dict(),
            "set_point": set_point[0],
            "nights": list(nights),
            "inputs": list(inputs),
            "recipe": dict(recipe),
            "shape": list(shape),
            "algorithm": ALGORITHM_VERSION,
        }
    )


def store(
    connection: Connection,
    packed: Packed,
    camera: CameraRow,
    tx: int,
    *,
    certify_it: bool = True,
    supersede: bool = False,
    source: MaskRow | None = None,
) -> BuildResult:
    """Write a derived mask as the next version of its series, and certify it if gates and camera allow.

    Of the gates those are asked that need no darks and no other mask: it was decided elsewhere or by hand.

    An edit has the standing of its `source`: it takes that one's dates, or waits as that one does.

    Raises
    ------
    Conflict
        Another mask is in the way, and `supersede` does not say that this is meant.
    """
    from hotpix_registry.science.gates import judge

    derived = packed.derived
    before = queries.mask_by_build_key(connection, packed.build_key)
    if before is not None:
        return _result(connection, before.id, camera, new=False, source=source)
    nights = masks.campaign_validity(*derived.nights, camera)
    gates = judge(derived.dq, {}, rule=derived.rule, bounds=camera.profile.gates)
    values = {
        "series_id": queries.series_id(
            connection, camera.camera_id, derived.configuration, derived.set_point, tx
        ),
        "sha256": packed.file.sha256,
        "build_key": packed.build_key,
        "rule": str(derived.rule),
        "algorithm_version": ALGORITHM_VERSION,
        "first_night": derived.nights[0],
        "last_night": derived.nights[1],
        "campaign_start_us": nights.start_us,
        "campaign_end_us": nights.end_us,
        "shortest_s": min(derived.exposures_s, default=None),
        "longest_s": max(derived.exposures_s, default=None),
        "nx": derived.dq.shape[1],
        "ny": derived.dq.shape[0],
        "flagged": packed.counts["BAD"],
        "profile_id": camera.profile_id,
        "created_tx": tx,
        "recipe": dict(derived.recipe),
        "counts": packed.counts,
        "warnings": [],
        "software": software(),
        "report": {
            "limit_reason": derived.note,
            "bias_method": "none",
            "gates": [dataclasses.asdict(gate) for gate in gates],
            "masks": [{"role": i.role, "sha256": i.sha256} for i in derived.inputs],
        },
        "encoding": packed.file.encoding,
        "blob_sha256": packed.file.blob_sha256,
        "numbers": empty_numbers(),
        "blob": packed.file.blob,
    }
    mask_id, _ = queries.add_mask(connection, values)
    changes: tuple[masks.MaskChange, ...] = ()
    certified = certify_it and camera.profile.certify == "auto" and all(gate.passed for gate in gates)
    if certified and source is not None:
        changes = life.inherit(connection, camera, source, mask_id, tx)
    elif certified:
        changes = life.certify(connection, camera, mask_id, tx, supersede=supersede)
    return _result(connection, mask_id, camera, new=True, source=source, changes=changes)


def _result(
    connection: Connection,
    mask_id: int,
    camera: CameraRow,
    *,
    new: bool,
    source: MaskRow | None,
    changes: tuple[masks.MaskChange, ...] = (),
) -> BuildResult:
    row = masks.find_mask(connection, mask_id)
    status = masks.statuses(connection, [row])[row.id]
    warnings: tuple[str, ...] = ()
    if source is not None and status not in ("certified", "revoked"):
        standing = masks.statuses(connection, [source])[source.id]
        why = f"It had been made before, and is {_a(status)}."
        if new:
            edited = f"it is an edit of mask {source.id}, which is {_a(standing)}"
            why = f"It waits as a candidate, since {edited}."
        if not new or standing != "certified":
            warnings = (f"{why} {life.how_to_certify(connection, camera, row)}",)
    report = queries.mask_details(connection, mask_id)["report"]
    tested = [s for s in (row.shortest_s, row.longest_s) if s is not None]
    return BuildResult(
        mask_id=row.id,
        version=row.version,
        series=str(queries.series(connection)[row.series_id]),
        status=status,
        new=new,
        sha256=row.sha256,
        nights=(row.first_night, row.last_night),
        exposures_s=tuple(dict.fromkeys(tested)),
        flagged=row.flagged,
        pixels=row.nx * row.ny,
        counts=row.counts,
        limit_e_per_s=None,
        limit_reason=report["limit_reason"],
        bias_method="none",
        changes=changes,
        failed_gates=masks.failed_gates(report),
        warnings=warnings,
    )


def _a(status: str) -> str:
    return "a candidate" if status == "candidate" else status


def evidence_before(connection: Connection, camera: CameraRow, newest: MaskRow) -> list[MaskRow]:
    """The newest mask by evidence of each campaign of an epoch up to that of one mask, oldest first."""
    rows = queries.masks(connection, series_id=newest.series_id)
    events_us = masks.epochs_us(queries.events(connection, camera.camera_id), camera)
    anchors = life.anchors_of(connection, camera, rows)
    epoch = epoch_of(anchors[newest.id], events_us)
    revoked = queries.revocations(connection, [row.id for row in rows])
    torn = masks.need_rebuild(connection, rows, events_us)
    by_campaign: dict[str, MaskRow] = {}
    for row in rows:
        usable = row.id not in revoked and row.id not in torn and epoch.contains(anchors[row.id])
        same = (row.ny, row.nx) == (newest.ny, newest.nx)
        if usable and same and row.rule == Rule.EVIDENCE and row.last_night < newest.first_night:
            by_campaign[row.first_night] = row
    return [by_campaign[night] for night in sorted(by_campaign)] + [newest]
