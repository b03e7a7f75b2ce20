"""Placing masks in time, against an oracle that keeps a plain calendar."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpix_registry.domain import US_PER_DAY, Validity
from hotpix_registry.timeline import Change, Placed, place

DAY = US_PER_DAY
REACH = 400


def night(day: int, n: int = 1) -> Validity:
    return Validity(day * DAY, (day + n) * DAY)


def put(current: list[Placed], mask_id: int, campaign: Validity, **options: int) -> list[Placed]:
    """What a series holds after placing one more mask."""
    placement = place(current, campaign, reach_back_days=REACH, **options)
    campaigns = {p.mask_id: p.campaign for p in current} | {mask_id: campaign}
    kept = [p for p in current if p.assignment_id not in placement.closed]
    opened = [*placement.opened, (mask_id, placement.validity)]
    number = 1 + max((p.assignment_id for p in current), default=0)
    new = [Placed(number + i, m, validity, campaigns[m]) for i, (m, validity) in enumerate(opened)]
    return sorted(kept + new, key=lambda p: p.validity.start_us)


def shown(current: list[Placed]) -> list[tuple[int, int, int | None]]:
    return [
        (
            p.mask_id,
            p.validity.start_us // DAY,
            None if p.validity.end_us is None else p.validity.end_us // DAY,
        )
        for p in current
    ]


def test_the_first_mask_of_a_series_reaches_back_and_stays_open() -> None:
    assert shown(put([], 1, night(1000))) == [(1, 600, None)]


def test_it_does_not_reach_back_before_the_camera_was_in_service() -> None:
    assert shown(put([], 1, night(1000), service_from_us=900 * DAY)) == [(1, 900, None)]


def test_a_later_campaign_ends_the_one_before() -> None:
    assert shown(put(put([], 1, night(1000)), 2, night(1100))) == [(1, 600, 1100), (2, 1100, None)]


def test_filling_in_an_old_campaign_takes_only_the_dates_up_to_the_next() -> None:
    held = put(put([], 1, night(1000)), 3, night(1200))
    assert shown(put(held, 2, night(1100))) == [(1, 600, 1000 + 100), (2, 1100, 1200), (3, 1200, None)]


def test_filling_in_a_campaign_before_the_first_takes_over_what_that_one_reached_back_over() -> None:
    held = put([], 2, night(1000))
    assert shown(put(held, 1, night(900))) == [(1, 500, 1000), (2, 1000, None)]


def test_a_rebuild_of_a_campaign_takes_its_predecessors_place() -> None:
    held = put(put([], 1, night(1000)), 2, night(1100))
    assert shown(put(held, 3, night(1000))) == [(3, 600, 1100), (2, 1100, None)]


def test_a_campaign_that_grew_by_a_night_is_a_rebuild() -> None:
    held = put([], 1, night(1000, 2))
    assert shown(put(held, 2, night(999, 4))) == [(2, 599, None)]


def test_placing_says_which_dates_answer_otherwise() -> None:
    held = put(put([], 1, night(1000)), 3, night(1200))
    placement = place(held, night(1100), reach_back_days=REACH)
    assert placement.changes == (Change(Validity(1100 * DAY, 1200 * DAY), 1, 0),)
    first = place([], night(1000), reach_back_days=REACH)
    assert first.changes == (Change(Validity(600 * DAY, None), None, 0),)


campaigns = st.lists(st.tuples(st.integers(500, 2500), st.integers(1, 5)), min_size=1, max_size=8)


@given(campaigns)
def test_masks_placed_in_any_order_follow_each_other_like_their_campaigns(
    spans: list[tuple[int, int]],
) -> None:
    held: list[Placed] = []
    newest: list[tuple[int, Validity]] = []
    for mask_id, (day, length) in enumerate(spans, start=1):
        campaign = night(day, length)
        before = held
        held = put(held, mask_id, campaign)
        newest = [(m, c) for m, c in newest if not c.overlaps(campaign)] + [(mask_id, campaign)]
        changes = place(before, campaign, reach_back_days=REACH).changes
        for instant in range(90 * DAY, 3000 * DAY, 13 * DAY + 7):
            was, now = answer(before, instant), answer(held, instant)
            told = [c for c in changes if c.validity.contains(instant)]
            assert (was != now) == bool([c for c in told if c.before != now])
    for a, b in itertools.pairwise(held):
        assert not a.validity.overlaps(b.validity)
    assert {p.mask_id for p in held} == {m for m, _ in newest}
    for mask_id, campaign in newest:
        assert answer(held, campaign.start_us) == mask_id


def answer(held: list[Placed], instant: int) -> int | None:
    found = [p.mask_id for p in held if p.validity.contains(instant)]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_three_campaigns_end_alike_in_whatever_order_they_come(order: tuple[int, ...]) -> None:
    held: list[Placed] = []
    for number in order:
        held = put(held, number + 1, night(1000 + 100 * number))
    assert shown(held) == [(1, held[0].validity.start_us // DAY, 1100), (2, 1100, 1200), (3, 1200, None)]
