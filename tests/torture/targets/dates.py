"""Dates and the other short texts that people, headers and receipts write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from hotpix_registry.errors import HotpixError
from hotpix_registry.fits import instants
from hotpix_registry.fits.pixels import parse_section
from hotpix_registry.fits.presets import flags_of
from hotpix_registry.instants import parse_date
from hotpix_registry.registry import question, receipt
from tests.torture.mutations import any_of, pieces, raw_bytes, repeated
from tests.torture.targets.target import Target

_CLAUSES = ("is no ", "has ", "does not exist ")
"""how a sentence about a keyword's value goes on"""


def feed(data: bytes, _: Path) -> None:
    text = data.decode("utf-8", "surrogateescape")
    told = _said(lambda: parse_date(text))
    assert told.startswith((f"'{text.strip()}' ", "")[not told]), told
    for read in (_header_date, _header_time, _day_number, _scale):
        told = _said(lambda read=read: read(text))  # type: ignore[misc]
        assert not told or told.startswith(_CLAUSES), told
    for parse in _PARSERS:
        try:
            parse(text)
        except HotpixError as error:
            assert error.message


def _said(read: Callable[[], Any]) -> str:
    """The documented complaint of a reader of dates, if any."""
    try:
        read()
    except ValueError as error:
        return str(error)
    return ""


def _header_date(text: str) -> None:
    day, timed = instants.parse_datetime(text)
    assert timed is None or timed[1] > 0, day


def _header_time(text: str) -> None:
    instants.parse_time(text)


def _day_number(text: str) -> None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return
    instants.from_mjd(number)


def _scale(text: str) -> None:
    instants.to_utc(1_500_000_000_000_000, text)


_PARSERS: Sequence[Callable[[str], Any]] = (
    question.parse_nights,
    question.parse_exposures,
    receipt.read_receipt,
    flags_of,
    lambda text: parse_section(text, (48, 64)),
    lambda text: question.parse_recipe(None, text, None),
    *(
        lambda text, name=name: question.parse_configuration({name: text})  # type: ignore[misc]
        for name in ("binning", "sub_frame", "gain_setting", "row_order", "bayer_pattern", "readout_mode")
    ),
)

_SEEDS = (
    *(b"2018-08-22", b"20180822", b"2018-08-22T04:00:00Z", b"2018-08-22T04:00:60.123456789+14:00"),
    *(b"MJD58352.17", b"JD2458352.67", b"22/08/99", b"2016/4/2T1:2:3,5 UT", b"2016-12-31T23:59:60Z", b"TAI"),
    *(b"9999-12-31", b"0001-01-01T00:00:00Z", b"2018-08-20..2018-08-25", b"90,1000s", b"2x2", b"0,0,64,48"),
    *(b"~(WARM|PEDESTAL)&HOT", b"evidence|HOT", b"[1:64, 1:48]", b"auto", b"TOP-DOWN", b"RGGB", b"1e5"),
    b"hp:0123abcd/12/3/0123456789ab?c=aspen&d=20180822&t=-20&p=HOT|UNSTABLE&f=n&a=400&x=bin&b=2,2&N=mg",
    b"hp:0123abcd/12/3/0123456789ab?c=a&d=1534910400000000us&e=60&r=1",
)

TARGETS = (
    Target(
        name="dates",
        what="dates, receipts and other short texts",
        feed=feed,
        seeds=lambda: _SEEDS,
        mutate=any_of(raw_bytes, repeated, *(pieces(by, _SEEDS) for by in (b"-", b":", b"&", b"=", b","))),
        words=(b"MJD", b"JD", b"us&", b"hp:", b"+14:00", b"..", b"9999", b"\xd9\xa3", b"\xef\xbc\x91"),
        longest=8192,
    ),
)
