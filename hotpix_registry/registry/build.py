"""The use case of building: plan, compute with no transaction open, judge, store in one transaction."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sqlalchemy.engine import Engine

from hotpix_registry import planning
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading, writing
from hotpix_registry.catalogue.queries import Act, CameraRow
from hotpix_registry.domain import Frame, Recipe, Rule
from hotpix_registry.planning import Campaign
from hotpix_registry.registry import compute, content, derived, masks
from hotpix_registry.registry.masks import BuildResult, Plan

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
    campaigns, strays = planning.plan(
        prefer_present(frames), series, camera.profile, nights=nights, exposures_s=exposures_s
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
    return any(Path(path).is_file() for path in frame.paths)


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
    from hotpix_registry.science.gates import judge

    chosen = masks.recipe_for(campaign, recipe)
    if chosen.rule is Rule.PERSIST:
        return _follow(engine, act, campaign, camera, chosen, progress)
    with reading(engine) as connection:
        defects = queries.defects(connection, camera.camera_id)
        ingredients = compute.gather(campaign, camera.profile, chosen, defects)
        before = queries.mask_by_build_key(connection, ingredients.build_key)
        if before is not None:
            return masks.known_result(connection, before, campaign)
    label = f"{campaign.series.camera} {campaign.first_night}"
    built = compute.compute(ingredients, progress=None if progress is None else partial(progress, label))
    with reading(engine) as connection:
        earlier = masks.earlier_mask(connection, built)
    gates = judge(
        built.detection.dq,
        built.detection.report,
        rule=chosen.rule,
        previous_dq=None if earlier is None else content.dq(engine, earlier.id),
    )
    with writing(engine) as connection:
        tx = queries.open_transaction(connection, act, "build", now_us=time.time_ns() // 1000)
        return masks.store_build(connection, built, gates, camera, tx, certify_it=certify)


def _follow(
    engine: Engine,
    act: Act,
    campaign: Campaign,
    camera: CameraRow,
    recipe: Recipe,
    progress: Progress | None,
) -> BuildResult:
    """Build a campaign by its own evidence, and follow its pixels through the campaigns before."""
    own = dataclasses.replace(recipe, rule=Rule.EVIDENCE)
    mask_id = build_campaign(engine, act, campaign, camera, own, progress, certify=False).mask_id
    with reading(engine) as connection:
        newest = masks.find_mask(connection, mask_id)
        chain = derived.evidence_before(queries.masks(connection, camera.camera_id), newest)
    history = [(row, content.dq(engine, row.id)) for row in chain]
    packed = derived.pack(derived.follow(history, campaign.series), camera)
    with writing(engine) as connection:
        tx = queries.open_transaction(connection, act, "build", now_us=time.time_ns() // 1000)
        return derived.store(connection, packed, camera, tx)
