"""Rolling out a recipe: candidates beside the certified masks, what would change, all of it in one act.

A rollout replaces what is certified, campaign by campaign: the new mask holds exactly what the old one
held. No other date is answered otherwise, and a campaign that has no certified mask gets none.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection, Engine

from hotpix_registry import timeline
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.catalogue.queries import Act, CameraRow, MaskRow
from hotpix_registry.domain import DQ, Rule
from hotpix_registry.errors import Conflict, HotpixError, UsageError
from hotpix_registry.registry import build, content, life, masks
from hotpix_registry.registry.fleet import Wanted
from hotpix_registry.registry.life import SeriesState
from hotpix_registry.registry.masks import MaskChange
from hotpix_registry.registry.recipes import NamedRecipe
from hotpix_registry.registry.tallies import CameraTally, CampaignName, FleetReport, note
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
_MOVED = "It was changed meanwhile. Run the same command again."


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

    @property
    def campaign(self) -> CampaignName:
        return self.series, self.nights[0]

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
    bugs: int = 0
    """of the campaigns that were not built: mistakes of this program, whose tracebacks were logged"""
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
_DECIDED = (CHANGED, SAME_PIXELS, REFUSED)
"""of these there is another mask than before"""


# --- comparing --------------------------------------------------------------------------


def compare(
    engine: Engine,
    cameras: Sequence[CameraRow],
    old: NamedRecipe,
    new: NamedRecipe,
    *,
    nights: tuple[str, str] | None = None,
    make: Callable[[Wanted], FleetReport],
) -> Rollout:
    """Build what is not there yet, as candidates, and say what the new recipe would change.

    Parameters
    ----------
    make
        builds the masks that are wanted of these cameras, or finds those that were built before

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
    planned = [one for camera in cameras for one in _planned(engine, camera, nights, old)]
    wanted = Wanted(
        nights=nights, certify=False, only={one.campaign for one in planned if one.outcome == NOT_BUILT}
    )
    by_old = None if old.is_current else make(replace(wanted, recipe=old.recipe))
    if by_old is not None:
        wanted = replace(wanted, only=by_old.masks.keys())
    by_new = make(replace(wanted, recipe=new.recipe))
    reports = [report for report in (by_old, by_new) if report is not None]
    why_not = {name: why for report in reports for name, why in report.reasons.items()}
    rows = {camera.name: camera for camera in cameras}
    found = []
    for one in planned:
        if one.outcome != NOT_BUILT:
            found.append(one)
        elif (after := by_new.masks.get(one.campaign)) is None:
            found.append(replace(one, why=why_not.get(one.campaign, _MOVED)))
        else:
            before = one.before if by_old is None else by_old.masks[one.campaign]
            found.append(_compared(engine, rows[one.camera], replace(one, before=before, after=after)))
    with reading(engine) as connection:
        tx = queries.last_tx(connection)
        dated = [one for camera in cameras for one in _with_dates(connection, camera, found, old)]
    return Rollout(
        old=old,
        new=new,
        cameras=tuple(rows),
        campaigns=tuple(dated),
        tx=tx,
        built=sum(report.built for report in reports),
        bugs=sum(report.bugs for report in reports),
    )


def _planned(
    engine: Engine, camera: CameraRow, nights: tuple[str, str] | None, old: NamedRecipe
) -> Iterator[Compared]:
    """The campaigns of a camera, of which nothing has been built yet, or which are left alone.

    Certified masks that no recipe makes of the frames that there are follow them.
    """
    campaigns = build.plan(engine, camera, nights=nights, exposures_s=None).campaigns
    with reading(engine) as connection:
        series = sorted(queries.series(connection, camera.camera_id).items())
        states = {number: life.state_of(connection, camera, number) for number, _ in series}
        for campaign in campaigns:
            number, span = campaign.series.series_id, (campaign.first_night, campaign.last_night)
            held = _holding(states[number], span)
            why = _why_left_alone(connection, held) if old.is_current else ""
            yield Compared(
                camera=camera.name,
                series_id=number,
                series=str(campaign.series),
                nights=span,
                outcome=LEFT_ALONE if why else NOT_BUILT,
                before=held[-1].id if held else None,
                why=why,
            )
    for number, its_name in series:
        own = [(c.first_night, c.last_night) for c in campaigns if c.series.series_id == number]
        for mask in _holders(states[number]):
            asked = nights is None or (mask.first_night <= nights[1] and nights[0] <= mask.last_night)
            if asked and not any(_is_of(mask, span) for span in own):
                yield Compared(
                    camera=camera.name,
                    series_id=number,
                    series=str(its_name),
                    nights=(mask.first_night, mask.last_night),
                    outcome=LEFT_ALONE,
                    before=mask.id,
                    why="it was imported" if mask.rule == Rule.IMPORT else "its darks make no campaign",
                )


def _compared(engine: Engine, camera: CameraRow, one: Compared) -> Compared:
    """A campaign whose masks by both recipes are there, but for its dates."""
    assert one.before is not None
    assert one.after is not None
    if one.before == one.after:
        return replace(one, outcome=SAME_MASK)
    outcome, pixels = _pixels(engine, one.before, one.after)
    with reading(engine) as connection:
        before, after = (masks.find_mask(connection, mask_id) for mask_id in (one.before, one.after))
        refusals = life.refusals(connection, camera, after)[1]
        notes = tuple(_unlike(connection, before, after))
    return replace(
        one,
        outcome=REFUSED if refusals else outcome,
        why="; ".join(refusals),
        pixels=pixels,
        notes=notes,
    )


def one_by_one(
    engine: Engine, act: Act, cameras: Sequence[CameraRow], wanted: Wanted, progress: Progress | None
) -> FleetReport:
    """Build what is wanted in this process, campaign after campaign."""
    report = FleetReport(cameras=[CameraTally(camera=camera.name) for camera in cameras])
    of = "" if wanted.only is None else f" of {len(wanted.only)}"
    for camera, tally in zip(cameras, report.cameras, strict=True):
        plan = build.plan(engine, camera, nights=wanted.nights, exposures_s=wanted.exposures_s)
        for campaign in wanted.among(plan.campaigns):
            tally.campaigns += 1
            prefix = f"{report.campaigns}{of}: "
            told = None if progress is None else partial(_numbered, progress, prefix)
            try:
                result = build.build_campaign(
                    engine, act, campaign, camera, wanted.recipe, told, certify=wanted.certify
                )
            except HotpixError as error:
                tally.failed.append(note(campaign, error))
            else:
                tally.got(campaign, result)
    return report


def _numbered(progress: Progress, prefix: str, label: str, done: int, total: int) -> None:
    progress(prefix + label, done, total)


def _pixels(engine: Engine, before: int, after: int) -> tuple[str, Pixels]:
    """Whether two masks of a campaign have the same flags, and what they mask."""
    import numpy as np

    (shape, a, flags_a), (other, b, flags_b) = (content.flagged(engine, n) for n in (before, after))
    then, now = a[(flags_a & DQ.BAD.value) != 0], b[(flags_b & DQ.BAD.value) != 0]
    common = np.intersect1d(then, now, assume_unique=True).size if shape == other else 0
    same = shape == other and np.array_equal(a, b) and np.array_equal(flags_a, flags_b)
    return SAME_PIXELS if same else CHANGED, Pixels(
        flagged_before=then.size,
        flagged_after=now.size,
        new=now.size - common,
        vanished=then.size - common,
        common=common,
    )


def _unlike(connection: Connection, before: MaskRow, after: MaskRow) -> Iterable[str]:
    if before.algorithm_version != after.algorithm_version:
        yield f"The algorithm's version differs too: {before.algorithm_version}, {after.algorithm_version}."
    if (before.ny, before.nx) != (after.ny, after.nx):
        yield f"The size differs too: {before.nx} x {before.ny} pixels, {after.nx} x {after.ny}."
    then, now = (set(queries.mask_inputs(connection, row.id)) for row in (before, after))
    if then and now and then != now:
        yield f"The frames differ too: {len(then - now)} went, {len(now - then)} came."


# --- whose dates ------------------------------------------------------------------------


def _holders(state: SeriesState) -> list[MaskRow]:
    """The masks of a series that hold dates, in the order of time."""
    return [state.masks[mask_id] for mask_id in dict.fromkeys(placed.mask_id for placed in state.placed)]


def _holding(state: SeriesState, nights: tuple[str, str]) -> list[MaskRow]:
    """Those among them that were made of a campaign's darks."""
    return [mask for mask in _holders(state) if _is_of(mask, nights)]


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


def _with_dates(
    connection: Connection, camera: CameraRow, campaigns: Sequence[Compared], old: NamedRecipe
) -> list[Compared]:
    """The campaigns of a camera, in their order, with the dates that each would have answered otherwise."""
    own = [one for one in campaigns if one.camera == camera.name]
    states = {number: life.state_of(connection, camera, number) for number in {c.series_id for c in own}}
    dated = []
    for one in own:
        state = states[one.series_id]
        if one.outcome not in _DECIDED:
            dated.append(one)
            continue
        holders = _holding(state, one.nights)
        if old.is_current and (moved := _moved(connection, one, holders)) is not None:
            dated.append(moved)
            continue
        handovers = _handovers(connection, camera, state, [one], old)
        changes = life.told(timeline.hand_over(state.placed, handovers).changes)
        notes = one.notes
        if not changes:
            named = " and ".join(f"mask {row.id}" for row in holders) or "no mask"
            notes = (*notes, f"Mask {one.before} holds no dates; {named} of this campaign does.")
        dated.append(replace(one, dates=changes, notes=notes))
    return dated


def _moved(connection: Connection, one: Compared, holders: Sequence[MaskRow]) -> Compared | None:
    """What becomes of a campaign whose dates have gone to another mask while masks were built."""
    if why := _why_left_alone(connection, holders):
        return replace(one, outcome=LEFT_ALONE, after=None, why=why, pixels=None, notes=())
    if holders[-1].id != one.before:
        return replace(one, outcome=NOT_BUILT, after=None, why=_MOVED, pixels=None, notes=())
    return None


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
        if one.after is None or one.outcome not in _DECIDED:
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
    outcomes = _DECIDED if force else (CHANGED, SAME_PIXELS)
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
