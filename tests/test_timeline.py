"""Placing masks in time, against an oracle that keeps a plain calendar."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpix_registry.instants import US_PER_DAY, Validity
from hotpix_registry.timeline import (
    Change,
    Held,
    Newcomer,
    Placed,
    Placement,
    changes,
    epoch_of,
    keep_to_epochs,
    place,
    withdraw,
)

DAY = US_PER_DAY
REACH = 400


def days(first: int, last: int | None = None) -> Validity:
    return Validity(first * DAY, None if last is None else last * DAY)


def night(day: int, n: int = 1) -> Validity:
    return days(day, day + n)


class Calendar:
    """A series to which masks are given, one after the other."""

    def __init__(self, *events: int) -> None:
        self.events_us = [day * DAY for day in events]
        self.placed: list[Placed] = []
        self.campaigns: dict[int, Validity] = {}
        self.numbers = itertools.count(1)

    def propose(
        self,
        mask_id: int,
        campaign: Validity,
        *,
        start: int | None = None,
        end: int | None = None,
        **options: Any,
    ) -> Placement:
        """What placing a mask would do; masks of overlapping campaigns are its predecessors."""
        self.campaigns[mask_id] = campaign
        predecessors = {p.mask_id for p in self.placed if p.campaign.overlaps(campaign)}
        return place(
            self.placed,
            Newcomer(mask_id, campaign, campaign.start_us),
            predecessors=options.pop("predecessors", predecessors),
            events_us=self.events_us,
            reach_back_days=REACH,
            start_us=None if start is None else start * DAY,
            end_us=None if end is None else end * DAY,
            **options,
        )

    def put(self, mask_id: int, campaign: Validity, **options: Any) -> Calendar:
        self.settle(self.propose(mask_id, campaign, **options))
        return self

    def settle(self, placement: Placement) -> None:
        kept = [p for p in self.placed if p.assignment_id not in placement.closed]
        new = [
            Placed(next(self.numbers), mask_id, validity, self.campaigns[mask_id], self.anchor(mask_id))
            for mask_id, validity in placement.opened
        ]
        self.placed = sorted(kept + new, key=lambda p: p.validity.start_us)

    def anchor(self, mask_id: int) -> int:
        return self.campaigns[mask_id].start_us

    @property
    def held(self) -> list[Held]:
        return [Held(p.mask_id, p.validity) for p in self.placed]

    @property
    def shown(self) -> list[tuple[int, int, int | None]]:
        return [(m, v.start_us // DAY, None if v.end_us is None else v.end_us // DAY) for m, v in self.held]

    def answer(self, instant_us: int) -> int | None:
        found = [m for m, v in self.held if v.contains(instant_us)]
        assert len(found) <= 1
        return found[0] if found else None


def test_the_first_mask_of_a_series_reaches_back_and_stays_open() -> None:
    assert Calendar().put(1, night(1000)).shown == [(1, 600, None)]


def test_it_does_not_reach_back_before_the_camera_was_in_service() -> None:
    assert Calendar().put(1, night(1000), service_from_us=900 * DAY).shown == [(1, 900, None)]
    assert Calendar().put(1, night(100), service_from_us=0).shown == [(1, 0, None)]


def test_a_later_campaign_ends_the_one_before() -> None:
    assert Calendar().put(1, night(1000)).put(2, night(1100)).shown == [(1, 600, 1100), (2, 1100, None)]


def test_filling_in_an_old_campaign_takes_only_the_dates_up_to_the_next() -> None:
    held = Calendar().put(1, night(1000)).put(3, night(1200)).put(2, night(1100))
    assert held.shown == [(1, 600, 1100), (2, 1100, 1200), (3, 1200, None)]


def test_filling_in_a_campaign_before_the_first_takes_over_what_that_one_reached_back_over() -> None:
    assert Calendar().put(2, night(1000)).put(1, night(900)).shown == [(1, 500, 1000), (2, 1000, None)]


def test_a_rebuild_of_a_campaign_takes_its_predecessors_place() -> None:
    held = Calendar().put(1, night(1000)).put(2, night(1100)).put(3, night(1000))
    assert held.shown == [(3, 600, 1100), (2, 1100, None)]


def test_a_campaign_that_grew_by_a_night_is_a_rebuild() -> None:
    assert Calendar().put(1, night(1000, 2)).put(2, night(999, 4)).shown == [(2, 599, None)]


def test_a_rebuild_keeps_the_end_that_a_person_had_given() -> None:
    held = Calendar().put(1, night(1000), end=1050).put(2, night(1000))
    assert held.shown == [(2, 600, 1050)]


def test_a_rebuild_takes_over_dates_that_lie_apart() -> None:
    held = Calendar().put(1, night(1000)).put(2, night(1001), start=1010, end=1020, predecessors=())
    assert held.shown == [(1, 600, 1010), (2, 1010, 1020), (1, 1020, None)]
    assert held.put(3, night(1000), predecessors=[1]).shown == [
        (3, 600, 1010),
        (2, 1010, 1020),
        (3, 1020, None),
    ]


def test_a_mask_that_takes_over_from_another_build_keeps_the_dates_that_it_holds_itself() -> None:
    held = Calendar().put(1, night(1000)).put(2, night(1000), start=1010, end=1020, predecessors=())
    assert held.shown == [(1, 600, 1010), (2, 1010, 1020), (1, 1020, None)]
    assert held.put(1, night(1000), predecessors=[2]).shown == [(1, 600, None)]
    held = Calendar().put(1, night(1000)).put(2, night(1000), start=1010, end=1020, predecessors=())
    assert held.put(2, night(1000), predecessors=[1]).shown == [(2, 600, None)]


def test_placing_a_mask_where_it_stands_changes_nothing() -> None:
    held = Calendar().put(1, night(1000)).put(2, night(1100))
    again = held.propose(2, night(1100))
    assert (again.closed, again.opened, again.changes) == ((), (), ())


def test_a_mask_that_is_given_other_bounds_leaves_its_old_ones() -> None:
    assert Calendar().put(1, night(1000)).put(1, night(1000), start=1000, end=1100).shown == [(1, 1000, 1100)]


def test_placing_says_which_dates_answer_otherwise() -> None:
    held = Calendar().put(1, night(1000)).put(3, night(1200))
    assert held.propose(2, night(1100)).changes == (Change(days(1100, 1200), 1, 2),)
    assert Calendar().propose(1, night(1000)).changes == (Change(days(600), None, 1),)


# --- what is out of the ordinary ---------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "campaign", "bounds"),
    [
        ("another campaign of the same night", night(1000), {}),
        ("the middle of what another holds", night(1010), {"start": 1020, "end": 1030}),
        ("more than a later one reached back over", night(900), {"end": 1010}),
        ("what an earlier one holds before the own first night", night(1010), {"start": 1009}),
        ("the beginning of what an earlier one holds", night(1010), {"start": 600, "end": 700}),
    ],
)
def test_what_is_out_of_the_ordinary_is_in_the_way(
    what: str, campaign: Validity, bounds: dict[str, int]
) -> None:
    held = Calendar().put(1, night(1000))
    proposed = held.propose(2, campaign, predecessors=(), **bounds)
    assert [p.mask_id for p in proposed.in_the_way] == [1], what


def test_ordinary_placements_have_nothing_in_the_way() -> None:
    held = Calendar().put(2, night(1000)).put(4, night(1200))
    for mask_id, campaign in ((1, night(900)), (3, night(1100)), (5, night(1300)), (6, night(1000))):
        assert held.propose(mask_id, campaign).in_the_way == ()


def test_given_bounds_within_the_interval_by_default_are_ordinary() -> None:
    held = Calendar().put(1, night(1000)).put(3, night(1200))
    for bounds in ({"start": 1100}, {"start": 1150}, {"start": 1100, "end": 1200}):
        assert held.propose(2, night(1100), **bounds).in_the_way == ()
    assert held.propose(1, night(1000), start=100).in_the_way == ()  # where no mask holds a date


def test_what_lies_before_the_own_reach_is_in_the_way() -> None:
    held = Calendar().put(2, night(1200), start=100)
    assert [p.mask_id for p in held.propose(1, night(1000), start=500).in_the_way] == [2]
    assert held.propose(1, night(1000), start=600).in_the_way == ()


def test_superseding_leaves_the_others_what_lies_on_either_side() -> None:
    held = Calendar().put(1, night(1000)).put(2, night(1010), start=1020, end=1030)
    assert held.shown == [(1, 600, 1020), (2, 1020, 1030), (1, 1030, None)]


@pytest.mark.parametrize(("start", "end"), [(1000, 1000), (1001, 1000)])
def test_bounds_that_hold_nothing_are_refused(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="ends before it begins"):
        Calendar().propose(1, night(1000), start=start, end=end)


# --- epochs ------------------------------------------------------------------------------


def test_an_event_belongs_to_the_epoch_that_it_begins() -> None:
    assert epoch_of(999, [1000, 2000]).end_us == 1000
    assert epoch_of(1000, [1000, 2000]) == Validity(1000, 2000)
    assert epoch_of(2000, [1000, 2000]) == Validity(2000, None)
    assert epoch_of(5, []).contains(10**18)


def test_a_mask_ends_at_the_next_event() -> None:
    assert Calendar(1050).put(1, night(1000)).shown == [(1, 600, 1050)]


def test_the_first_campaign_of_an_epoch_reaches_back_to_its_event() -> None:
    held = Calendar(1050).put(1, night(1000)).put(2, night(1100))
    assert held.shown == [(1, 600, 1050), (2, 1050, None)]


def test_it_reaches_back_to_the_event_by_at_most_the_profiles_days() -> None:
    assert Calendar(500).put(1, night(1000)).shown == [(1, 600, None)]


def test_filling_in_does_not_cross_an_event() -> None:
    held = Calendar(1050).put(1, night(1000)).put(3, night(1200)).put(2, night(1020))
    assert held.shown == [(1, 600, 1020), (2, 1020, 1050), (3, 1050, None)]


@pytest.mark.parametrize(
    "bounds",
    [
        {"start": 1000, "end": 1051},
        {"start": 1040, "end": 1060},
        {"end": 2000},
        {"start": 1060},
        {"start": 1050, "end": 1040},
    ],
)
def test_given_bounds_must_stay_in_the_epoch(bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="leaves the epoch"):
        Calendar(1050).propose(1, night(1000), **bounds)


def test_a_new_event_cuts_what_masks_hold_across_it() -> None:
    held = Calendar().put(1, night(1000)).put(2, night(1100))
    cut = keep_to_epochs(held.placed, [1050 * DAY, 1150 * DAY])
    assert cut.changes == (Change(days(1050, 1100), 1, None), Change(days(1150), 2, None))


def test_a_new_event_takes_what_a_later_mask_reached_back_over() -> None:
    held = Calendar().put(1, night(1000))
    assert keep_to_epochs(held.placed, [900 * DAY]).changes == (Change(days(600, 900), 1, None),)


# --- taking away ---------------------------------------------------------------------------


def test_dates_that_are_taken_away_answer_no_more() -> None:
    held = Calendar().put(1, night(1000)).put(2, night(1100))
    taken = withdraw(held.placed, 2)
    assert taken.changes == (Change(days(1100), 2, None),)
    held.settle(taken)
    assert held.shown == [(1, 600, 1100)]


def test_dates_that_are_given_back_join_what_their_mask_still_holds() -> None:
    held = Calendar().put(1, night(1000)).put(2, night(1100))
    held.settle(withdraw(held.placed, 2, [Held(1, days(600))]))
    assert held.shown == [(1, 600, None)]


# --- properties ----------------------------------------------------------------------------


campaigns = st.lists(st.tuples(st.integers(500, 2500), st.integers(1, 5)), min_size=1, max_size=8)
event_days = st.lists(st.integers(400, 2600), max_size=3, unique=True)


@given(campaigns, event_days)
def test_masks_placed_in_any_order_follow_each_other_like_their_campaigns(
    spans: list[tuple[int, int]], events: list[int]
) -> None:
    calendar = Calendar(*events)
    newest: list[tuple[int, Validity]] = []
    for mask_id, (day, length) in enumerate(spans, start=1):
        campaign = night(day, length)
        if any(campaign.start_us < e <= campaign.end_us for e in calendar.events_us if campaign.end_us):
            continue
        before = calendar.held
        placement = calendar.propose(mask_id, campaign)
        assert placement.in_the_way == ()
        calendar.settle(placement)
        newest = [(m, c) for m, c in newest if not c.overlaps(campaign)] + [(mask_id, campaign)]
        for instant_us in range(0, 3000 * DAY, 13 * DAY + 7):
            told = [c for c in placement.changes if c.validity.contains(instant_us)]
            was = [m for m, v in before if v.contains(instant_us)]
            now = calendar.answer(instant_us)
            assert (was != ([] if now is None else [now])) == bool(told)
            assert all((c.before, c.after) == (was[0] if was else None, now) for c in told)
    for a, b in itertools.pairwise(calendar.held):
        assert not a.validity.overlaps(b.validity)
    assert {m for m, _ in calendar.held} == {m for m, _ in newest}
    for mask_id, campaign in newest:
        assert calendar.answer(campaign.start_us) == mask_id
    for p in calendar.placed:
        assert epoch_of(p.anchor_us, calendar.events_us).covers(p.validity)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_three_campaigns_end_alike_in_whatever_order_they_come(order: tuple[int, ...]) -> None:
    calendar = Calendar()
    for number in order:
        calendar.put(number + 1, night(1000 + 100 * number))
    assert calendar.shown == [(1, calendar.shown[0][1], 1100), (2, 1100, 1200), (3, 1200, None)]


spans = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 20), st.integers(1, 9)), max_size=6)


def apart(pieces: list[tuple[int, int, int]]) -> list[Held]:
    """Pieces laid one after the other, so that none overlaps."""
    held, at = [], 0
    for mask_id, gap, length in pieces:
        held.append(Held(mask_id, Validity(at + gap, at + gap + length)))
        at += gap + length
    return held


@given(spans, spans)
def test_changes_are_told_for_each_instant_and_as_long_as_they_can_be(
    a: list[tuple[int, int, int]], b: list[tuple[int, int, int]]
) -> None:
    before, after = apart(a), apart(b)
    told = changes(before, after)
    for instant in range(200):
        was = next((m for m, v in before if v.contains(instant)), None)
        now = next((m for m, v in after if v.contains(instant)), None)
        here = [(c.before, c.after) for c in told if c.validity.contains(instant)]
        assert here == ([(was, now)] if was != now else [])
    for one, other in itertools.pairwise(told):
        assert one.validity.end_us != other.validity.start_us or one[1:] != other[1:]
