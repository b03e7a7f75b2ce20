"""Rolling out a recipe: candidates beside the certified masks, what would change, all of it in one act.

A rollout replaces what is certified, campaign by campaign: the new mask holds exactly what the old one
held. No other date is answered otherwise, and a campaign that has no certified mask gets none.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection, Engine

from hotpix_registry import timeline
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.catalogue.queries import Act, Assignment, CameraRow, MaskRow
from hotpix_registry.domain import DQ, Recipe, Rule, iso
from hotpix_registry.errors import Conflict, HotpixError, UsageError
from hotpix_registry.planning import Campaign
from hotpix_registry.registry import build, content, life, masks
from hotpix_registry.registry.life import SeriesState
from hotpix_registry.registry.masks import MaskChange
from hotpix_registry.registry.recipes import NamedRecipe
from hotpix_registry.timeline import Handover

Progress = Callable[[str, int, int], None]

ACT = "rollout"
"""as which a rollout stands in the log"""
CHANGED, SAME_PIXELS, SAME_MASK, REFUSED, NOT_BUILT, LEFT_ALONE = (
    "changed",
    "same pixels",
    "same mask",
    "refused",
    "not built",
    "left alone",
)
"""What becomes of a campaign: another mask, one that masks the same, the very one that it has, one that its
gates refuse, none, or nothing since a recipe does not decide it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """What the preset `default` masks in two masks of a campaign."""

    flagged_before: int
    flagged_after: int
    new: int
    vanished: int
    common: int

    @property
    def jaccard(self) -> float:
        """Common by either; 1 where both mask nothing."""
        either = self.new + self.vanished + self.common
        return self.common / either if either else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A campaign under two recipes."""

    camera: str
    series_id: int
    series: str
    nights: tuple[str, str]
    outcome: str
    before: int | None = None
    """mask id"""
    after: int | None = None
    pixels: Pixels | None = None
    dates: tuple[MaskChange, ...] = ()
    """which a rollout answers otherwise"""
    why: str = ""
    """it is refused, not built or left alone"""
    notes: tuple[str, ...] = ()
    """what the two differ in beside the recipe"""

    def as_dict(self) -> dict[str, Any]:
        told = dataclasses.asdict(self)
        counted = told.pop("pixels") or {field.name: None for field in dataclasses.fields(Pixels)}
        return told | counted | {"jaccard": None if self.pixels is None else round(self.pixels.jaccard, 4)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """What a recipe changes, or has changed."""

    old: NamedRecipe
    new: NamedRecipe
    cameras: tuple[str, ...]
    campaigns: tuple[Compared, ...]
    tx: int
    """the newest transaction when this was so: what `expect` takes"""
    built: int
    """candidates that were made for it"""
    rolled_out_tx: int | None = None
    """the act that certified them; None: none did"""

    def of(self, *outcomes: str) -> list[Compared]:
        return [one for one in self.campaigns if one.outcome in outcomes]

    def by_camera(self) -> list[dict[str, Any]]:
        """What becomes of each camera, in numbers."""
        return [self._summary(name, [c for c in self.campaigns if c.camera == name]) for name in self.cameras]

    def total(self) -> dict[str, Any]:
        return self._summary("all", self.campaigns)

    @staticmethod
    def _summary(name: str, campaigns: Sequence[Compared]) -> dict[str, Any]:
        found = Counter(one.outcome for one in campaigns)
        counted = [one.pixels for one in campaigns if one.pixels is not None]
        told = {outcome.replace(" ", "_"): found[outcome] for outcome in OUTCOMES}
        sums = {
            name: sum(getattr(pixels, name) for pixels in counted)
            for name in ("flagged_before", "flagged_after", "new", "vanished", "common")
        }
        intervals = sum(len(one.dates) for one in campaigns)
        return {"camera": name, "campaigns": len(campaigns)} | told | sums | {"intervals": intervals}

    def as_dict(self) -> dict[str, Any]:
        return {
            "old": self.old.as_dict(),
            "new": self.new.as_dict(),
            "tx": self.tx,
            "built": self.built,
            "rolled_out_tx": self.rolled_out_tx,
            "cameras": self.by_camera(),
            "total": self.total(),
            "campaigns": [one.as_dict() for one in self.campaigns],
        }


OUTCOMES = (CHANGED, SAME_PIXELS, SAME_MASK, REFUSED, NOT_BUILT, LEFT_ALONE)


# --- comparing --------------------------------------------------------------------------


def compare(
    engine: Engine,
    act: Act,
    cameras: Sequence[CameraRow],
    old: NamedRecipe,
    new: NamedRecipe,
    *,
    nights: tuple[str, str] | None = None,
    progress: Progress | None = None,
) -> Rollout:
    """Build what is not there yet, as candidates, and say what the new recipe would change.

    Raises
    ------
    UsageError
        There is nothing that could differ.
    """
    if new.is_current:
        raise UsageError(
            "What is certified now cannot be rolled out.", next_step="Name another recipe as the new one."
        )
    if old == new:
        raise UsageError(f"Both recipes are {new.name}.", next_step="Name two that differ.")
    plans = [(row, build.plan(engine, row, nights=nights, exposures_s=None).campaigns) for row in cameras]
    total, number, built = sum(len(campaigns) for _, campaigns in plans), 0, 0
    found: list[Compared] = []
    for camera, campaigns in plans:
        for campaign in campaigns:
            number += 1
            told = None if progress is None else partial(_numbered, progress, f"{number} of {total}: ")
            compared, made = _compare(engine, act, camera, campaign, old, new, told)
            found.append(compared)
            built += made
        found += _of_no_campaign(engine, camera, campaigns, nights)
    with reading(engine) as connection:
        tx = queries.last_tx(connection)
        dated = [one for camera in cameras for one in _with_dates(connection, camera, found, old)]
    names = tuple(camera.name for camera in cameras)
    return Rollout(old=old, new=new, cameras=names, campaigns=tuple(dated), tx=tx, built=built)


def _numbered(progress: Progress, prefix: str, label: str, done: int, total: int) -> None:
    progress(prefix + label, done, total)


def _compare(
    engine: Engine,
    act: Act,
    camera: CameraRow,
    campaign: Campaign,
    old: NamedRecipe,
    new: NamedRecipe,
    progress: Progress | None,
) -> tuple[Compared, int]:
    """A campaign under both recipes, but for its dates; and how many masks were built for that."""
    series = campaign.series
    nights = campaign.first_night, campaign.last_night
    with reading(engine) as connection:
        held = _holding(life.state_of(connection, camera, series.series_id), nights)
        why = _why_left_alone(connection, held)
    blank = Compared(
        camera=camera.name,
        series_id=series.series_id,
        series=str(series),
        nights=nights,
        outcome=LEFT_ALONE,
        before=held[-1].id if held else None,
        why=why,
    )
    if old.is_current and why:
        return blank, 0
    made = 0

    def mask_by(recipe: Recipe | None) -> int:
        nonlocal made
        result = build.build_campaign(engine, act, campaign, camera, recipe, progress, certify=False)
        made += result.new
        return result.mask_id

    try:
        before = held[-1].id if old.is_current else mask_by(old.recipe)
        after = mask_by(new.recipe)
    except HotpixError as error:
        return replace(blank, outcome=NOT_BUILT, why=str(error)), made
    compared = replace(blank, before=before, after=after, why="")
    if before == after:
        return replace(compared, outcome=SAME_MASK), made
    outcome, pixels = _pixels(engine, before, after)
    with reading(engine) as connection:
        rows = [masks.find_mask(connection, mask_id) for mask_id in (before, after)]
        refusals = life.refusals(connection, camera, rows[1])[1]
        notes = tuple(_unlike(connection, *rows))
    return replace(
        compared,
        outcome=REFUSED if refusals else outcome,
        why="; ".join(refusals),
        pixels=pixels,
        notes=notes,
    ), made


def _pixels(engine: Engine, before: int, after: int) -> tuple[str, Pixels]:
    """Whether two masks of a campaign have the same flags, and what they mask."""
    import numpy as np

    a, b = content.dq(engine, before), content.dq(engine, after)
    then, now = (a & DQ.BAD.value) != 0, (b & DQ.BAD.value) != 0
    common = int(np.count_nonzero(then & now))
    flagged_before, flagged_after = int(np.count_nonzero(then)), int(np.count_nonzero(now))
    return SAME_PIXELS if np.array_equal(a, b) else CHANGED, Pixels(
        flagged_before=flagged_before,
        flagged_after=flagged_after,
        new=flagged_after - common,
        vanished=flagged_before - common,
        common=common,
    )


def _unlike(connection: Connection, before: MaskRow, after: MaskRow) -> Iterable[str]:
    if before.algorithm_version != after.algorithm_version:
        yield f"The algorithm's version differs too: {before.algorithm_version}, {after.algorithm_version}."
    then, now = (set(queries.mask_inputs(connection, row.id)) for row in (before, after))
    if then and now and then != now:
        yield f"The frames differ too: {len(then - now)} went, {len(now - then)} came."


# --- whose dates ------------------------------------------------------------------------


def _holding(state: SeriesState, nights: tuple[str, str]) -> list[MaskRow]:
    """The masks of a campaign's darks that hold dates, in the order of time."""
    ids = dict.fromkeys(placed.mask_id for placed in state.placed)
    return [row for row in map(state.masks.__getitem__, ids) if _is_of(row, nights)]


def _is_of(mask: MaskRow, nights: tuple[str, str]) -> bool:
    return mask.first_night <= nights[1] and nights[0] <= mask.last_night and mask.rule != Rule.IMPORT


def _why_left_alone(connection: Connection, held: Sequence[MaskRow]) -> str:
    """Why a recipe does not decide which mask a campaign has; empty where it does."""
    if not held:
        return "no mask of it is certified"
    for mask_id, revoked in queries.revocations(connection, [row.id for row in held]).items():
        return f"mask {mask_id} is revoked: {revoked.reason}"
    for row in held:
        if row.rule == Rule.EDIT:
            return f"mask {row.id} was edited by hand, which would be lost"
    return ""


def _of_no_campaign(
    engine: Engine, camera: CameraRow, campaigns: Sequence[Campaign], nights: tuple[str, str] | None
) -> list[Compared]:
    """The certified masks that no recipe makes of the frames that there are."""
    found = []
    with reading(engine) as connection:
        for series_id, series in sorted(queries.series(connection, camera.camera_id).items()):
            own = [(c.first_night, c.last_night) for c in campaigns if c.series.series_id == series_id]
            state = life.state_of(connection, camera, series_id)
            for mask_id in dict.fromkeys(placed.mask_id for placed in state.placed):
                mask = state.masks[mask_id]
                asked = nights is None or (mask.first_night <= nights[1] and nights[0] <= mask.last_night)
                if not asked or any(_is_of(mask, span) for span in own):
                    continue
                found.append(
                    Compared(
                        camera=camera.name,
                        series_id=series_id,
                        series=str(series),
                        nights=(mask.first_night, mask.last_night),
                        outcome=LEFT_ALONE,
                        before=mask_id,
                        why="it was imported" if mask.rule == Rule.IMPORT else "its darks make no campaign",
                    )
                )
    return found


def _with_dates(
    connection: Connection, camera: CameraRow, campaigns: Sequence[Compared], old: NamedRecipe
) -> list[Compared]:
    """The campaigns of a camera, in their order, with the dates that each would have answered otherwise."""
    own = [one for one in campaigns if one.camera == camera.name]
    states = {number: life.state_of(connection, camera, number) for number in {c.series_id for c in own}}
    dated = []
    for one in own:
        state = states[one.series_id]
        handovers = _handovers(connection, camera, state, [one], old)
        changes = life.told(timeline.hand_over(state.placed, handovers).changes)
        notes = one.notes
        if one.outcome in (CHANGED, SAME_PIXELS, REFUSED) and not changes:
            holders = [row.id for row in _holding(state, one.nights)]
            named = " and ".join(f"mask {number}" for number in holders) or "no mask"
            notes = (*notes, f"Mask {one.before} holds no dates; {named} of this campaign does.")
        dated.append(replace(one, dates=changes, notes=notes))
    return dated


def _handovers(
    connection: Connection,
    camera: CameraRow,
    state: SeriesState,
    campaigns: Sequence[Compared],
    old: NamedRecipe,
) -> list[Handover]:
    """Which masks of a series hold from now on what others hold, each within the epoch of its own darks."""
    found: dict[tuple[int, int], Handover] = {}
    for one in campaigns:
        if one.after is None or one.outcome not in (CHANGED, SAME_PIXELS, REFUSED):
            continue
        anchor_us = life.anchors_of(connection, camera, [state.masks[one.after]])[one.after]
        epoch = timeline.epoch_of(anchor_us, state.events_us)
        for giver in _holding(state, one.nights):
            if giver.id != one.after and (old.is_current or giver.id == one.before):
                found.setdefault((giver.id, epoch.start_us), Handover(giver.id, one.after, epoch))
    return list(found.values())


# --- rolling out, and back --------------------------------------------------------------


def check_whole(rollout: Rollout, *, force: bool, partial: bool) -> None:
    """Refuse a rollout that leaves some of the campaigns out, unless that is meant.

    Raises
    ------
    Conflict
    """
    left_out = rollout.of(NOT_BUILT, *(() if force else (REFUSED,)))
    if partial or not left_out:
        return
    told = [
        f"{one.camera} {one.nights[0]}: " + (f"mask {one.after} failed {one.why}" if one.after else one.why)
        for one in left_out
    ]
    more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
    raise Conflict(
        f"{len(left_out)} of {len(rollout.campaigns)} campaigns cannot be rolled out, so none is"
        f" ({'; '.join(text.rstrip('.') for text in told[:3])}{more}).",
        next_step="--partial leaves these as they are; --force certifies what gates refuse.",
    )


def roll_out(
    connection: Connection, rollout: Rollout, tx: int, *, expect: int | None, force: bool
) -> Rollout:
    """Give the dates of the old masks to the new ones, of all campaigns that can be, in one transaction.

    Raises
    ------
    Conflict
        A series has moved since the two were compared, or since `expect`.
    """
    outcomes = (CHANGED, SAME_PIXELS, REFUSED) if force else (CHANGED, SAME_PIXELS)
    chosen = [one for one in rollout.of(*outcomes) if one.dates]
    done: dict[tuple[int, tuple[str, str]], Compared] = {}
    cameras = {row.name: row for row in queries.cameras(connection)}
    for series_id in sorted({one.series_id for one in chosen}):
        own = [one for one in chosen if one.series_id == series_id]
        camera = cameras[own[0].camera]
        life.check_unmoved(connection, camera, series_id, expect or rollout.tx, tx)
        state = life.state_of(connection, camera, series_id)
        handovers = _handovers(connection, camera, state, own, rollout.old)
        life.settle(connection, series_id, timeline.hand_over(state.placed, handovers), tx)
        done |= {(one.series_id, one.nights): one for one in own}
    campaigns = [
        one if (one.series_id, one.nights) in done else replace(one, dates=()) for one in rollout.campaigns
    ]
    return replace(rollout, campaigns=tuple(campaigns), rolled_out_tx=tx if done else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Dates that stay where the rollout put them, since the mask of before has been withdrawn."""

    valid_from: str
    valid_to: str | None
    mask_id: int
    instead_of: int
    status: str
    """of the mask of before: revoked or decertified"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """What a rollout had changed, and is changed back."""

    rollout_tx: int
    tx: int
    changes: tuple[MaskChange, ...]
    kept: tuple[Kept, ...]

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def roll_back(connection: Connection, rollout_tx: int, tx: int, *, expect: int | None) -> Rollback:
    """Give the dates that a rollout gave away back to those who held them, as far as its masks hold them.

    Raises
    ------
    UsageError
        That transaction is no rollout.
    Conflict
        Its masks hold nothing any more that could be given back, or a series has moved since `expect`.
    """
    acts = queries.transactions(connection, numbers=[rollout_tx]) if 0 < rollout_tx < tx else []
    if not acts or acts[0].action != ACT:
        raise UsageError(
            f"Transaction {rollout_tx} is no rollout.", next_step="`hotpix-registry log` lists the acts."
        )
    rows = queries.assignments_of(connection, rollout_tx)
    series = queries.series(connection)
    cameras = {row.name: row for row in queries.cameras(connection)}
    changes: list[MaskChange] = []
    kept: list[Kept] = []
    for series_id in sorted({row.series_id for row in rows}):
        camera = cameras[series[series_id].camera]
        if expect is not None:
            life.check_unmoved(connection, camera, series_id, expect, tx)
        own = [row for row in rows if row.series_id == series_id]
        back, stays = _back(connection, camera, series_id, own, rollout_tx)
        state = life.state_of(connection, camera, series_id)
        changes += life.settle(connection, series_id, timeline.hand_over(state.placed, back), tx)
        kept += stays
    if not changes:
        raise Conflict(
            f"The masks of rollout {rollout_tx} hold no dates any more that could be given back.",
            next_step="`hotpix-registry history` shows who took them.",
        )
    return Rollback(rollout_tx=rollout_tx, tx=tx, changes=tuple(changes), kept=tuple(kept))


def _back(
    connection: Connection,
    camera: CameraRow,
    series_id: int,
    rows: Sequence[Assignment],
    rollout_tx: int,
) -> tuple[list[Handover], list[Kept]]:
    state = life.state_of(connection, camera, series_id)
    before = [row for row in rows if row.closed_tx == rollout_tx]
    givers = [state.masks[mask_id] for mask_id in {row.mask_id for row in before}]
    status = masks.statuses(connection, givers)
    anchors = life.anchors_of(connection, camera, givers)
    back: list[Handover] = []
    kept: list[Kept] = []
    for now in (row for row in rows if row.opened_tx == rollout_tx):
        for was in before:
            epoch = timeline.epoch_of(anchors[was.mask_id], state.events_us)
            own = timeline.intersection(was.validity, epoch)
            piece = None if own is None else timeline.intersection(now.validity, own)
            if piece is None or was.mask_id == now.mask_id:
                continue
            if status[was.mask_id] not in ("revoked", "decertified"):
                back.append(Handover(now.mask_id, was.mask_id, piece))
                continue
            kept.append(
                Kept(
                    valid_from=iso(piece.start_us) or "",
                    valid_to=iso(piece.end_us),
                    mask_id=now.mask_id,
                    instead_of=was.mask_id,
                    status=status[was.mask_id],
                )
            )
    return back, kept
