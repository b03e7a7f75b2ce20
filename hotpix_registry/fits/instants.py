"""Dates and times as headers write them, to microseconds of UTC; a precision comes with each."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from hotpix_registry.instants import US_PER_DAY, US_PER_S, mjd_to_us, to_datetime, to_us

DAY_S = 86_400.0

_DATE = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})", re.ASCII)
_OLD_DATE = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-](\d{2})", re.ASCII)
_TIME = re.compile(
    r"(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:[.,](\d*))?)?\s*(Z|UTC?|[+-]\d{2}:?\d{2})?",
    re.ASCII | re.IGNORECASE,
)

# TAI - UTC is 10 s from January 1972 and grows by one at each of these (IERS Bulletin C).
_LEAP_JANUARYS = (
    1972,
    1973,
    1974,
    1975,
    1976,
    1977,
    1978,
    1979,
    1980,
    1988,
    1990,
    1991,
    1996,
    1999,
    2006,
    2009,
    2017,
)
_LEAP_JULYS = (1972, 1981, 1982, 1983, 1985, 1992, 1993, 1994, 1997, 2012, 2015)
_LEAPS_US = sorted(
    [to_us(datetime(year, 1, 1, tzinfo=UTC)) for year in _LEAP_JANUARYS]
    + [to_us(datetime(year, 7, 1, tzinfo=UTC)) for year in _LEAP_JULYS]
)
_FIRST_TAI_MINUS_UTC_S = 10
_TT_MINUS_TAI_US = 32_184_000

Timed = tuple[int, float]
"""(microseconds, precision in seconds)"""


def parse_datetime(text: str) -> tuple[date, Timed | None]:
    """Read a date, with or without a time: (its day, microseconds since 1970 or None).

    ISO 8601 with any number of digits after the second (cut to microseconds), an offset or none, and the
    FITS standard's old `dd/mm/yy`, whose years 70 to 99 are of the 20th century.

    Raises
    ------
    ValueError
        For anything else; the message says what is wrong, to stand behind the keyword and its value.
    """
    text = text.strip()
    match = _DATE.match(text)
    if match:
        year, month, day = map(int, match.groups())
    elif match := _OLD_DATE.fullmatch(text):
        day, month, year = map(int, match.groups())
        year += 1900 if year >= 70 else 2000
    else:
        raise ValueError("is no date that can be read")
    try:
        midnight = date(year, month, day)
    except ValueError as error:
        raise ValueError(f"does not exist ({error})") from None
    rest = text[match.end() :]
    if not rest:
        return midnight, None
    # 'T' or one blank; both at once is the mark of a program with a 12-hour clock.
    if rest[0] not in "Tt ":
        raise ValueError("is no date that can be read")
    of_day_us, precision_s = parse_time(rest[1:].rstrip() if rest[0] != " " else rest[1:].strip())
    return midnight, (at_midnight_us(midnight) + of_day_us, precision_s)


def parse_time(text: str) -> Timed:
    """Microseconds since midnight of `hh:mm:ss`, any number of digits after the second; an offset counts.

    Raises
    ------
    ValueError
        As `parse_datetime`.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("has no time that can be read")
    hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
    if hour > 24 or minute > 59 or second > 60:
        raise ValueError("has a time that does not exist")
    digits = match[4] or ""
    micro = int((digits + "000000")[:6])
    us = ((hour * 60 + minute) * 60 + second) * US_PER_S + micro
    zone = (match[5] or "Z").upper()
    if zone[0] in "+-":
        offset_min = int(zone[1:3]) * 60 + int(zone[-2:])
        us -= (-offset_min if zone[0] == "-" else offset_min) * 60 * US_PER_S
    if match[3] is None:
        return us, 60.0
    return us, max(1e-6, 10.0 ** -len(digits)) if digits else 1.0


def from_mjd(mjd: Decimal) -> Timed:
    """Microseconds since 1970 of a modified Julian date; as precise as its digits.

    Raises
    ------
    ValueError
        When it is no day of the years 1900 to 2200.
    """
    if not mjd.is_finite() or not 15_020 <= mjd <= 124_594:
        raise ValueError("is no modified Julian date of the years 1900 to 2200")
    exponent = mjd.as_tuple().exponent
    decimals = -exponent if isinstance(exponent, int) and exponent < 0 else 0
    return mjd_to_us(mjd), max(1e-6, DAY_S * 10.0**-decimals)


def at_midnight_us(day: date) -> int:
    """Microseconds since 1970 of the beginning of a UTC day."""
    return (day - date(1970, 1, 1)) // timedelta(days=1) * US_PER_DAY


def to_utc(instant_us: int, scale: str) -> int:
    """Convert an instant of a FITS TIMESYS (UTC, TAI, TT) to UTC.

    Raises
    ------
    ValueError
        For any other time scale.
    """
    scale = scale.upper()
    if scale in ("", "UTC", "UT", "UT1", "GMT", "Z"):
        return instant_us
    if scale in ("TT", "TDT"):
        instant_us -= _TT_MINUS_TAI_US
    elif scale != "TAI":
        raise ValueError("is no time scale known here (UTC, TAI, TT)")
    for n, start_us in reversed(list(enumerate(_LEAPS_US))):
        utc_us = instant_us - (_FIRST_TAI_MINUS_UTC_S + n) * US_PER_S
        if utc_us >= start_us:
            return utc_us
    return instant_us - _FIRST_TAI_MINUS_UTC_S * US_PER_S


def exists(instant_us: int) -> bool:
    """Whether an instant lies in the years a calendar has."""
    try:
        to_datetime(instant_us)
    except OverflowError:
        return False
    return True
