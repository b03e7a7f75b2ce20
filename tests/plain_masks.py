"""Masks in milliseconds: rows that no detection made, for tests of which mask holds which dates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hotpix_registry import Registry
from hotpix_registry.cameras import CameraProfile
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.queries import CameraRow
from hotpix_registry.domain import Configuration, Facts, Kind, Rule, digest
from hotpix_registry.fits.maskfile import MaskInput
from hotpix_registry.registry import derived, life, masks
from hotpix_registry.registry.compute import empty_numbers
from hotpix_registry.registry.derived import Derived, Packed

SHAPE = (8, 8)
_PASSED = {"name": "flagged fraction", "passed": True, "found": "1 %", "wanted": "at most 5 %"}
_FAILED = _PASSED | {"passed": False, "found": "40 %"}


def add_camera(registry: Registry, profile: CameraProfile) -> CameraRow:
    with registry._writing("add camera") as (connection, tx):
        return queries.add_camera(connection, profile, tx)


def add_mask(
    registry: Registry,
    camera: CameraRow,
    nights: tuple[str, str],
    darks_us: Sequence[int],
    *,
    set_point_c: float = -10.0,
    gates_passed: bool = True,
    certify: bool = True,
    seed: int = 0,
) -> int:
    """Store what a build of darks taken at these instants would have stored, and certify it as a build does.

    `seed` makes another mask of the same darks.
    """
    dq = np.zeros(SHAPE, np.uint16)
    dq.flat[seed % dq.size] = 5
    made = Derived(
        rule=Rule.EVIDENCE_AND_LIMIT,
        dq=dq,
        configuration=Configuration(),
        set_point=(f"{set_point_c:.1f}", set_point_c),
        nights=nights,
        exposures_s=(30.0, 120.0),
        inputs=tuple(MaskInput(role="dark", sha256=_sha256(camera, us)) for us in darks_us),
        recipe={"seed": seed},
        note="Made by hand.",
    )
    packed = derived.pack(made, camera)
    with registry._writing("build") as (connection, tx):
        series_id = queries.series_id(connection, camera.camera_id, Configuration(), made.set_point, tx)
        gates = [_PASSED if gates_passed else _FAILED]
        values = mask_values(packed, camera, gates=gates) | {"series_id": series_id, "created_tx": tx}
        mask_id, _ = queries.add_mask(connection, values)
        frames = [_frame(connection, camera, us, set_point_c, tx) for us in darks_us]
        queries.add_mask_inputs(connection, mask_id, [(frame_id, "dark") for frame_id in frames])
        if certify and gates_passed:
            placement = life.placement_of(connection, camera, masks.find_mask(connection, mask_id))
            if not placement.in_the_way:
                life.settle(connection, series_id, placement, tx)
    return mask_id


def mask_values(packed: Packed, camera: CameraRow, *, gates: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """A row of the table of masks, all but its series and its transaction."""
    made = packed.derived
    campaign = masks.campaign_validity(*made.nights, camera)
    return {
        "sha256": packed.file.sha256,
        "build_key": packed.build_key,
        "rule": str(made.rule),
        "algorithm_version": "by hand",
        "first_night": made.nights[0],
        "last_night": made.nights[1],
        "campaign_start_us": campaign.start_us,
        "campaign_end_us": campaign.end_us,
        "shortest_s": min(made.exposures_s),
        "longest_s": max(made.exposures_s),
        "nx": made.dq.shape[1],
        "ny": made.dq.shape[0],
        "flagged": packed.counts["BAD"],
        "profile_id": camera.profile_id,
        "recipe": dict(made.recipe),
        "counts": packed.counts,
        "warnings": [],
        "software": {},
        "report": {"limit_reason": made.note, "bias_method": "none", "gates": list(gates)},
        "encoding": packed.file.encoding,
        "blob_sha256": packed.file.blob_sha256,
        "numbers": empty_numbers(),
        "blob": packed.file.blob,
    }


def _sha256(camera: CameraRow, start_us: int) -> str:
    return digest([camera.name, start_us])


def _frame(connection: Any, camera: CameraRow, start_us: int, set_point_c: float, tx: int) -> int:
    sha256 = _sha256(camera, start_us)
    known = queries.frame_ids(connection, [sha256])
    if sha256 in known:
        return known[sha256]
    frame = queries.NewFrame(sha256=sha256, size_bytes=1, compression="", header="")
    frame_id = queries.add_frames(connection, [frame], tx)[sha256]
    facts = Facts(
        kind=Kind.DARK,
        frame_type="dark",
        shape=SHAPE,
        exptime_s=30.0,
        start_us=start_us,
        set_temp_c=set_point_c,
    )
    night = camera.profile.night_of(start_us)
    reading = queries.Reading(
        camera_id=camera.camera_id, series_id=None, night=night, facts=facts, twin_of=None
    )
    queries.put_reading(connection, frame_id, reading, tx)
    return frame_id
