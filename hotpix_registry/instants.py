"""Instants, intervals of them and observing nights, and how a date is read: standard library only.

An instant is a whole number of microseconds since 1970, UTC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

US_PER_S = 1_000_000
US_PER_DAY = 86_400 * US_PER_S
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_IN_UTC = datetime(1970, 1, 1)
_EPOCH_DAY = _EPOCH.toordinal()
_MJD_OF_1970 = Decimal(40_587)
_JD_MINUS_MJD = Decimal("2400000.5")


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 of a time-zone aware datetime."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def to_datetime(instant_us: int) -> datetime:
    """The UTC datetime of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=instant_us)


def iso(instant_us: int | None) -> str | None:
    """`2018-08-22T04:00:00Z`, with a fraction only where there is one; None stays None."""
    if instant_us is None:
        return None
    return (_EPOCH_IN_UTC + timedelta(0, 0, instant_us)).isoformat() + "Z"


def midnight_us(day: date) -> int:
    """Microseconds since 1970 of the beginning of a day in UTC."""
    return (day.toordinal() - _EPOCH_DAY) * US_PER_DAY


def mjd_to_us(mjd: Decimal) -> int:
    """Microseconds since 1970 of a modified Julian date, rounded to the nearest."""
    return int(((mjd - _MJD_OF_1970) * US_PER_DAY).to_integral_value())


@dataclass(frozen=True, slots=True)
class Validity:
    """Half-open interval `[start_us, end_us)` of instants; an end of None is open."""

    start_us: int
    end_us: int | None = None

    def __post_init__(self) -> None:
        if self.end_us is not None and self.end_us <= self.start_us:
            raise ValueError("an interval must end after it starts")

    def contains(self, instant_us: int) -> bool:
        return self.start_us <= instant_us and (self.end_us is None or instant_us < self.end_us)

    def covers(self, other: Validity) -> bool:
        if self.start_us > other.start_us:
            return False
        return self.end_us is None or (other.end_us is not None and other.end_us <= self.end_us)

    def overlaps(self, other: Validity) -> bool:
        return (other.end_us is None or self.start_us < other.end_us) and (
            self.end_us is None or other.start_us < self.end_us
        )


@dataclass(frozen=True, slots=True)
class Night:
    """An observing night: mean solar noon to noon, labelled with the evening's date.

    Without a longitude it covers the night of that date anywhere on Earth (48 hours).
    """

    evening: date
    longitude_deg_east: float | None = None

    @classmethod
    def of(cls, instant_us: int, longitude_deg_east: float | None) -> Night:
        """The night that an instant belongs to; without a longitude, by Greenwich's noon."""
        shift_us = round((longitude_deg_east or 0.0) / 360 * US_PER_DAY)
        evening = to_datetime(instant_us + shift_us - US_PER_DAY // 2).date()
        return cls(evening, longitude_deg_east)

    @property
    def validity(self) -> Validity:
        day_us = midnight_us(self.evening)
        if self.longitude_deg_east is None:
            return Validity(day_us, day_us + 2 * US_PER_DAY)
        start_us = day_us + US_PER_DAY // 2 - round(self.longitude_deg_east / 360 * US_PER_DAY)
        return Validity(start_us, start_us + US_PER_DAY)

    @property
    def start_us(self) -> int:
        """The instant from which on `of` finds this night or a later one; `validity` may begin before it."""
        return Night(self.evening, self.longitude_deg_east or 0.0).validity.start_us

    def __str__(self) -> str:
        return self.evening.isoformat()


_BARE_DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")
_NUMBER = re.compile(r"(MJD|JD)?\s*:?\s*(\d+(?:\.\d+)?)", re.IGNORECASE)
_ISO = re.compile(
    r"(\d{4}-?\d{2}-?\d{2})[T ](\d{2}):?(\d{2})(?::?(\d{2})(?:[.,](\d+))?)?\s*(Z|[+-]\d{2}(?::?\d{2})?)?",
    re.IGNORECASE,
)


@lru_cache(maxsize=64)  # a look-up reads its date for the answer and for the receipt
def parse_date(text: str) -> int | date:
    """Read a `--date`: an instant in microseconds, or the evening's date of a night.

    Accepts ISO 8601 with Z or an offset, MJD, JD, and a bare date (`2018-08-22`, `20180822`).

    Raises
    ------
    ValueError
        With a sentence for the user: what is wrong and what to write instead.
    """
    text = text.strip()
    try:
        if match := _BARE_DATE.fullmatch(text):
            evening = date(*map(int, match.groups()))
            _check_calendar(to_us(datetime(*evening.timetuple()[:3], tzinfo=UTC)))
            return evening
        if match := _NUMBER.fullmatch(text):
            return _check_calendar(_parse_day_number(match[1], Decimal(match[2])))
        if match := _ISO.fullmatch(text):
            return _check_calendar(_parse_iso(match))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"'{text}' cannot be read as a date: {error}") from None
    raise ValueError(
        f"'{text}' is not a date; "
        "write 2018-08-22 (a night), 2018-08-22T04:00:00Z, MJD58352.17 or JD2458352.67"
    )


def _check_calendar(instant_us: int) -> int:
    """An instant whose night, anywhere on Earth, lies in the years 1 to 9999."""
    if not _EARLIEST_US <= instant_us <= _LATEST_US:
        raise ValueError("its night is not within the years 1 to 9999")
    return instant_us


_EARLIEST_US = to_us(datetime(1, 1, 4, tzinfo=UTC))
_LATEST_US = to_us(datetime(9999, 12, 28, tzinfo=UTC))


def _parse_day_number(prefix: str | None, number: Decimal) -> int:
    prefix = (prefix or "").upper()
    if prefix == "JD" or (not prefix and 2_300_000 <= number < 2_700_000):
        number -= _JD_MINUS_MJD
    elif not prefix and not 10_000 <= number < 300_000:
        raise ValueError("as a day number it is neither an MJD nor a JD")
    return mjd_to_us(number)


_FIRST_US, _END_US = midnight_us(date.min), midnight_us(date.max) + US_PER_DAY
_AFTER_LEAP_SECONDS = ((1, 1, 0, 0), (7, 1, 0, 0))
"""(month, day, hour, minute) UTC of the moment after each"""


def _parse_iso(match: re.Match[str]) -> int:
    day, hour, minute, second, fraction, zone = match.groups()
    if zone is None:
        raise ValueError("it has no time zone; add Z for UTC, or an offset such as -07:00")
    seconds = int(hour) * 3600 + int(minute) * 60 + int(second or 0)
    instant_us = midnight_us(date.fromisoformat(day)) + seconds * US_PER_S
    if int(hour) > 23 or int(minute) > 59 or int(second or 0) > 60:
        raise ValueError("its time of day is out of range")
    instant_us += int(((fraction or "0") + "000000")[:6])
    if zone not in ("Z", "z"):
        digits = zone[1:].replace(":", "").ljust(4, "0")
        offset_us = (int(digits[:2]) * 60 + int(digits[2:])) * 60 * US_PER_S
        if offset_us > 15 * 3600 * US_PER_S:
            raise ValueError("its offset from UTC is out of range")
        instant_us += offset_us if zone[0] == "-" else -offset_us
    if not _FIRST_US <= instant_us < _END_US:
        raise ValueError("date value out of range")
    if second == "60" and to_datetime(instant_us).timetuple()[1:5] not in _AFTER_LEAP_SECONDS:
        raise ValueError("no minute of that day had a second 60")
    return instant_us
