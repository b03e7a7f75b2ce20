"""The use case of building: plan, compute with no transaction open, judge, store in one transaction."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection, Engine

from hotpix_registry import planning
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading, writing
from hotpix_registry.catalogue.queries import Act, CameraRow, MaskRow
from hotpix_registry.domain import ALGORITHM_VERSION, Defect, Frame, Recipe, Rule
from hotpix_registry.errors import RevokedMask, UsageError
from hotpix_registry.instants import iso
from hotpix_registry.places import is_there
from hotpix_registry.planning import Campaign
from hotpix_registry.registry import compute, content, derived, life, masks
from hotpix_registry.registry.compute import BuiltMask
from hotpix_registry.registry.masks import BuildResult, MaskChange, Plan
from hotpix_registry.timeline import epoch_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hotpix_registry.science.gates import GateResult

Progress = Callable[[str, int, int], None]


def plan(
    engine: Engine,
    camera: CameraRow,
    *,
    nights: tuple[str, str] | None,
    exposures_s: Sequence[float] | None,
) -> Plan:
    """Campaigns of a camera's frames, and the frames that fit in none."""
    with reading(engine) as connection:
        frames = queries.frames(connection, camera_id=camera.camera_id)
        series = queries.series(connection, camera.camera_id)
        events_us = [event.at_us for event in queries.events(connection, camera.camera_id)]
    campaigns, strays = planning.plan(
        prefer_present(frames),
        series,
        camera.profile,
        events_us=events_us,
        nights=nights,
        exposures_s=exposures_s,
    )
    return Plan(campaigns=tuple(campaigns), strays=tuple(strays))


def prefer_present(frames: Sequence[Frame]) -> list[Frame]:
    """Let a twin that is still on disk stand in for a frame whose files are gone.

    An archive that was compressed after its ingest holds the same exposures in other bytes.
    """
    twins = {f.twin_of: f for f in frames if f.twin_of is not None and _is_present(f)}
    stand_ins = {f.frame_id: twins[f.frame_id] for f in frames if f.frame_id in twins and not _is_present(f)}
    chosen = {twin.frame_id: original for original, twin in stand_ins.items()}
    settled = []
    for frame in frames:
        if frame.frame_id in stand_ins:
            frame = dataclasses.replace(frame, twin_of=stand_ins[frame.frame_id].frame_id)
        elif frame.frame_id in chosen:
            frame = dataclasses.replace(frame, twin_of=None)
        settled.append(frame)
    return settled


def _is_present(frame: Frame) -> bool:
    return any(map(is_there, frame.paths))


def build_campaign(
    engine: Engine,
    act: Act,
    campaign: Campaign,
    camera: CameraRow,
    recipe: Recipe | None,
    progress: Progress | None,
    *,
    certify: bool = True,
) -> BuildResult:
    """Build and store the mask of one campaign; the very same build returns what it had stored."""
    chosen = recipe_for(campaign, recipe)
    with reading(engine) as connection:
        defects = queries.defects(connection, camera.camera_id)
        ingredients = ingredients_of(campaign, camera, chosen, defects)
        if (result := known(connection, ingredients)) is not None:
            return finish(engine, act, result, campaign, camera, chosen, certify=certify)
    label = f"{campaign.series.camera} {campaign.first_night}"
    built = compute.compute(ingredients, progress=None if progress is None else partial(progress, label))
    return finish(engine, act, built, campaign, camera, chosen, certify=certify)


def ingredients_of(
    campaign: Campaign, camera: CameraRow, recipe: Recipe, defects: Sequence[Defect]
) -> compute.Ingredients:
    """What is computed for a campaign; where pixels are followed through the campaigns, its own evidence.

    Raises
    ------
    NothingToBuild
        The headers disagree about the gain.
    """
    if recipe.rule is Rule.PERSIST:
        recipe = dataclasses.replace(recipe, rule=Rule.EVIDENCE)
    return compute.gather(campaign, camera.profile, recipe, defects)


def known(connection: Connection, ingredients: compute.Ingredients) -> BuildResult | None:
    """What the very same build had stored, if it was made before.

    Raises
    ------
    RevokedMask
    """
    before = queries.mask_by_build_key(connection, ingredients.build_key)
    return None if before is None else known_result(connection, before, ingredients.campaign)


def finish(
    engine: Engine,
    act: Act,
    made: BuiltMask | BuildResult,
    campaign: Campaign,
    camera: CameraRow,
    recipe: Recipe,
    *,
    certify: bool = True,
) -> BuildResult:
    """Judge and store what was computed for a campaign, and whatever its recipe derives from that.

    Within a series campaigns are finished in the order of time: the gates compare each with the one before.
    """
    follows = recipe.rule is Rule.PERSIST
    if isinstance(made, BuiltMask):
        made = _judge_and_store(engine, act, made, camera, certify=certify and not follows)
    return _follow(engine, act, made, campaign, camera, certify=certify) if follows else made


def _judge_and_store(
    engine: Engine, act: Act, built: BuiltMask, camera: CameraRow, *, certify: bool
) -> BuildResult:
    from hotpix_registry.science.gates import judge

    with reading(engine) as connection:
        earlier = earlier_mask(connection, built, camera)
    dq, previous_dq, pixels = _flagged(engine, built, earlier)
    gates = judge(
        dq,
        built.report,
        rule=built.ingredients.recipe.rule,
        previous_dq=previous_dq,
        pixels=pixels,
        bounds=camera.profile.gates,
    )
    with writing(engine) as connection:
        tx = queries.open_transaction(connection, act, "build", now_us=time.time_ns() // 1000)
        return store_build(connection, built, gates, camera, tx, certify_it=certify)


def _flagged(
    engine: Engine, built: BuiltMask, earlier: MaskRow | None
) -> tuple[NDArray[np.uint16], NDArray[np.uint16] | None, int | None]:
    """The flags of a mask and of an earlier one, of the pixels that either flags; and the number of all.

    Planes of another shape are given whole.
    """
    import numpy as np

    from hotpix_registry.fits.packing import unpack_flagged

    packed, pixels = built.packed, built.shape[0] * built.shape[1]
    _, own, flags = unpack_flagged(packed.encoding, packed.blob, blob_sha256=packed.blob_sha256)
    if earlier is None:
        return flags, None, pixels
    shape, before, flags_before = content.flagged(engine, earlier.id)
    if shape != built.shape:
        return built.dq, content.dq(engine, earlier.id), None
    either = np.union1d(own, before)
    dq, previous_dq = np.zeros(either.size, np.uint16), np.zeros(either.size, np.uint16)
    dq[np.searchsorted(either, own)] = flags
    previous_dq[np.searchsorted(either, before)] = flags_before
    return dq, previous_dq, pixels


def _follow(
    engine: Engine,
    act: Act,
    evidence: BuildResult,
    campaign: Campaign,
    camera: CameraRow,
    *,
    certify: bool,
) -> BuildResult:
    """Follow the pixels of a campaign's own evidence through the campaigns before it."""
    with reading(engine) as connection:
        newest = masks.find_mask(connection, evidence.mask_id)
        chain = derived.evidence_before(connection, camera, newest)
    history = [(row, content.dq(engine, row.id)) for row in chain]
    followed = derived.follow(history, campaign.series, raw_section=content.raw_section(engine, newest.id))
    packed = derived.pack(followed, camera)
    with writing(engine) as connection:
        tx = queries.open_transaction(connection, act, "build", now_us=time.time_ns() // 1000)
        certified = certify and camera.profile.certify == "auto" and not evidence.failed_gates
        return derived.store(connection, packed, camera, tx, certify_it=certified)


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


def earlier_mask(connection: Connection, built: BuiltMask, camera: CameraRow) -> MaskRow | None:
    """The newest certified mask of the same epoch from before, by the same rule from the same exposures."""
    campaign, exposures = built.ingredients.campaign, built.exposures_s
    wanted = (str(built.ingredients.recipe.rule), min(exposures), max(exposures))
    state = life.state_of(connection, camera, campaign.series.series_id)
    epoch = epoch_of(campaign.start_us, state.events_us)
    held = [state.masks[p.mask_id] for p in state.placed if epoch.contains(p.anchor_us)]
    revoked = queries.revocations(connection, [mask.id for mask in held])
    moved = masks.moved_away(connection, held)
    earlier = [
        m
        for m in held
        if m.id not in revoked
        and m.id not in moved
        and m.last_night < campaign.first_night
        and (m.rule, m.shortest_s, m.longest_s) == wanted
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
    campaign = built.ingredients.campaign
    before = queries.mask_by_build_key(connection, built.ingredients.build_key)
    if before is not None:
        return known_result(connection, before, campaign)
    gates = [*gates, *_one_epoch(connection, campaign, camera)]
    mask_id, version = queries.add_mask(connection, _values(built, gates, camera, tx))
    queries.add_mask_inputs(connection, mask_id, ((frame.frame_id, role) for frame, role in campaign.inputs))
    failed = tuple(f"{g.name}: {g.found}, wanted {g.wanted}" for g in gates if not g.passed)
    notes: list[str] = []
    changes: tuple[MaskChange, ...] = ()
    certified = certify_it and camera.profile.certify == "auto" and not failed
    if certified:
        mask = masks.find_mask(connection, mask_id)
        placement = life.placement_of(connection, camera, mask)
        if placement.in_the_way:
            certified = False
            notes.append(
                f"It would take dates from {life.in_words(placement.in_the_way)}; "
                f"`hotpix-registry certify {mask_id} --supersede` does that."
            )
        else:
            changes = life.settle(connection, mask.series_id, placement, tx)
    return BuildResult(
        mask_id=mask_id,
        version=version,
        series=str(campaign.series),
        status="certified" if certified else "candidate",
        new=True,
        sha256=built.packed.sha256,
        nights=(campaign.first_night, campaign.last_night),
        exposures_s=built.exposures_s,
        flagged=built.counts["BAD"],
        pixels=built.shape[0] * built.shape[1],
        counts=built.counts,
        limit_e_per_s=built.limit.e_per_s,
        limit_reason=built.limit.reason,
        bias_method=built.bias_method,
        changes=changes,
        failed_gates=failed,
        warnings=(*built.report.get("warnings", ()), *notes),
    )


def _one_epoch(connection: Connection, campaign: Campaign, camera: CameraRow) -> list[GateResult]:
    """A gate for darks between which an epoch event was noted while the mask was being made."""
    from hotpix_registry.science.gates import GateResult

    starts_us = [frame.start_us for frame in campaign.used]
    between = [
        event
        for event in queries.events(connection, camera.camera_id)
        if min(starts_us) < event.at_us <= max(starts_us)
    ]
    return [
        GateResult(
            name="one epoch", passed=False, found=f"{event.kind} at {iso(event.at_us)}", wanted="no event"
        )
        for event in between
    ]


def _values(built: BuiltMask, gates: Sequence[GateResult], camera: CameraRow, tx: int) -> dict[str, Any]:
    ingredients, packed = built.ingredients, built.packed
    campaign = ingredients.campaign
    nights = masks.campaign_validity(campaign.first_night, campaign.last_night, camera)
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
        "shortest_s": min(built.exposures_s),
        "longest_s": max(built.exposures_s),
        "nx": built.shape[1],
        "ny": built.shape[0],
        "flagged": built.counts["BAD"],
        "limit_e_per_s": built.limit.e_per_s,
        "profile_id": camera.profile_id,
        "created_tx": tx,
        "recipe": ingredients.recipe.as_dict(),
        "counts": built.counts,
        "warnings": list(built.report.get("warnings", ())),
        "software": built.software,
        "report": built.report
        | {
            "limit_reason": built.limit.reason,
            "bias_method": built.bias_method,
            "gates": [dataclasses.asdict(gate) for gate in gates],
        },
        "encoding": packed.encoding,
        "blob_sha256": packed.blob_sha256,
        "numbers": built.numbers,
        "blob": packed.blob,
    }


def revoked_build(mask_id: int, revocation: queries.Revocation) -> RevokedMask:
    return RevokedMask(
        f"This very build is mask {mask_id}, which {revocation.actor} revoked at {iso(revocation.at_us)}: "
        f"{revocation.reason}.",
        next_step="Exclude the frames that spoil it, or build with another recipe.",
    )


def known_result(connection: Connection, mask: MaskRow, campaign: Campaign) -> BuildResult:
    """What a build returns that had been made before."""
    report = queries.mask_details(connection, mask.id)["report"]
    if (revoked := queries.revocations(connection, [mask.id]).get(mask.id)) is not None:
        raise revoked_build(mask.id, revoked)
    status = masks.statuses(connection, [mask])[mask.id]
    notes = {
        "superseded": [
            f"It is superseded by another mask; `hotpix-registry certify {mask.id}` brings it back."
        ],
        "decertified": [f"It was decertified; `hotpix-registry certify {mask.id}` brings it back."],
    }.get(status, [])
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
        failed_gates=masks.failed_gates(report),
        warnings=(*mask.warnings, *notes),
    )
