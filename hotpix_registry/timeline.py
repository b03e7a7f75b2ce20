"""Which mask holds which dates: placing a mask among those of its series, taking it away, epochs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from hotpix_registry.instants import US_PER_DAY, Validity


class Placed(NamedTuple):
    """A current assignment, as placing needs to know it."""

    assignment_id: int
    mask_id: int
    validity: Validity
    campaign: Validity
    """from the start of the campaign's first night to the end of its last"""
    anchor_us: int
    """an instant of the mask's own darks: it says which epoch the mask belongs to"""


class Newcomer(NamedTuple):
    """The mask that is to hold dates."""

    mask_id: int
    campaign: Validity
    anchor_us: int


class Held(NamedTuple):
    """A mask and an interval that it holds."""

    mask_id: int
    validity: Validity


class Handover(NamedTuple):
    """A mask that is to hold what another one holds of an interval."""

    giver: int
    taker: int
    within: Validity


class Change(NamedTuple):
    """An interval in which another mask answers than before; None is no mask."""

    validity: Validity
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What one transaction closes and opens so that masks stand where they belong."""

    closed: tuple[int, ...]
    """assignment ids"""
    opened: tuple[Held, ...]
    changes: tuple[Change, ...]
    in_the_way: tuple[Placed, ...] = ()
    """what would lose dates out of the ordinary: only for the word of a person"""


BEGINNING_US = -(2**62)
"""where the first epoch begins"""
ALWAYS = Validity(BEGINNING_US, None)


def epoch_of(instant_us: int, events_us: Iterable[int]) -> Validity:
    """The epoch of an instant: from the last event up to it, to the next one.

    An event belongs to the epoch that it begins.
    """
    events = list(events_us)
    before = [e for e in events if e <= instant_us]
    after = [e for e in events if e > instant_us]
    return Validity(max(before, default=BEGINNING_US), min(after, default=None))


def place(
    current: Sequence[Placed],
    new: Newcomer,
    *,
    predecessors: Collection[int] = (),
    protected: Collection[int] = (),
    events_us: Sequence[int] = (),
    reach_back_days: int,
    service_from_us: int | None = None,
    start_us: int | None = None,
    end_us: int | None = None,
) -> Placement:
    """Place a mask: from its campaign's first night to the next campaign's, else open.

    The first campaign of an epoch reaches back to the epoch's start, by at most `reach_back_days` and
    never before the camera's first service. A mask that takes the place of its predecessors (a
    rebuild of the same campaign) takes over the dates that they hold. No interval leaves the epoch of
    the mask's own darks. What a mask held before is replaced, save where it takes over.

    Ordinary is what fills in, within the interval that the mask has by default: cutting the end of an
    earlier campaign, and what a later one reached back over. All else that would lose dates is listed
    in `in_the_way`.

    Parameters
    ----------
    predecessors
        masks whose dates this one takes over without a word
    protected
        those of them that lose dates only by the word of a person
    events_us
        the camera's epoch events
    start_us, end_us
        given bounds of the interval

    Raises
    ------
    ValueError
        The given bounds are empty, or leave the epoch; with a sentence.
    """
    epoch = epoch_of(new.anchor_us, events_us)
    own_start_us = max(new.campaign.start_us, epoch.start_us)
    others = [p for p in current if p.mask_id != new.mask_id and p.mask_id not in predecessors]
    replaced = [p for p in current if p.mask_id in predecessors and p.mask_id != new.mask_id]
    same_epoch = [p for p in others if epoch.contains(p.anchor_us)]

    def next_after(instant_us: int) -> int | None:
        later = [_true_start(p) for p in same_epoch if _true_start(p) > instant_us]
        return min([*later, *([] if epoch.end_us is None else [epoch.end_us])], default=None)

    default_start_us = own_start_us
    if all(_true_start(p) > own_start_us for p in same_epoch):
        floor_us = epoch.start_us if service_from_us is None else max(epoch.start_us, service_from_us)
        default_start_us = min(max(own_start_us - reach_back_days * US_PER_DAY, floor_us), own_start_us)

    default = Validity(default_start_us, next_after(own_start_us))
    taken_over = [piece for p in replaced if (piece := intersection(p.validity, epoch))]
    if start_us is not None or end_us is not None:
        start_us = default_start_us if start_us is None else start_us
        end_us = next_after(start_us) if end_us is None else end_us
        wanted = [_checked(start_us, end_us, epoch)]
    elif taken_over:
        own = [p.validity for p in current if p.mask_id == new.mask_id]
        first, *rest = _joined([*taken_over, *own])
        wanted = [Validity(min(default_start_us, first.start_us), first.end_us), *rest]
    else:
        wanted = [default]

    in_the_way = (
        *(p for p in others if any(_loses_unduly(p, new, v, default) for v in wanted)),
        *(p for p in replaced if p.mask_id in protected and any(p.validity.overlaps(v) for v in wanted)),
    )
    kept = [Held(p.mask_id, piece) for p in (*others, *replaced) for piece in _without(p.validity, wanted)]
    return _settle(current, [*kept, *(Held(new.mask_id, v) for v in wanted)], in_the_way)


def _checked(start_us: int, end_us: int | None, epoch: Validity) -> Validity:
    if epoch.contains(start_us) and end_us is not None and end_us <= start_us:
        raise ValueError("the interval ends before it begins")
    if not (epoch.contains(start_us) and epoch.covers(validity := Validity(start_us, end_us))):
        raise ValueError("the interval leaves the epoch of the mask's darks")
    return validity


def _true_start(placed: Placed) -> int:
    """Where a mask stands by its own darks, without what it reached back over."""
    return max(placed.validity.start_us, placed.campaign.start_us)


def _loses_unduly(p: Placed, new: Newcomer, wanted: Validity, default: Validity) -> bool:
    lost = intersection(p.validity, wanted)
    if lost is None:
        return False
    if not default.covers(lost):
        return True
    if p.campaign.start_us < new.campaign.start_us and p.validity.start_us < wanted.start_us:
        end_is_cut = wanted.end_us is None or (
            p.validity.end_us is not None and p.validity.end_us <= wanted.end_us
        )
        return not end_is_cut
    if p.campaign.start_us > new.campaign.start_us:
        return wanted.end_us is None or wanted.end_us > _true_start(p)
    return True


def hand_over(current: Sequence[Placed], handovers: Sequence[Handover]) -> Placement:
    """Let masks hold exactly what others hold, in their place; no other date is answered otherwise."""
    held = []
    for p in current:
        own = [one for one in handovers if one.giver == p.mask_id]
        given = [(one.taker, piece) for one in own if (piece := intersection(p.validity, one.within))]
        held += [Held(taker, piece) for taker, piece in given]
        held += [Held(p.mask_id, rest) for rest in _without(p.validity, [piece for _, piece in given])]
    return _settle(current, held)


def withdraw(current: Sequence[Placed], mask_id: int, restored: Sequence[Held] = ()) -> Placement:
    """Take all dates from a mask, and give those of `restored` that are free then to their masks."""
    remaining = [Held(p.mask_id, p.validity) for p in current if p.mask_id != mask_id]
    freed = [p.validity for p in current if p.mask_id == mask_id]
    back = [
        Held(held.mask_id, piece)
        for held in restored
        for free in freed
        if (piece := intersection(held.validity, free)) is not None
    ]
    return _settle(current, [*remaining, *back])


def keep_to_epochs(current: Sequence[Placed], events_us: Sequence[int]) -> Placement:
    """Cut every interval to the epoch of its mask's own darks."""
    kept = []
    for p in current:
        piece = intersection(p.validity, epoch_of(p.anchor_us, events_us))
        if piece is not None:
            kept.append(Held(p.mask_id, piece))
    return _settle(current, kept)


def _settle(
    current: Sequence[Placed], wanted: Sequence[Held], in_the_way: tuple[Placed, ...] = ()
) -> Placement:
    """The rows to close and to open so that exactly `wanted` holds; rows that stay as they are stay."""
    target = _merged(wanted)
    there = {Held(p.mask_id, p.validity): p.assignment_id for p in current}
    return Placement(
        closed=tuple(number for held, number in there.items() if held not in target),
        opened=tuple(held for held in target if held not in there),
        changes=changes([Held(p.mask_id, p.validity) for p in current], target),
        in_the_way=in_the_way,
    )


def _merged(held: Sequence[Held]) -> list[Held]:
    """Intervals in the order of time; those of one mask that touch are one."""
    merged: list[Held] = []
    for one in sorted(held, key=lambda h: h.validity.start_us):
        if (
            merged
            and merged[-1].mask_id == one.mask_id
            and merged[-1].validity.end_us == one.validity.start_us
        ):
            merged[-1] = Held(one.mask_id, Validity(merged[-1].validity.start_us, one.validity.end_us))
        else:
            merged.append(one)
    return merged


def _joined(intervals: Sequence[Validity]) -> list[Validity]:
    return [held.validity for held in _merged([Held(0, v) for v in intervals])]


def intersection(a: Validity, b: Validity) -> Validity | None:
    """What two intervals share; None for nothing."""
    if not a.overlaps(b):
        return None
    ends = [end for end in (a.end_us, b.end_us) if end is not None]
    return Validity(max(a.start_us, b.start_us), min(ends, default=None))


def _without(validity: Validity, taken: Sequence[Validity]) -> list[Validity]:
    """What is left of an interval."""
    pieces = [validity]
    for away in taken:
        left = []
        for piece in pieces:
            if not piece.overlaps(away):
                left.append(piece)
                continue
            if piece.start_us < away.start_us:
                left.append(Validity(piece.start_us, away.start_us))
            if away.end_us is not None and (piece.end_us is None or piece.end_us > away.end_us):
                left.append(Validity(away.end_us, piece.end_us))
        pieces = left
    return pieces


def changes(before: Sequence[Held], after: Sequence[Held]) -> tuple[Change, ...]:
    """The intervals in which another mask answers than before, as long as they can be."""
    found: list[Change] = []
    bounds = {v.start_us for _, v in (*before, *after)} | {
        v.end_us for _, v in (*before, *after) if v.end_us is not None
    }
    edges: list[int | None] = [*sorted(bounds), None]
    old, new = _Walk(before), _Walk(after)
    for start_us, end_us in pairwise(edges):
        assert start_us is not None
        was, will_be = old.at(start_us), new.at(start_us)
        if was == will_be:
            continue
        last = found[-1] if found else None
        if last and last.validity.end_us == start_us and (last.before, last.after) == (was, will_be):
            found[-1] = Change(Validity(last.validity.start_us, end_us), was, will_be)
        else:
            found.append(Change(Validity(start_us, end_us), was, will_be))
    return tuple(found)


class _Walk:
    """Look-ups at growing instants in intervals that do not overlap."""

    def __init__(self, held: Sequence[Held]) -> None:
        self._held = sorted(held, key=lambda h: h.validity.start_us)
        self._next = 0

    def at(self, instant_us: int) -> int | None:
        while self._next < len(self._held):
            end_us = self._held[self._next].validity.end_us
            if end_us is not None and end_us <= instant_us:
                self._next += 1
            else:
                break
        if self._next < len(self._held) and self._held[self._next].validity.contains(instant_us):
            return self._held[self._next].mask_id
        return None
