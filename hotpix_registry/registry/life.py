"""The life of mask versions: which dates they hold, and how they lose them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy.engine import Connection

from hotpix_registry import timeline
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.queries import Assignment, CameraRow, MaskRow
from hotpix_registry.domain import Rule
from hotpix_registry.errors import Conflict, RevokedMask, UsageError
from hotpix_registry.instants import Night, Validity, iso
from hotpix_registry.registry.masks import (
    MaskChange,
    epochs_us,
    failed_gates,
    find_mask,
    moved_away,
    need_rebuild,
    sources_of,
    statuses,
)
from hotpix_registry.timeline import Handover, Held, Newcomer, Placed, Placement

# --- what a series holds ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesState:
    """The current assignments of a series with what placing needs to know of their masks."""

    placed: tuple[Placed, ...]
    masks: dict[int, MaskRow]
    events_us: tuple[int, ...]
    """where the epochs of its camera begin"""


def state_of(connection: Connection, camera: CameraRow, series_id: int) -> SeriesState:
    rows = queries.assignments(connection, [series_id])
    masks = {m.id: m for m in queries.masks(connection, series_id=series_id)}
    anchors = anchors_of(connection, camera, [masks[mask_id] for mask_id in {a.mask_id for a in rows}])
    return SeriesState(
        placed=tuple(_placed(row, masks[row.mask_id], anchors[row.mask_id]) for row in rows),
        masks=masks,
        events_us=epochs_us(queries.events(connection, camera.camera_id), camera),
    )


def _placed(row: Assignment, mask: MaskRow, anchor_us: int) -> Placed:
    campaign = Validity(mask.campaign_start_us, mask.campaign_end_us)
    return Placed(row.id, row.mask_id, row.validity, campaign, anchor_us)


def anchors_of(connection: Connection, camera: CameraRow, masks: Sequence[MaskRow]) -> dict[int, int]:
    """Mask → an instant of its own darks, or of those of the mask that it was made from.

    For one that was imported it is the start of its first night.
    """
    longitude = camera.profile.longitude_deg_east
    spans = queries.inputs_span(connection, [mask.id for mask in masks])
    anchors = {mask.id: spans[mask.id][0] for mask in masks if mask.id in spans}
    for mask in masks:
        if mask.id not in anchors:
            newest = sources_of(connection, mask)[-1:]
            night = Night(date.fromisoformat(mask.first_night), longitude)
            anchors[mask.id] = (
                anchors_of(connection, camera, newest)[newest[0].id] if newest else night.start_us
            )
    return anchors


def predecessors(state: SeriesState, mask: MaskRow, sources: Sequence[MaskRow] = ()) -> set[int]:
    """Masks whose dates a mask takes over: those of the same campaign, and those it was edited from.

    A mask that was imported compares no exposures and has no campaign to be rebuilt.
    """
    found = set()
    for held in {p.mask_id for p in state.placed}:
        other = state.masks[held]
        together = other.first_night <= mask.last_night and mask.first_night <= other.last_night
        from_darks = mask.shortest_s is not None and other.shortest_s is not None
        if (together and from_darks) or other in sources:
            found.add(held)
    return found


# --- certify ----------------------------------------------------------------------------


def placement_of(
    connection: Connection,
    camera: CameraRow,
    mask: MaskRow,
    *,
    valid_from_us: int | None = None,
    valid_to_us: int | None = None,
) -> Placement:
    """Where a mask belongs among those of its series; one without darks has no campaign that reaches back.

    Raises
    ------
    UsageError
        The given bounds are empty or leave the epoch of its darks.
    """
    state = state_of(connection, camera, mask.series_id)
    anchor_us = anchors_of(connection, camera, [mask])[mask.id]
    sources = sources_of(connection, mask) if mask.rule == Rule.EDIT else []
    before = predecessors(state, mask, sources)
    protected: set[int] = set()
    if mask.rule == Rule.EDIT:  # it knows what it was edited from, and nothing of other masks of the campaign
        revoked = queries.revocations(connection, [source.id for source in sources])
        protected = before - {source.id for source in sources if source.id not in revoked}
    try:
        return timeline.place(
            state.placed,
            Newcomer(mask.id, Validity(mask.campaign_start_us, mask.campaign_end_us), anchor_us),
            predecessors=before,
            protected=protected,
            events_us=state.events_us,
            reach_back_days=0 if mask.shortest_s is None else camera.profile.reach_back_days,
            service_from_us=camera.profile.service_from_us,
            start_us=valid_from_us,
            end_us=valid_to_us,
        )
    except ValueError as error:
        epoch = timeline.epoch_of(anchor_us, state.events_us)
        begin = "the beginning" if epoch.start_us == timeline.BEGINNING_US else iso(epoch.start_us)
        raise UsageError(
            f"Mask {mask.id} cannot hold these dates: {error}.",
            next_step=f"Its epoch goes from {begin} to {iso(epoch.end_us) or 'further notice'}.",
        ) from None


def certify(
    connection: Connection,
    camera: CameraRow,
    mask_id: int,
    tx: int,
    *,
    valid_from_us: int | None = None,
    valid_to_us: int | None = None,
    supersede: bool = False,
    force: bool = False,
) -> tuple[MaskChange, ...]:
    """Give a mask its dates; returns those that now answer otherwise.

    Raises
    ------
    RevokedMask
        The mask is revoked.
    Conflict
        A gate had refused it, or another mask is in the way, and nobody said that this is meant.
    """
    mask = find_mask(connection, mask_id)
    if mask_id in queries.revocations(connection, [mask_id]):
        raise RevokedMask(
            f"Mask {mask_id} is revoked.",
            next_step=f"`hotpix-registry revoke {mask_id} --undo --reason …` takes that back.",
        )
    if not force:
        _refuse_what_gates_refused(connection, camera, mask)
    placement = placement_of(
        connection,
        camera,
        mask,
        valid_from_us=valid_from_us,
        valid_to_us=valid_to_us,
    )
    if placement.in_the_way and not supersede:
        raise Conflict(
            f"Mask {mask_id} would take dates from {in_words(placement.in_the_way)}.",
            next_step="Say --supersede if that is meant, or give --valid-from and --valid-to.",
        )
    return settle(connection, mask.series_id, placement, tx)


def in_words(placed: Sequence[Placed] | Sequence[Held]) -> str:
    return " and ".join(
        f"mask {p.mask_id} ({iso(p.validity.start_us)} to {iso(p.validity.end_us) or 'further notice'})"
        for p in placed
    )


def _refuse_what_gates_refused(connection: Connection, camera: CameraRow, mask: MaskRow) -> None:
    judged, why = refusals(connection, camera, mask)
    if why:
        edited = "" if judged == mask.id else f", and mask {mask.id} is an edit of it"
        raise Conflict(
            f"Mask {judged} did not pass its gates ({'; '.join(why)}){edited}.",
            next_step="Look at `hotpix-registry report`; --force --reason … certifies it nevertheless.",
        )


def refusals(connection: Connection, camera: CameraRow, mask: MaskRow) -> tuple[int, list[str]]:
    """(the mask that was judged, what it failed); an edit stands as the build does that it came from."""
    why = [*failed_gates(queries.mask_details(connection, mask.id)["report"])]
    while not why and mask.rule == Rule.EDIT and (sources := sources_of(connection, mask)):
        mask = sources[0]
        why = [*failed_gates(queries.mask_details(connection, mask.id)["report"])]
    events_us = epochs_us(queries.events(connection, camera.camera_id), camera)
    if (event_us := need_rebuild(connection, [mask], events_us).get(mask.id)) is not None:
        why.append(f"its darks lie on both sides of {iso(event_us)}, where another epoch begins")
    why += moved_away(connection, [mask]).values()
    return mask.id, why


def inherit(
    connection: Connection, camera: CameraRow, source: MaskRow, mask_id: int, tx: int
) -> tuple[MaskChange, ...]:
    """Give an edit the dates of the mask that it was edited from, if that one is certified."""
    if statuses(connection, [source])[source.id] != "certified":
        return ()
    held = state_of(connection, camera, source.series_id).placed
    placement = timeline.hand_over(held, [Handover(source.id, mask_id, timeline.ALWAYS)])
    return settle(connection, source.series_id, placement, tx)


def how_to_certify(connection: Connection, camera: CameraRow, mask: MaskRow) -> str:
    """Which mask answers for the dates of one that waits, and what lets it answer instead."""
    placement = placement_of(connection, camera, mask)
    taken = [Held(c.before, c.validity) for c in placement.changes if c.before is not None]
    command = f"hotpix-registry certify {mask.id}" + (" --supersede" if taken else "")
    if refusals(connection, camera, mask)[1]:
        command += " --force --reason …"
    if not taken:
        return f"No mask holds its dates; `{command}` gives them to it."
    holds = "holds" if len({held.mask_id for held in taken}) == 1 else "hold"
    words = in_words(taken)
    return f"M{words[1:]} {holds} its dates; `{command}` puts it there instead."


def settle(connection: Connection, series_id: int, placement: Placement, tx: int) -> tuple[MaskChange, ...]:
    """Write what a placement closes and opens."""
    queries.close_assignments(connection, placement.closed, tx)
    for held in placement.opened:
        queries.add_assignment(connection, series_id, held.mask_id, held.validity, tx)
    return told(placement.changes)


def told(changes: Sequence[timeline.Change]) -> tuple[MaskChange, ...]:
    return tuple(
        MaskChange(
            valid_from=iso(change.validity.start_us) or "",
            valid_to=iso(change.validity.end_us),
            before=change.before,
            after=change.after,
        )
        for change in changes
    )


def check_unmoved(
    connection: Connection, camera: CameraRow, series_id: int, expected_tx: int, tx: int
) -> None:
    """Refuse in transaction `tx` when masks, dates or events of a series have changed since an earlier one.

    Raises
    ------
    Conflict
        It says who did what meanwhile.
    UsageError
        There is no such transaction yet.
    """
    if not 0 < expected_tx < tx:
        raise UsageError(
            f"There is no transaction {expected_tx}.", next_step="`hotpix-registry log` lists them."
        )
    moved = queries.last_change(connection, series_id, camera.camera_id)
    if moved > expected_tx:
        (act,) = queries.transactions(connection, numbers=[moved])
        deeds = ", ".join(queries.touched(connection, moved).get(moved, [act.action]))
        raise Conflict(
            f"The series has moved since transaction {expected_tx}: at {iso(act.at_us)} {act.actor} on "
            f"{act.host} {deeds} (transaction {moved}).",
            next_step="Look again, then say --expect with the newer number.",
        )


# --- revoke and decertify ---------------------------------------------------------------


def revoke(connection: Connection, mask_id: int, reason: str, tx: int) -> list[Validity]:
    """Declare a mask unusable; returns the dates whose answer is an error from now on."""
    mask = find_mask(connection, mask_id)
    if (before := queries.revocations(connection, [mask_id]).get(mask_id)) is not None:
        raise Conflict(
            f"Mask {mask_id} has been revoked since {iso(before.at_us)} by {before.actor}: {before.reason}.",
        )
    queries.add_revocation(connection, mask_id, reason, tx)
    return _dates_of(connection, mask)


def lift_revocation(connection: Connection, mask_id: int, tx: int) -> list[Validity]:
    """Take a revocation back; returns the dates that the mask answers again."""
    mask = find_mask(connection, mask_id)
    if mask_id not in queries.revocations(connection, [mask_id]):
        raise Conflict(f"Mask {mask_id} is not revoked.")
    queries.close_revocation(connection, mask_id, tx)
    return _dates_of(connection, mask)


def _dates_of(connection: Connection, mask: MaskRow) -> list[Validity]:
    held = queries.assignments(connection, [mask.series_id])
    return [a.validity for a in held if a.mask_id == mask.id]


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """What becomes of the dates that were taken from a mask."""

    changes: tuple[MaskChange, ...]
    withheld: tuple[Withheld, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "changes": [change.as_dict() for change in self.changes],
            "withheld": [dataclasses.asdict(one) for one in self.withheld],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """Dates that are not given back, since the mask that held them has been withdrawn itself."""

    valid_from: str
    valid_to: str | None
    mask_id: int
    status: str
    """revoked or decertified"""


def decertify(
    connection: Connection, camera: CameraRow, mask_id: int, tx: int, *, restore_previous: bool
) -> Withdrawal:
    """Take all dates from a mask, and give them back to those who held them before it, if asked.

    Nothing goes back to a mask that has been revoked or decertified since, nor to one before that.
    """
    mask = find_mask(connection, mask_id)
    state = state_of(connection, camera, mask.series_id)
    if mask_id not in {p.mask_id for p in state.placed}:
        raise Conflict(f"Mask {mask_id} holds no dates.")
    before: list[Held] = []
    if restore_previous:
        history = queries.assignment_history(connection, [mask.series_id])
        for row in history:
            if row.mask_id == mask_id and row.closed_tx is None:
                before += _held_before(history, mask_id, row.validity, row.opened_tx)
    back, kept = returnable(connection, camera, state, before)
    placement = timeline.withdraw(state.placed, mask_id, back)
    return Withdrawal(
        changes=settle(connection, mask.series_id, placement, tx),
        withheld=tuple(
            Withheld(
                valid_from=iso(held.validity.start_us) or "",
                valid_to=iso(held.validity.end_us),
                mask_id=held.mask_id,
                status=status,
            )
            for held, status in kept
        ),
    )


def returnable(
    connection: Connection, camera: CameraRow, state: SeriesState, before: Sequence[Held]
) -> tuple[list[Held], list[tuple[Held, str]]]:
    """What may go back to the masks that held it, each within its epoch; and what may not, with the reason.

    The reason is that the mask is `revoked` or `decertified`.
    """
    rows = [state.masks[number] for number in sorted({held.mask_id for held in before})]
    status, anchors = statuses(connection, rows), anchors_of(connection, camera, rows)
    back: list[Held] = []
    kept: list[tuple[Held, str]] = []
    for held in sorted(before, key=lambda h: h.validity.start_us):
        epoch = timeline.epoch_of(anchors[held.mask_id], state.events_us)
        piece = timeline.intersection(held.validity, epoch)
        if piece is None:
            continue
        if (its := status[held.mask_id]) in ("revoked", "decertified"):
            kept.append((Held(held.mask_id, piece), its))
        else:
            back.append(Held(held.mask_id, piece))
    return back, kept


def _held_before(history: Sequence[Assignment], mask_id: int, interval: Validity, tx: int) -> list[Held]:
    """What others held of an interval just before a transaction, past what the mask held itself."""
    found: list[Held] = []
    for row in history:
        if row.opened_tx >= tx or (row.closed_tx is not None and row.closed_tx < tx):
            continue
        piece = timeline.intersection(row.validity, interval)
        if piece is None:
            continue
        if row.mask_id == mask_id:
            found += _held_before(history, mask_id, piece, row.opened_tx)
        else:
            found.append(Held(row.mask_id, piece))
    return found
