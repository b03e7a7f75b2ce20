"""Dates, nights and intervals."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpix_registry.instants import Night, Validity, iso, mjd_to_us, parse_date, to_datetime, to_us

SECOND = 1_000_000
HOUR = 3600 * SECOND


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2018-08-22T04:00:00Z", "2018-08-22T04:00:00Z"),
        ("2018-08-22 04:00Z", "2018-08-22T04:00:00Z"),
        ("20180822T040000Z", "2018-08-22T04:00:00Z"),
        ("2018-08-21T21:00:00-07:00", "2018-08-22T04:00:00Z"),
        ("2018-08-21T21:00:00-0700", "2018-08-22T04:00:00Z"),
        ("2018-08-22T05:30:00+01:30", "2018-08-22T04:00:00Z"),
        ("2018-08-22T04:00:00.1234567Z", "2018-08-22T04:00:00.123456Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("58352.5", "2018-08-22T12:00:00Z"),
        ("MJD58352.5", "2018-08-22T12:00:00Z"),
        ("mjd 58352", "2018-08-22T00:00:00Z"),
        ("JD2458352.5", "2018-08-22T00:00:00Z"),
        ("2458352.5", "2018-08-22T00:00:00Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
        ("2100-02-28T23:59:59Z", "2100-02-28T23:59:59Z"),
    ],
)
def test_an_instant_is_read_in_every_notation(text: str, instant: str) -> None:
    moment = parse_date(text)
    assert isinstance(moment, int)
    assert iso(moment) == instant


@pytest.mark.parametrize("text", ["2018-08-22", "20180822", " 2018-08-22 "])
def test_a_bare_date_is_a_night(text: str) -> None:
    assert parse_date(text) == date(2018, 8, 22)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2018-08-22T04:00:00", "no time zone"),
        ("2018-02-30", "day"),
        ("2018-13-01", "month"),
        ("2018-08-22T25:00:00Z", "out of range"),
        ("2018-08-22T04:00:00+19:00", "out of range"),
        ("17", "neither an MJD nor a JD"),
        ("yesterday", "is not a date"),
        ("", "is not a date"),
        ("JD99999999999", "date"),
        ("9999-12-31", "its night is not within the years 1 to 9999"),
        ("0001-01-01T00:00:00Z", "its night is not within the years 1 to 9999"),
    ],
)
def test_what_is_no_date_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_date(text)


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 12, 31), timezones=st.just(UTC)))
def test_an_instant_survives_being_written_and_read(moment: datetime) -> None:
    instant_us = to_us(moment)
    assert parse_date(iso(instant_us) or "") == instant_us
    assert to_datetime(instant_us) == moment


@given(st.text())
def test_any_text_is_a_date_or_a_sentence(text: str) -> None:
    try:
        moment = parse_date(text)
    except ValueError as error:
        assert text.strip() in str(error)
    else:
        assert isinstance(moment, int | date)


def test_a_day_number_keeps_its_microseconds() -> None:
    assert mjd_to_us(Decimal("58352.000000000011574")) - mjd_to_us(Decimal("58352")) == 1


def test_a_night_goes_from_noon_to_noon_at_its_longitude() -> None:
    validity = Night(date(2018, 8, 22), -105.0).validity
    assert iso(validity.start_us) == "2018-08-22T19:00:00Z"
    assert iso(validity.end_us) == "2018-08-23T19:00:00Z"


def test_a_night_without_a_longitude_covers_that_night_anywhere_on_earth() -> None:
    anywhere = Night(date(2018, 8, 22)).validity
    assert iso(anywhere.start_us) == "2018-08-22T00:00:00Z"
    assert iso(anywhere.end_us) == "2018-08-24T00:00:00Z"
    for longitude in (-180.0, -105.0, 0.0, 149.1, 180.0):
        assert anywhere.covers(Night(date(2018, 8, 22), longitude).validity)


@pytest.mark.parametrize("longitude", [-179.9, -105.0, 0.0, 149.1, 179.9])
def test_noon_at_the_site_begins_the_next_night(longitude: float) -> None:
    night = Night(date(2020, 2, 29), longitude)
    start_us, end_us = night.validity.start_us, night.validity.end_us
    assert end_us is not None
    assert Night.of(start_us, longitude).evening == date(2020, 2, 29)
    assert Night.of(end_us - 1, longitude).evening == date(2020, 2, 29)
    assert Night.of(end_us, longitude).evening == date(2020, 3, 1)


@given(st.integers(0, 4_000_000_000 * SECOND), st.floats(-180, 180) | st.none())
def test_every_instant_lies_in_its_night(instant_us: int, longitude: float | None) -> None:
    assert Night.of(instant_us, longitude).validity.contains(instant_us)


def test_an_interval_is_half_open() -> None:
    interval = Validity(10, 20)
    assert not interval.contains(9)
    assert interval.contains(10)
    assert interval.contains(19)
    assert not interval.contains(20)
    assert Validity(10).contains(10**18)
    assert not Validity(10, 20).overlaps(Validity(20, 30))
    assert Validity(10, 21).overlaps(Validity(20, 30))
    assert Validity(10).overlaps(Validity(20, 30))


@pytest.mark.parametrize("end", [10, 9])
def test_an_empty_interval_is_refused(end: int) -> None:
    with pytest.raises(ValueError, match="end after it starts"):
        Validity(10, end)


interval = st.builds(
    lambda a, n: Validity(a, None if n is None else a + n), st.integers(0, 20), st.none() | st.integers(1, 20)
)


@given(interval, interval)
def test_overlap_and_covering_mean_what_they_mean_for_sets_of_instants(a: Validity, b: Validity) -> None:
    instants = range(60)
    in_a = {i for i in instants if a.contains(i)}
    in_b = {i for i in instants if b.contains(i)}
    assert a.overlaps(b) == bool(in_a & in_b)
    assert a.covers(b) == (in_b <= in_a and not (b.end_us is None and a.end_us is not None))
