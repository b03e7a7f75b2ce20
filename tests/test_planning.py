"""Which darks make a mask."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpix_registry.cameras import CameraProfile, Sections
from hotpix_registry.domain import Configuration, Facts, Frame, Kind, Series
from hotpix_registry.instants import US_PER_DAY, Night
from hotpix_registry.planning import Campaign, plan, same_exposure

PROFILE = CameraProfile(name="aspen")
SERIES = {1: Series(series_id=1, camera="aspen", configuration=Configuration(), set_point_c=-20.0)}


def frame(
    number: int,
    *,
    day: int = 0,
    exptime_s: float = 90.0,
    kind: Kind = Kind.DARK,
    ccd_temp_c: float | None = -20.0,
    series_id: int | None = 1,
    shape: tuple[int, int] = (10, 20),
    n_combined: int = 1,
    **changes: object,
) -> Frame:
    start_us = (17_000 + day) * US_PER_DAY + US_PER_DAY // 2 + number * 1_000_000
    facts = Facts(
        kind=kind,
        frame_type=kind,
        shape=shape,
        exptime_s=exptime_s,
        start_us=start_us,
        set_temp_c=-20.0,
        ccd_temp_c=ccd_temp_c,
        n_combined=n_combined,
    )
    whole = Frame(
        frame_id=number,
        sha256=f"{number:064x}",
        paths=(f"dark-{number}.fits",),
        camera="aspen",
        series_id=series_id,
        night=str(Night.of(start_us, None)),
        facts=facts,
    )
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def campaigns(frames: list[Frame], **options: object) -> list[Campaign]:
    return plan(frames, SERIES, PROFILE, **options)[0]  # type: ignore[arg-type]


def members(campaign: Campaign) -> dict[float, list[int]]:
    return {s.exptime_s: [f.frame_id for f in s.frames] for s in campaign.sets}


def reasons(frames: list[Frame], **options: object) -> dict[int, str]:
    found, strays = plan(frames, SERIES, PROFILE, **options)  # type: ignore[arg-type]
    left_out = [pair for campaign in found for pair in campaign.refused] + strays
    return {f.frame_id: reason for f, reason in left_out}


def test_darks_of_one_night_make_one_campaign_with_a_set_per_exposure_time() -> None:
    frames = [frame(1), frame(2), frame(3, exptime_s=1000.0), frame(4, exptime_s=0.0, kind=Kind.BIAS)]
    (campaign,) = campaigns(frames)
    assert members(campaign) == {90.0: [1, 2], 1000.0: [3]}
    assert campaign.biases is not None
    assert [f.frame_id for f in campaign.biases.frames] == [4]
    assert [role for _, role in campaign.inputs] == ["dark", "dark", "dark", "bias"]


def test_exposure_times_within_a_tenth_of_a_percent_are_the_same() -> None:
    assert same_exposure(60.001, 60.002)
    assert not same_exposure(60.0, 60.1)
    (campaign,) = campaigns([frame(1, exptime_s=60.001), frame(2, exptime_s=60.002)])
    assert members(campaign) == {60.001: [1, 2]}


@pytest.mark.parametrize(("gap", "count"), [(3, 1), (4, 2)])
def test_a_gap_of_over_three_nights_ends_a_campaign(gap: int, count: int) -> None:
    assert len(campaigns([frame(1), frame(2, day=gap)])) == count


def test_a_span_of_over_fourteen_nights_ends_a_campaign() -> None:
    nightly = [frame(n, day=n) for n in range(16)]
    first, second = campaigns(nightly)
    assert (first.first_night, first.last_night) == ("2016-07-18", "2016-08-01")
    assert [f.frame_id for f in second.sets[0].frames if not second.sets[0].borrowed] == [15]


def test_a_campaign_of_one_exposure_time_borrows_the_nearest_other() -> None:
    near, far = frame(2, day=100, exptime_s=1000.0), frame(3, day=-200, exptime_s=300.0)
    (first, middle, last) = campaigns([frame(1), near, far])
    assert members(middle) == {90.0: [1], 1000.0: [2]}
    assert [s.borrowed for s in middle.sets] == [False, True]
    assert [role for _, role in middle.inputs] == ["dark", "borrowed dark"]
    assert members(first) == {90.0: [1], 300.0: [3]}
    assert members(last) == {90.0: [1], 1000.0: [2]}


@pytest.mark.parametrize(("days", "borrowed"), [(400, 1), (401, 0)])
def test_nothing_is_borrowed_from_more_than_four_hundred_days_away(days: int, borrowed: int) -> None:
    own, _ = campaigns([frame(1), frame(2, day=days, exptime_s=1000.0)])
    assert len(own.sets) == 1 + borrowed


def test_a_campaign_with_two_exposure_times_borrows_nothing() -> None:
    frames = [frame(1), frame(2, exptime_s=1000.0), frame(3, day=30, exptime_s=300.0)]
    assert members(campaigns(frames)[0]) == {90.0: [1], 1000.0: [2]}


def test_raw_frames_are_used_rather_than_their_master() -> None:
    master = frame(3, kind=Kind.MASTER_DARK, n_combined=10)
    frames = [frame(1), frame(2), master]
    assert members(campaigns(frames)[0]) == {90.0: [1, 2]}
    assert reasons(frames) == {3: "raw frames of its exposure time are here"}


def test_of_two_masters_the_one_of_more_frames_is_used() -> None:
    frames = [frame(n, kind=Kind.MASTER_DARK, n_combined=n) for n in (10, 20)]
    assert members(campaigns(frames)[0]) == {90.0: [20]}
    assert reasons(frames) == {10: "a master of more frames is here"}


def test_biases_of_another_time_are_borrowed_from_the_nearest_night() -> None:
    biases = [frame(n, day=day, exptime_s=0.0, kind=Kind.BIAS) for n, day in ((2, 60), (3, 61), (4, -300))]
    (campaign,) = campaigns([frame(1), *biases])
    assert campaign.biases is not None
    assert campaign.biases.borrowed
    assert [f.frame_id for f in campaign.biases.frames] == [2]


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (frame(9, excluded="light leak"), "excluded: light leak"),
        (frame(9, twin_of=1), "the same exposure as frame 1, saved twice"),
        (frame(9, ccd_temp_c=-18.5), "at -18.50 °C it was 1.50 °C from its set point (tolerance 1 °C)"),
        (frame(9, shape=(10, 21)), "it has 21 x 10 pixels, the others 20 x 10"),
        (
            frame(9, series_id=None),
            "its temperature is unknown; correct it with `hotpix-registry frames fix --set ccd_temp_c=…`",
        ),
        (frame(9, exptime_s=0.0), "a dark of no exposure time"),
    ],
)
def test_what_does_not_fit_is_left_out_by_name(odd: Frame, reason: str) -> None:
    assert reasons([frame(1), frame(2), odd]) == {9: reason}
    assert members(campaigns([frame(1), frame(2), odd])[0]) == {90.0: [1, 2]}


def test_only_the_exposure_times_asked_for_take_part() -> None:
    frames = [frame(1), frame(2, exptime_s=300.0), frame(3, exptime_s=1000.0)]
    (campaign,) = campaigns(frames, exposures_s=[90, 1000])
    assert members(campaign) == {90.0: [1], 1000.0: [3]}
    assert reasons(frames, exposures_s=[90, 1000]) == {2: "its exposure time is not among those asked for"}


def test_only_campaigns_that_touch_the_nights_asked_for_are_planned() -> None:
    frames = [frame(1), frame(2, day=50), frame(3, day=100)]
    (campaign,) = campaigns(frames, nights=("2016-09-01", "2016-09-30"))
    assert campaign.first_night == "2016-09-06"


def test_biases_without_darks_are_in_no_campaign() -> None:
    bias = frame(1, exptime_s=0.0, kind=Kind.BIAS)
    assert campaigns([bias]) == []
    assert reasons([bias]) == {1: "there are no darks of its series"}


any_frame = st.builds(
    lambda number, day, exptime_s, twin, kind: frame(
        number, day=day, exptime_s=exptime_s, twin_of=1 if twin else None, kind=kind
    ),
    st.integers(1, 10**6),
    st.integers(0, 60),
    st.sampled_from([30.0, 90.0, 1000.0]),
    st.booleans(),
    st.sampled_from([Kind.DARK, Kind.DARK, Kind.BIAS, Kind.MASTER_DARK]),
)


@given(st.lists(any_frame, max_size=20, unique_by=lambda f: f.frame_id), st.randoms())
def test_every_frame_is_used_or_has_a_reason_and_order_does_not_matter(
    frames: list[Frame], random: object
) -> None:
    found, strays = plan(frames, SERIES, PROFILE)
    used = {f.frame_id for c in found for f, _ in c.inputs}
    left_out = {f.frame_id for c in found for f, _ in c.refused} | {f.frame_id for f, _ in strays}
    assert used | left_out == {f.frame_id for f in frames}
    for campaign in found:
        own = [f for s in campaign.sets if not s.borrowed for f in s.frames]
        assert own
        assert all(campaign.first_night <= f.night <= campaign.last_night for f in own)
        for dark_set in campaign.sets:
            kinds = {f.kind.combined for f in dark_set.frames}
            assert len(kinds) == 1
    random.shuffle(frames)  # type: ignore[attr-defined]
    assert plan(frames, SERIES, PROFILE)[0] == found


def between(day: int) -> int:
    """An instant after the darks of one day and before those of the next."""
    return (17_000 + day) * US_PER_DAY


def test_an_epoch_event_ends_a_campaign() -> None:
    frames = [frame(1), frame(2, exptime_s=1000.0), frame(3, day=2), frame(4, day=2, exptime_s=1000.0)]
    assert len(campaigns(frames)) == 1
    first, second = campaigns(frames, events_us=[between(1)])
    assert (members(first), members(second)) == ({90.0: [1], 1000.0: [2]}, {90.0: [3], 1000.0: [4]})


def test_an_event_in_the_middle_of_a_night_ends_a_campaign_there() -> None:
    first, second = campaigns([frame(1), frame(2)], events_us=[frame(2).start_us])
    assert (members(first), members(second)) == ({90.0: [1]}, {90.0: [2]})


def test_nothing_is_borrowed_across_an_epoch_event() -> None:
    frames = [frame(1), frame(2, day=100, exptime_s=1000.0)]
    assert members(campaigns(frames)[0]) == {90.0: [1], 1000.0: [2]}
    assert [members(c) for c in campaigns(frames, events_us=[between(50)])] == [{90.0: [1]}, {1000.0: [2]}]


def test_no_biases_are_taken_from_another_epoch() -> None:
    frames = [frame(1), frame(2, exptime_s=1000.0), frame(3, day=100, exptime_s=0.0, kind=Kind.BIAS)]
    assert campaigns(frames)[0].biases is not None
    assert campaigns(frames, events_us=[between(50)])[0].biases is None


def test_darks_before_and_after_a_dated_change_of_the_detector_are_never_mixed() -> None:
    night = frame(3, day=2).night
    changed = dataclasses.replace(PROFILE, dated=((night, Sections(gain_e_per_adu=2.0)),))
    frames = [frame(1), frame(2, exptime_s=1000.0), frame(3, day=2), frame(4, day=2, exptime_s=1000.0)]
    found, _ = plan(frames, SERIES, changed)
    assert [members(c) for c in found] == [{90.0: [1], 1000.0: [2]}, {90.0: [3], 1000.0: [4]}]
