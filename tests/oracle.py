"""An oracle for any history of acts: it keeps a calendar of each transaction as a plain list.

It says the rules of the design in half nights, and knows nothing of intervals, rows or indexes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hotpix_registry.errors import AmbiguousMask, Conflict, HotpixError, NoMask, RevokedMask, UsageError
from hotpix_registry.instants import iso, to_us

# --- the calendar: half nights, from noon to midnight and from midnight to noon --------------------

BASE = datetime(2015, 1, 1, 12, tzinfo=UTC)
"""Noon at longitude 0, where cell 0 begins."""
HALF = timedelta(hours=12)
NIGHTS = 40
CELLS = 2 * NIGHTS
"""The cell of this number stands for all time after."""
REACH_NIGHTS = 6
SET_POINTS_C = (-10.0, -20.0)

Calendar = tuple[int | None, ...]
"""Cell → mask that holds it."""


def cell_us(cell: int) -> int:
    return to_us(BASE + cell * HALF)


def night(number: int) -> str:
    return (BASE + 2 * number * HALF).date().isoformat()


def span(start: int, end: int | None) -> tuple[str | None, str | None]:
    return iso(cell_us(start)), None if end is None else iso(cell_us(end))


# --- the oracle ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Mask:
    """What the oracle knows of a mask; all times are cells."""

    series: int
    campaign: tuple[int, int]
    darks: tuple[int, int] | None
    """first and last; None for one that no darks were taken for"""
    gates_passed: bool = True
    source: int | None = None
    """the mask that it was edited from"""
    compares: bool = True
    """whether it was made by comparing exposures"""
    reach: int = 2 * REACH_NIGHTS


@dataclass(frozen=True, kw_only=True)
class State:
    """Everything that can be asked about, at one transaction."""

    calendars: tuple[Calendar, ...] = ((None,) * (CELLS + 1),) * len(SET_POINTS_C)
    revoked: frozenset[int] = frozenset()
    decertified: frozenset[int] = frozenset()
    """masks that lost all their dates by that, and were given none since"""
    events: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Run:
    """Neighbouring cells that one mask holds."""

    mask: int
    start: int
    end: int | None


class Refused(Exception):
    def __init__(self, kind: type[HotpixError]) -> None:
        self.kind = kind


def runs(calendar: Sequence[int | None]) -> list[Run]:
    found: list[Run] = []
    for cell, mask in enumerate(calendar):
        if mask is None:
            continue
        end = None if cell == CELLS else cell + 1
        if found and (found[-1].mask, found[-1].end) == (mask, cell):
            found[-1] = replace(found[-1], end=end)
        else:
            found.append(Run(mask=mask, start=cell, end=end))
    return found


@dataclass
class Oracle:
    """The rules of the design, said of half nights; each method returns what the act would leave."""

    masks: dict[int, Mask] = field(default_factory=dict)
    history: dict[int, State] = field(default_factory=lambda: {0: State()})

    @property
    def now(self) -> State:
        return self.history[max(self.history)]

    def at(self, tx: int) -> State:
        return self.history[max(number for number in self.history if number <= tx)]

    def epoch(self, cell: int, events: Sequence[int]) -> range:
        start = max((event for event in events if event <= cell), default=-10_000)
        end = min((event for event in events if event > cell), default=CELLS + 1)
        return range(start, end)

    def anchor(self, number: int) -> int:
        """Where a mask stands by its own darks, or by those of the mask that it was edited from."""
        mask = self.masks[number]
        if mask.source is not None:
            return self.anchor(mask.source)
        return mask.campaign[0] if mask.darks is None else mask.darks[0]

    def own_epoch(self, number: int, events: Sequence[int]) -> range:
        return self.epoch(self.anchor(number), events)

    def is_torn(self, number: int) -> bool:
        """Whether darks on both sides of an event went into a mask, or into what it was edited from."""
        mask = self.masks[number]
        if mask.source is not None:
            return self.is_torn(mask.source)
        darks = mask.darks
        return darks is not None and any(darks[0] < event <= darks[1] for event in self.now.events)

    def is_predecessor(self, other: int, number: int) -> bool:
        """A build of the same campaign, or the mask that this one was edited from."""
        a, b = self.masks[other], self.masks[number]
        together = a.campaign[0] < b.campaign[1] and b.campaign[0] < a.campaign[1]
        return other == b.source or (together and a.compares and b.compares)

    def place(self, number: int, start: int | None, end: int | None) -> tuple[list[int | None], bool]:
        """(the calendar after, whether anything is in the way)"""
        mask, events = self.masks[number], self.now.events
        calendar = self.now.calendars[mask.series]
        held = runs(calendar)
        epoch = self.own_epoch(number, events)
        before = [r for r in held if r.mask != number and self.is_predecessor(r.mask, number)]
        others = [r for r in held if r.mask != number and r not in before]
        same_epoch = [r for r in others if self.anchor(r.mask) in epoch]

        def begins(run: Run) -> int:
            """Where a run stands without what it reached back over."""
            return max(run.start, self.masks[run.mask].campaign[0])

        first_night = max(mask.campaign[0], epoch.start)
        is_first = not any(begins(r) <= first_night for r in same_epoch)
        default_start = max(first_night - mask.reach, epoch.start) if is_first else first_night

        def next_after(cell: int) -> int:
            return min([begins(r) for r in same_epoch if begins(r) > cell] + [epoch.stop])

        inherited = {c for r in before for c in self.cells(r) if c in epoch}
        if start is not None or end is not None:
            first = default_start if start is None else start
            last = next_after(first) if end is None else end
            if last <= first or first not in epoch or last > epoch.stop:
                raise Refused(UsageError)
            wanted = set(range(first, last))
        elif inherited:
            own = {c for c, holder in enumerate(calendar) if holder == number}
            wanted = inherited | own
            first = min(wanted)
            wanted |= set(range(min(default_start, first), first))
        else:
            wanted = set(range(default_start, next_after(first_night)))

        usual = set(range(default_start, next_after(first_night)))
        in_the_way = any(self.loses_unduly(r, number, wanted, begins(r), usual) for r in others)
        if mask.source is not None:  # an edit knows no other mask than that which it was made from
            strange = [r for r in before if r.mask != mask.source or r.mask in self.now.revoked]
            in_the_way |= any(wanted & set(self.cells(r)) for r in strange)
        kept = [None if holder == number else holder for holder in calendar]
        for cell in wanted:
            kept[cell] = number
        return kept, in_the_way

    @staticmethod
    def cells(run: Run) -> range:
        return range(run.start, CELLS + 1 if run.end is None else run.end)

    def loses_unduly(self, run: Run, number: int, wanted: set[int], begins: int, usual: set[int]) -> bool:
        lost = sorted(wanted & set(self.cells(run)))
        if not lost:
            return False
        if not usual.issuperset(lost):  # before the mask's own campaign, or past the next one
            return True
        theirs, mine = self.masks[run.mask].campaign[0], self.masks[number].campaign[0]
        if theirs < mine and lost[0] > run.start:  # an earlier campaign may lose its end
            return lost != list(range(lost[0], self.cells(run).stop))
        if theirs > mine:  # a later one may lose what it reached back over
            return lost[-1] >= begins
        return True

    # --- acts ---------------------------------------------------------------------------

    def with_calendar(self, series: int, calendar: Sequence[int | None], **others: Any) -> State:
        calendars = list(self.now.calendars)
        calendars[series] = tuple(calendar)
        decertified = self.now.decertified - {mask for mask in calendar if mask is not None}
        return replace(self.now, calendars=tuple(calendars), **{"decertified": decertified} | others)

    def build(self, number: int) -> State:
        mask = self.masks[number]
        if not mask.gates_passed or self.is_torn(number):
            return self.now
        calendar, in_the_way = self.place(number, None, None)
        return self.now if in_the_way else self.with_calendar(mask.series, calendar)

    def edit(self, number: int) -> State:
        """An edit takes the dates of a mask that answers, and waits where that one does not."""
        mask = self.masks[number]
        if mask.source in self.now.revoked:
            return self.now
        calendar = self.now.calendars[mask.series]
        return self.with_calendar(mask.series, [number if m == mask.source else m for m in calendar])

    def certify(
        self, number: int, start: int | None, end: int | None, *, supersede: bool, force: bool
    ) -> State:
        if number in self.now.revoked:
            raise Refused(RevokedMask)
        if not force and (not self.masks[number].gates_passed or self.is_torn(number)):
            raise Refused(Conflict)
        calendar, in_the_way = self.place(number, start, end)
        if in_the_way and not supersede:
            raise Refused(Conflict)
        return self.with_calendar(self.masks[number].series, calendar)

    def revoke(self, number: int, *, undo: bool) -> State:
        if (number in self.now.revoked) != undo:
            raise Refused(Conflict)
        return replace(self.now, revoked=self.now.revoked ^ {number})

    def decertify(self, number: int, *, restore: bool) -> State:
        series = self.masks[number].series
        calendar = list(self.now.calendars[series])
        if number not in calendar:
            raise Refused(Conflict)
        past = [self.history[tx].calendars[series] for tx in sorted(self.history, reverse=True)]
        for cell, holder in enumerate(calendar):
            if holder != number:
                continue
            before = next((c[cell] for c in past if c[cell] != number), None) if restore else None
            if before in self.now.revoked or before in self.now.decertified:
                before = None
            if before is not None and cell not in self.own_epoch(before, self.now.events):
                before = None
            calendar[cell] = before
        return self.with_calendar(series, calendar, decertified=self.now.decertified | {number})

    def add_event(self, cell: int, *, trim: bool) -> State:
        if cell in self.now.events:
            raise Refused(Conflict)
        events = tuple(sorted((*self.now.events, cell)))
        cut = tuple(
            tuple(m if m is None or c in self.own_epoch(m, events) else None for c, m in enumerate(calendar))
            for calendar in self.now.calendars
        )
        if cut != self.now.calendars and not trim:
            raise Refused(Conflict)
        return replace(self.now, calendars=cut, events=events)

    # --- questions ----------------------------------------------------------------------

    def answer(
        self, state: State, cells: Sequence[int], series: Sequence[int], fallback: str | None
    ) -> int | type[HotpixError]:
        alive = [s for s in series if any(state.calendars[s][c] is not None for c in cells)]
        if len(alive) > 1:
            return AmbiguousMask
        if alive:
            holders = {state.calendars[alive[0]][c] for c in cells}
            if len(holders) > 1:
                return AmbiguousMask
            (holder,) = holders
            assert holder is not None
            return RevokedMask if holder in state.revoked else holder
        if fallback is None:
            return NoMask
        return self.fall_back(state, cells[0], series, fallback)

    def fall_back(
        self, state: State, cell: int, series: Sequence[int], fallback: str
    ) -> int | type[HotpixError]:
        """The nearest mask of the same epoch that is not revoked; what began is a moment farther."""
        epoch = self.epoch(cell, state.events)
        near: list[tuple[float, int, int]] = []
        for s in series:
            usable = {
                c: m
                for c, m in enumerate(state.calendars[s])
                if c in epoch and m is not None and m not in state.revoked
            }
            earlier, later = [c for c in usable if c < cell], [c for c in usable if c > cell]
            if earlier:
                near.append((cell - max(earlier) - 1 + 1e-9, s, usable[max(earlier)]))
            if later and fallback == "nearest":
                near.append((min(later) - cell, s, usable[min(later)]))
        if not near:
            return NoMask
        least = min(away for away, _, _ in near)
        nearest = [(s, m) for away, s, m in near if away == least]
        return AmbiguousMask if len({s for s, _ in nearest}) > 1 else nearest[0][1]


def changes(before: State, after: State, series: int) -> list[tuple[Any, ...]]:
    """What an act should print: the longest spans in which another mask answers."""
    told: list[tuple[int, int | None, int | None, int | None]] = []
    for cell, (was, now) in enumerate(zip(before.calendars[series], after.calendars[series], strict=True)):
        if was == now:
            continue
        end = None if cell == CELLS else cell + 1
        if told and told[-1][1] == cell and told[-1][2:] == (was, now):
            told[-1] = (told[-1][0], end, was, now)
        else:
            told.append((cell, end, was, now))
    return [(*span(start, end), was, now) for start, end, was, now in told]
