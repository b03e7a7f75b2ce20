"""Mask versions in the registry: storing what was built, giving it its dates, telling about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.queries import CameraRow, MaskRow
from hotpix_registry.domain import Frame, Night, Recipe, Rule, Series, Validity, iso
from hotpix_registry.errors import UnknownId, UsageError

if TYPE_CHECKING:
    from hotpix_registry.planning import Campaign
    from hotpix_registry.registry.compute import BuiltMask
    from hotpix_registry.science.gates import GateResult


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskChange:
    """An interval of dates that another mask answers than before."""

    valid_from: str
    valid_to: str | None
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What one campaign's build left in the registry."""

    mask_id: int
    version: int
    series: str
    status: str
    """certified, candidate or superseded"""
    new: bool
    """False: this very build had been made before"""
    sha256: str
    nights: tuple[str, str]
    exposures_s: tuple[float, ...]
    flagged: int
    pixels: int
    counts: dict[str, int]
    limit_e_per_s: float | None
    limit_reason: str
    bias_method: str
    changes: tuple[MaskChange, ...] = ()
    failed_gates: tuple[str, ...] = ()
    """why it is a candidate only: what was found, and what was wanted"""
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a build would do: campaigns with their frames, and the frames that fit nowhere."""

    campaigns: tuple[Campaign, ...]
    strays: tuple[tuple[Frame, str], ...]


def find_mask(connection: Connection, mask_id: int) -> MaskRow:
    """A mask version by its id.

    Raises
    ------
    UnknownId
    """
    found = queries.mask(connection, mask_id) if 0 < mask_id < 2**63 else None
    if found is None:
        raise UnknownId(f"There is no mask {mask_id}.", next_step="`hotpix-registry masks` lists them.")
    return found


def recipe_for(campaign: Campaign, recipe: Recipe | None) -> Recipe:
    """The recipe asked for; by default the cut-off where there is one exposure time.

    Raises
    ------
    UsageError
        A rule that compares exposure times, and only one of them.
    """
    if recipe is None:
        return Recipe() if len(campaign.sets) > 1 else Recipe(rule=Rule.CUTOFF)
    if len(campaign.sets) < 2 and recipe.rule not in (Rule.CUTOFF, Rule.NONE):
        raise UsageError(
            f"Rule {recipe.rule} compares exposure times, and the campaign of {campaign.first_night} of "
            f"{campaign.series} has only {campaign.sets[0].exptime_s:g} s.",
            next_step="Take another exposure time, or use --rule cutoff.",
        )
    return recipe


# --- storing --------------------------------------------------------------------------


def earlier_mask(connection: Connection, built: BuiltMask) -> MaskRow | None:
    """The newest certified mask of the series from before, by the same rule from the same exposures."""
    campaign, exposures = built.ingredients.campaign, built.detection.exposures_s
    wanted = (str(built.ingredients.recipe.rule), min(exposures), max(exposures))
    held = [
        find_mask(connection, a.mask_id) for a in queries.assignments(connection, [campaign.series.series_id])
    ]
    earlier = [
        m
        for m in held
        if m.last_night < campaign.first_night and (m.rule, m.shortest_s, m.longest_s) == wanted
    ]
    return max(earlier, key=lambda m: (m.last_night, m.id), default=None)


def store_build(
    connection: Connection,
    built: BuiltMask,
    gates: Sequence[GateResult],
    camera: CameraRow,
    tx: int,
    *,
    certify_it: bool = True,
) -> BuildResult:
    """Write a built mask as the next version of its series, and certify it if its gates and camera allow."""
    campaign, detection = built.ingredients.campaign, built.detection
    before = queries.mask_by_build_key(connection, built.ingredients.build_key)
    if before is not None:
        return known_result(connection, before, campaign)
    mask_id, version = queries.add_mask(connection, _values(built, gates, camera, tx))
    queries.add_mask_inputs(connection, mask_id, ((frame.frame_id, role) for frame, role in campaign.inputs))
    failed = tuple(f"{g.name}: {g.found}, wanted {g.wanted}" for g in gates if not g.passed)
    certified = certify_it and camera.profile.certify == "auto" and not failed
    changes = certify(connection, camera, mask_id, tx) if certified else ()
    return BuildResult(
        mask_id=mask_id,
        version=version,
        series=str(campaign.series),
        status="certified" if certified else "candidate",
        new=True,
        sha256=built.packed.sha256,
        nights=(campaign.first_night, campaign.last_night),
        exposures_s=detection.exposures_s,
        flagged=detection.counts["BAD"],
        pixels=detection.dq.size,
        counts=detection.counts,
        limit_e_per_s=detection.limit.e_per_s,
        limit_reason=detection.limit.reason,
        bias_method=detection.bias_method,
        changes=changes,
        failed_gates=failed,
        warnings=tuple(detection.report.get("warnings", ())),
    )


def _values(built: BuiltMask, gates: Sequence[GateResult], camera: CameraRow, tx: int) -> dict[str, Any]:
    from hotpix_registry.registry.compute import software
    from hotpix_registry.science.detection import ALGORITHM_VERSION

    ingredients, detection, packed = built.ingredients, built.detection, built.packed
    campaign = ingredients.campaign
    nights = campaign_validity(campaign.first_night, campaign.last_night, camera)
    return {
        "series_id": campaign.series.series_id,
        "sha256": packed.sha256,
        "build_key": ingredients.build_key,
        "rule": str(ingredients.recipe.rule),
        "algorithm_version": ALGORITHM_VERSION,
        "first_night": campaign.first_night,
        "last_night": campaign.last_night,
        "campaign_start_us": nights.start_us,
        "campaign_end_us": nights.end_us,
        "shortest_s": min(detection.exposures_s),
        "longest_s": max(detection.exposures_s),
        "nx": detection.dq.shape[1],
        "ny": detection.dq.shape[0],
        "flagged": detection.counts["BAD"],
        "limit_e_per_s": detection.limit.e_per_s,
        "profile_id": camera.profile_id,
        "created_tx": tx,
        "recipe": ingredients.recipe.as_dict(),
        "counts": detection.counts,
        "warnings": list(detection.report.get("warnings", ())),
        "software": software(),
        "report": detection.report
        | {
            "limit_reason": detection.limit.reason,
            "bias_method": detection.bias_method,
            "gates": [dataclasses.asdict(gate) for gate in gates],
        },
        "encoding": packed.encoding,
        "blob_sha256": packed.blob_sha256,
        "numbers": built.numbers,
        "blob": packed.blob,
    }


def campaign_validity(first_night: str, last_night: str, camera: CameraRow) -> Validity:
    """From the start of a campaign's first night to the end of its last, at the camera's place."""
    longitude = camera.profile.longitude_deg_east
    first = Night(date.fromisoformat(first_night), longitude).validity
    last = Night(date.fromisoformat(last_night), longitude).validity
    return Validity(first.start_us, last.end_us)


# --- dates ----------------------------------------------------------------------------


def certify(
    connection: Connection,
    camera: CameraRow,
    mask_id: int,
    tx: int,
    *,
    reach_back_days: int | None = None,
) -> tuple[MaskChange, ...]:
    """Place a mask among those of its series, and write what that closes and opens.

    `reach_back_days` is the profile's, unless given.
    """
    from hotpix_registry.timeline import Placed, place

    mask = find_mask(connection, mask_id)
    current = []
    for assignment in queries.assignments(connection, [mask.series_id]):
        held = find_mask(connection, assignment.mask_id)
        campaign = Validity(held.campaign_start_us, held.campaign_end_us)
        current.append(Placed(assignment.id, assignment.mask_id, assignment.validity, campaign))
    placement = place(
        current,
        Validity(mask.campaign_start_us, mask.campaign_end_us),
        reach_back_days=(camera.profile.reach_back_days if reach_back_days is None else reach_back_days),
        service_from_us=camera.profile.service_from_us,
    )
    queries.close_assignments(connection, placement.closed, tx)
    for held_id, validity in (*placement.opened, (mask_id, placement.validity)):
        queries.add_assignment(connection, mask.series_id, held_id, validity, tx)
    return tuple(
        MaskChange(
            valid_from=iso(change.validity.start_us) or "",
            valid_to=iso(change.validity.end_us),
            before=change.before,
            after=mask_id,
        )
        for change in placement.changes
        if change.before != mask_id
    )


# --- telling --------------------------------------------------------------------------


def known_result(connection: Connection, mask: MaskRow, campaign: Campaign) -> BuildResult:
    """What a build returns that had been made before."""
    report = queries.mask_details(connection, mask.id)["report"]
    status = status_of(connection, mask)
    notes = (
        [f"It is superseded by another mask; `hotpix-registry certify {mask.id}` brings it back."]
        if status == "superseded"
        else []
    )
    return BuildResult(
        mask_id=mask.id,
        version=mask.version,
        series=str(campaign.series),
        status=status,
        new=False,
        sha256=mask.sha256,
        nights=(mask.first_night, mask.last_night),
        exposures_s=tuple(s.exptime_s for s in campaign.sets),
        flagged=mask.flagged,
        pixels=mask.nx * mask.ny,
        counts=mask.counts,
        limit_e_per_s=mask.limit_e_per_s,
        limit_reason=report["limit_reason"],
        bias_method=report["bias_method"],
        failed_gates=tuple(
            f"{g['name']}: {g['found']}, wanted {g['wanted']}" for g in report["gates"] if not g["passed"]
        ),
        warnings=(*mask.warnings, *notes),
    )


def status_of(connection: Connection, mask: MaskRow) -> str:
    """certified while it holds dates; superseded when it held some; candidate before."""
    if any(a.mask_id == mask.id for a in queries.assignments(connection, [mask.series_id])):
        return "certified"
    return "superseded" if queries.was_ever_assigned(connection, mask.id) else "candidate"


def summary(connection: Connection, row: MaskRow, series: Series) -> dict[str, Any]:
    """A mask version as `masks` lists it."""
    held = [a.validity for a in queries.assignments(connection, [row.series_id]) if a.mask_id == row.id]
    return {
        "mask_id": row.id,
        "version": row.version,
        "camera": series.camera,
        "series": str(series),
        "status": status_of(connection, row),
        "valid": [{"from": iso(v.start_us), "to": iso(v.end_us)} for v in held],
        "first_night": row.first_night,
        "last_night": row.last_night,
        "exposures_tested_s": None if row.shortest_s is None else [row.shortest_s, row.longest_s],
        "rule": row.rule,
        "limit_e_per_s": row.limit_e_per_s,
        "flagged": row.flagged,
        "pixels": row.nx * row.ny,
        "counts": row.counts,
        "sha256": row.sha256,
        "build_key": row.build_key,
        "algorithm_version": row.algorithm_version,
    }


def details(connection: Connection, mask_id: int) -> dict[str, Any]:
    """Everything known about one mask version: recipe, inputs, report, software, who and when."""
    row = find_mask(connection, mask_id)
    told = summary(connection, row, queries.series(connection)[row.series_id])
    more = queries.mask_details(connection, mask_id)
    roles = queries.mask_inputs(connection, mask_id)
    frames = {f.frame_id: f for f in queries.frames(connection, ids=[i for i, _ in roles])}
    inputs = [
        {
            "frame_id": frame_id,
            "role": role,
            "sha256": frames[frame_id].sha256,
            "kind": str(frames[frame_id].kind),
            "exptime_s": frames[frame_id].exptime_s,
            "ccd_temp_c": frames[frame_id].facts.ccd_temp_c,
            "start": iso(frames[frame_id].start_us),
            "path": frames[frame_id].name,
        }
        for frame_id, role in roles
    ]
    built = iso(more.pop("at_us"))
    return told | {"warnings": row.warnings, "built": built} | more | {"inputs": inputs}
