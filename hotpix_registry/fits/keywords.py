"""What a header says about a frame, in our words and units, by a keyword profile."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from hotpix_registry.domain import Configuration, Facts, Kind
from hotpix_registry.fits import instants
from hotpix_registry.fits.blocks import Value
from hotpix_registry.fits.headers import FrameHeader
from hotpix_registry.fits.keyword_profiles import (
    KeywordProfile,
    Section,
    Source,
    as_text,
    choose_profile,
    holds,
    load_keyword_profile,
    rules_digest,
    shipped_keyword_profiles,
)
from hotpix_registry.instants import iso

__all__ = [
    "KeywordProfile",
    "choose_profile",
    "describe",
    "interpret",
    "load_keyword_profile",
    "rules_digest",
    "shipped_keyword_profiles",
    "type_of",
]

_KELVIN_C = 273.15
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0, "h": 3600.0}
_JD_MINUS_MJD = Decimal("2400000.5")
_LONGEST_S = 1e9
_MOST_FRAMES = 1_000_000
_MOST_PIXELS = 1_000_000
_COMBINED = {Kind.DARK: Kind.MASTER_DARK, Kind.BIAS: Kind.MASTER_BIAS}


def interpret(
    header: FrameHeader,
    profile: KeywordProfile,
    *,
    kind: Kind | None = None,
    n_combined: int | None = None,
) -> Facts:
    """Read off a header what a keyword profile knows of it; never fails, but reports problems.

    Parameters
    ----------
    kind
        what the user says the frame is; counts only where the header gives no type
    n_combined
        how many frames the user says were combined; wins over the header
    """
    reading = _Reading(header, profile)
    frame_type, kind = _type(reading, kind)
    n_combined, kind = _combined(reading, kind, n_combined)
    exptime_s = _exptime_s(reading, kind)
    if kind is Kind.DARK and exptime_s == 0:
        kind = Kind.BIAS
    start_us, precision_s = _start(reading) or (None, 1.0)
    if header.shape is None:
        reading.problems.append(_no_shape(header))
    configuration = Configuration(
        binning=_binning(reading),
        readout_mode=reading.text("readout_mode"),
        gain_setting=_gain_setting(reading),
        offset_setting=reading.number("offset_setting"),
        sub_frame=_sub_frame(reading),
        row_order=_row_order(reading),
        bayer_pattern=_bayer_pattern(reading),
    )
    for conditions, reason in profile.rejects:
        if holds(conditions, header):
            reading.problems.append(f"{_filled(reason, header)}.")
    return Facts(
        kind=kind,
        frame_type=frame_type,
        shape=header.shape or (0, 0),
        exptime_s=exptime_s,
        start_us=start_us,
        start_precision_s=precision_s,
        set_temp_c=_temperature_c(reading, "set_temp_c"),
        ccd_temp_c=_temperature_c(reading, "ccd_temp_c"),
        configuration=configuration,
        n_combined=n_combined,
        unit=_unit(reading),
        bias_subtracted=_any(reading, "bias_subtracted") or None,
        gain_e_per_adu=reading.number("gain_e_per_adu", positive=True),
        read_noise_e=reading.number("read_noise_e", positive=True),
        saturation_adu=reading.number("saturation_adu", positive=True),
        overscan_section=reading.text("overscan_section"),
        trim_section=reading.text("trim_section"),
        instrument=_instrument(reading),
        serial=reading.text("serial"),
        software=reading.text("software"),
        keyword_profile=profile.name,
        sources=reading.sources,
        problems=tuple(dict.fromkeys(reading.problems)),
    )


def type_of(
    header: FrameHeader, profile: KeywordProfile, *, kind: Kind | None = None
) -> tuple[str, Kind | None]:
    """The type as written, and the kind of `interpret`, a bias or master aside; None: no dark at all.

    Of the lights of an archive nothing else is wanted.
    """
    return _type(_Reading(header, profile), kind)


@dataclass(slots=True)
class _Reading:
    """A header under interpretation: finds values, and notes where, and what is wrong."""

    header: FrameHeader
    profile: KeywordProfile
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def section(self, fact: str) -> Section:
        return self.profile.sections[fact]

    def values(self, source: Source) -> list[Value]:
        """The values of a source's keywords; none when its conditions do not hold or one is missing."""
        if any(keyword not in self.header.cards for keyword in source.keywords):
            return []
        if source.when and not holds(source.when, self.header):
            return []
        values = [self.header.cards[keyword] for keyword in source.keywords]
        if source.pattern is not None:
            found = source.pattern.search(as_text(values[0]))
            values = [found[1]] if found and found[1] is not None else []
        if source.missing and any(as_number(value) in source.missing for value in values):
            return []
        return values

    def number(self, fact: str, *, positive: bool = False) -> float | None:
        """The first finite number among the sources, in the source's unit; several keywords are averaged."""
        for source in self.section(fact).sources:
            numbers = [as_number(value) for value in self.values(source)]
            good = [x for x in numbers if x is not None and math.isfinite(x) and (x > 0 or not positive)]
            if good and len(good) == len(numbers):
                self.sources[fact] = source.name
                return math.fsum(good) / len(good)
        return None

    def text(self, fact: str) -> str | None:
        """The first string among the sources that says something."""
        section = self.section(fact)
        for source in section.sources:
            for value in self.values(source):
                text = as_text(value).strip()
                if text and not (section.ignore and section.ignore.fullmatch(text)):
                    self.sources[fact] = source.name
                    return text
        return None


def as_number(value: Value) -> float | None:
    """A card's value as a number, also where it was written as a string; None where it is none."""
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _shown(keyword: str, value: Value) -> str:
    return f"{keyword} = '{value}'" if isinstance(value, str) else f"{keyword} = {as_text(value)}"


def _filled(template: str, header: FrameHeader) -> str:
    return re.sub(r"\{([^}]+)\}", lambda m: as_text(header.cards.get(m[1].upper(), "")), template)


def _meaning(section: Section, text: str) -> str | None:
    plain = re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()
    return next((meaning for meaning, pattern in section.values if pattern.fullmatch(plain)), None)


# --- what the frame is ------------------------------------------------------


def _type(reading: _Reading, given: Kind | None) -> tuple[str, Kind | None]:
    frame_type = reading.text("type") or ""
    if "type" in reading.sources:
        reading.sources["kind"] = reading.sources.pop("type")
    if given is not None and not frame_type:
        reading.sources["kind"] = "--type"
        return frame_type, given
    meaning = _meaning(reading.section("type"), frame_type) if frame_type else None
    return frame_type, Kind(meaning) if meaning else None


def _combined(reading: _Reading, kind: Kind | None, given: int | None) -> tuple[int, Kind | None]:
    number = reading.number("n_combined", positive=True)
    if given is not None:
        number = given
        reading.sources["n_combined"] = "--ncombine"
    if kind and ((number or 1) > 1 or _any(reading, "combined")):
        kind = _COMBINED.get(kind, kind)
    if kind and kind.combined and number is None:
        reading.problems.append(
            "The frame is a combined one, but its header does not say of how many frames "
            f"(none of {reading.section('n_combined').keywords}); give --ncombine."
        )
    return min(max(1, round(number or 1)), _MOST_FRAMES), kind


def _any(reading: _Reading, fact: str) -> bool:
    for conditions in reading.section(fact).any_of:
        if holds(conditions, reading.header):
            reading.sources[fact] = ", ".join(condition.keyword for condition in conditions)
            return True
    return False


def _unit(reading: _Reading) -> str:
    text = reading.text("unit")
    if text is None:
        return "adu"
    unit = _meaning(reading.section("unit"), text)
    if unit is None:
        reading.problems.append(
            f"{reading.sources['unit']} = '{text}' is no unit of a dark; "
            "write adu, electron, adu/s or electron/s into the header."
        )
    return unit or "adu"


def _no_shape(header: FrameHeader) -> str:
    axes = [header.cards.get(f"NAXIS{i}") for i in range(1, 10)]
    lengths = " × ".join(str(axis) for axis in axes if axis is not None)
    if not lengths:
        return "The header gives no size of an image (NAXIS1, NAXIS2); write the file again."
    return f"The image has the axes {lengths}, not two; save the raw frame, one plane, without debayering."


# --- when, and how long -----------------------------------------------------


def _exptime_s(reading: _Reading, kind: Kind | None) -> float | None:
    section = reading.section("exptime_s")
    for source in section.sources:
        for value in reading.values(source):
            if value == "":
                continue
            number = as_number(value)
            if number is None or not 0 <= number < _LONGEST_S:
                reading.problems.append(
                    f"{_shown(source.name, value)} is no exposure time; "
                    f"write the seconds into {source.name}, or exclude the file."
                )
                return None
            reading.sources["exptime_s"] = source.name
            return float(f"{number * _SECONDS[source.unit]:.12g}")
    if kind in (Kind.BIAS, Kind.MASTER_BIAS):
        return 0.0
    reading.problems.append(
        f"The header gives no exposure time (none of {section.keywords}); write the seconds into EXPTIME, "
        "or add a keyword profile that names the keyword."
    )
    return None


def _start(reading: _Reading) -> instants.Timed | None:
    section = reading.section("start")
    failures: list[str] = []
    day_alone: tuple[int, str] | None = None
    for source in section.sources:
        for value in reading.values(source):
            try:
                midnight_us, moment = _instant(source, value, section.clock_hours)
                name = source.name
                if moment is None:
                    day_alone = day_alone or (midnight_us, name)
                    moment, name = _time_of_day(reading, midnight_us, name)
                if moment is not None:
                    return _in_utc(reading, moment, name)
            except ValueError as error:
                failures.append(
                    f"{_shown(source.name, value)} {error}; write the UTC start of the exposure "
                    "into DATE-OBS as 2018-08-22T04:00:00."
                )
    if day_alone is not None and not failures:
        # Seconds of a time scale would only move a date without a time to the day before.
        reading.sources["start_us"] = day_alone[1]
        return day_alone[0], instants.DAY_S
    nothing = (
        f"The header gives no date of observation (none of {section.keywords}); write the UTC start of "
        "the exposure into DATE-OBS, or add a keyword profile that names the keyword."
    )
    reading.problems.append(failures[0] if failures else nothing)
    return None


def _instant(source: Source, value: Value, clock_hours: int) -> tuple[int, instants.Timed | None]:
    """Microseconds of the midnight before, and of the instant if the value holds more than a date."""
    if source.unit in ("mjd", "jd"):
        try:
            day_number = Decimal(as_text(value))
        except InvalidOperation:
            raise ValueError("is no day number") from None
        return 0, instants.from_mjd(day_number - _JD_MINUS_MJD if source.unit == "jd" else day_number)
    text = as_text(value)
    if clock_hours == 12 and ":" in text:
        raise ValueError("is on a 12-hour clock without AM or PM")
    day, timed = instants.parse_datetime(text)
    return instants.at_midnight_us(day), timed


def _time_of_day(reading: _Reading, midnight_us: int, date_keyword: str) -> tuple[instants.Timed | None, str]:
    """The instant of a date alone, by the keyword that holds its time, and the keywords of both."""
    for source in reading.section("start").time:
        for value in reading.values(source):
            timed = _of_day(source, value)
            if timed is not None:
                return (midnight_us + timed[0], timed[1]), f"{date_keyword}, {source.name}"
    return None, date_keyword


def _of_day(source: Source, value: Value) -> instants.Timed | None:
    if not source.unit:
        try:
            return instants.parse_time(as_text(value).strip())
        except ValueError:
            return None
    number = as_number(value)
    if number is None or not 0 <= number * _SECONDS[source.unit] < instants.DAY_S:
        return None
    return round(number * _SECONDS[source.unit] * 1e6), 1.0


def _in_utc(reading: _Reading, timed: instants.Timed, name: str) -> instants.Timed:
    """The instant in UTC by the header's time scale; notes its keywords."""
    instant_us, precision_s = timed
    for keyword in reading.section("start").scale:
        scale = as_text(reading.header.cards.get(keyword, "")).strip()
        if scale:
            try:
                instant_us = instants.to_utc(instant_us, scale)
            except ValueError as error:
                raise ValueError(f"cannot be placed in time, since {keyword} = '{scale}' {error}") from None
            name = f"{name}, {keyword}"
            break
    if not instants.exists(instant_us):
        raise ValueError("lies outside the calendar")
    reading.sources["start_us"] = name
    return instant_us, precision_s


# --- the camera and its settings --------------------------------------------


def _temperature_c(reading: _Reading, fact: str) -> float | None:
    """The first plausible temperature; what no detector ever had stands for "no data"."""
    for source in reading.section(fact).sources:
        for value in reading.values(source):
            number = as_number(value)
            if number is None or (source.unit == "K" and number <= 0):
                continue
            celsius = number - _KELVIN_C if source.unit == "K" else number
            if -_KELVIN_C < celsius < 100:
                reading.sources[fact] = source.name
                return round(celsius, 6)
    return None


def _binning(reading: _Reading) -> tuple[int, int]:
    for source in reading.section("binning").sources:
        present = [keyword for keyword in source.keywords if keyword in reading.header.cards]
        text = " ".join(as_text(reading.header.cards[keyword]) for keyword in present)
        # Whole numbers only: the 0 of 1.0 is no second binning.
        numbers = [int(n) for n in re.findall(r"(?<![\d.-])\d{1,3}(?=\.?0*(?!\.?\d))", text)]
        if len(numbers) in (1, 2) and all(n > 0 for n in numbers):
            reading.sources["binning"] = ", ".join(present)
            return numbers[0], numbers[-1]
    return 1, 1


def _sub_frame(reading: _Reading) -> tuple[int, int, int, int] | None:
    """Where the window begins, if not in the corner: there, the shape alone tells it from the full frame."""
    if reading.header.shape is None:
        return None
    ny, nx = reading.header.shape
    for source in reading.section("sub_frame").sources:
        origin = [as_number(value) for value in reading.values(source)]
        if len(origin) == 2 and all(x is not None and 0 <= x < _MOST_PIXELS for x in origin):
            x0, y0 = (round(x or 0) for x in origin)
            # Also of the corner, since a mask is cut to a window only where its origin is known.
            reading.sources["sub_frame"] = source.name
            return (x0, y0, nx, ny) if x0 or y0 else None
    return None


def _gain_setting(reading: _Reading) -> float | None:
    setting = reading.number("gain_setting")
    if setting is not None:
        keyword = reading.sources["gain_setting"]
        electrons = (reading.header.cards.get(name) for name in ("EGAIN", "E-GAIN") if name != keyword)
        # The same number under both names is the same quantity twice.
        if any(value is not None and as_number(value) == setting for value in electrons):
            del reading.sources["gain_setting"]
            return None
    return setting


def _row_order(reading: _Reading) -> str | None:
    text = (reading.text("row_order") or "").upper().replace("_", "-").replace(" ", "-")
    if text in ("TOP-DOWN", "BOTTOM-UP"):
        return text
    reading.sources.pop("row_order", None)
    return None


def _bayer_pattern(reading: _Reading) -> str | None:
    text = (reading.text("bayer_pattern") or "").upper()
    if re.fullmatch(r"[RGBCMYW]{4}", text):
        return text
    reading.sources.pop("bayer_pattern", None)
    return None


def _instrument(reading: _Reading) -> str | None:
    template = reading.section("instrument").template
    keywords = [keyword.upper() for keyword in re.findall(r"\{([^}]+)\}", template)]
    if template and all(as_text(reading.header.cards.get(keyword, "")).strip() for keyword in keywords):
        reading.sources["instrument"] = ", ".join(keywords)
        return _filled(template, reading.header)
    return reading.text("instrument")


# --- for people -------------------------------------------------------------

_ROWS = (
    ("frame_type", "type as written", ""),
    ("kind", "kind", ""),
    ("exptime_s", "exposure time", "s"),
    ("start_us", "start", "UTC"),
    ("start_precision_s", "precision of the start", "s"),
    ("set_temp_c", "set temperature", "°C"),
    ("ccd_temp_c", "measured temperature", "°C"),
    ("shape", "shape (ny, nx)", "px"),
    ("binning", "binning (x, y)", "px"),
    ("readout_mode", "readout mode", ""),
    ("gain_setting", "gain setting", ""),
    ("offset_setting", "offset setting", ""),
    ("sub_frame", "sub-frame (x0, y0, nx, ny)", "px"),
    ("row_order", "row order", ""),
    ("bayer_pattern", "Bayer pattern", ""),
    ("gain_e_per_adu", "gain", "e-/adu"),
    ("read_noise_e", "read noise", "e-"),
    ("saturation_adu", "saturation", "adu"),
    ("overscan_section", "overscan section", ""),
    ("trim_section", "trim section", ""),
    ("n_combined", "frames combined", ""),
    ("unit", "unit of the pixels", ""),
    ("bias_subtracted", "bias subtracted", ""),
    ("instrument", "camera", ""),
    ("serial", "serial number", ""),
    ("software", "software", ""),
    ("keyword_profile", "keyword profile", ""),
)


def describe(header: FrameHeader, facts: Facts) -> list[tuple[str, str, str, str]]:
    """Rows (fact, value, unit, keyword) that show what was understood of a header, `''` where nothing was."""
    fixed = {"shape": "NAXIS1, NAXIS2" if header.shape else ""}
    if facts.frame_type:
        fixed["frame_type"] = facts.sources.get("kind", "")
    rows = []
    for key, label, unit in _ROWS:
        value = getattr(facts, key) if hasattr(facts, key) else getattr(facts.configuration, key)
        keyword = facts.sources.get(key, fixed.get(key, ""))
        rows.append((label, _written(key, value, facts), unit, keyword))
    return rows


def _written(key: str, value: object, facts: Facts) -> str:
    if key == "start_us":
        return iso(facts.start_us) or ""
    if key == "kind" and value is None:
        return "no dark, bias or master of them" if facts.frame_type else "not given"
    if value is None or (key == "shape" and facts.shape == (0, 0)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
