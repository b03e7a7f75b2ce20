"""Camera profiles: how a camera is recognised, its numbers, its place, its policies."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from hotpix_registry import toml
from hotpix_registry.domain import USUAL_BOUNDS, Facts, GateBounds, canonical_json, digest
from hotpix_registry.errors import ProfileError, damaged_row
from hotpix_registry.instants import Night, parse_date
from hotpix_registry.settings import data_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class Sections:
    """Numbers of the detector and its readout; a dated profile has several of these."""

    gain_e_per_adu: float | None = None
    read_noise_e: float | None = None
    saturation_adu: float | None = None
    adc_step_adu: float = 1.0
    overscan_section: str | None = None
    """FITS notation, 1-based, x first: `[4097:4109, :]`; None takes the header's BIASSEC"""
    trim_section: str | None = None
    sections_shape: tuple[int, int] | None = None
    """(nx, ny) of the raw frames that the two sections are meant for, 0 for any; others use their header's"""

    def sections_of(self, facts: Facts) -> tuple[str | None, str | None]:
        """(overscan, trim) of a frame: the profile's where its shape fits, else the header's."""
        meant = self.sections_shape or (0, 0)
        if all(wanted in (0, n) for wanted, n in zip(meant, facts.shape[::-1], strict=True)):
            return (
                self.overscan_section or facts.overscan_section,
                self.trim_section or facts.trim_section,
            )
        return facts.overscan_section, facts.trim_section


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraProfile:
    """What is known of one camera; written in TOML, kept in the registry as rows by digest."""

    name: str
    summary: str = ""
    provisional: bool = False
    """registered from a header and not yet confirmed by a person"""
    serials: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()
    """regular expressions for the whole instrument name, case ignored"""
    detector: Sections = Sections()
    dated: tuple[tuple[str, Sections], ...] = ()
    """(first night, what is in force from it on)"""
    temperature_grid_c: float | None = 1.0
    """grid of set points measured where the header gives none; None: an uncooled camera"""
    temperature_tolerance_c: float = 1.0
    longitude_deg_east: float | None = None
    service_from: str | None = None
    service_to: str | None = None
    campaign_gap_nights: int = 3
    campaign_span_nights: int = 14
    borrow_days: int = 400
    reach_back_days: int = 400
    max_age_days: int = 400
    certify: str = "auto"
    gates: GateBounds = USUAL_BOUNDS

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {
            "serials": list(self.serials),
            "instruments": list(self.instruments),
            "dated": [[night, dataclasses.asdict(sections)] for night, sections in self.dated],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CameraProfile:
        """The profile that `as_dict` stored.

        Raises
        ------
        IntegrityError
            What was stored is no profile any more.
        """
        try:
            canonical_json(values)  # none of its numbers is infinite
            return cls(
                **dict(values)
                | {
                    "serials": tuple(values["serials"]),
                    "instruments": tuple(values["instruments"]),
                    "detector": _sections_from(values["detector"]),
                    "dated": tuple((night, _sections_from(sections)) for night, sections in values["dated"]),
                    "gates": GateBounds.from_dict(values.get("gates", {})),
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise damaged_row("profile of a camera") from None

    @property
    def digest(self) -> str:
        return digest(self.as_dict())

    def sections_on(self, night: str) -> Sections:
        """The numbers in force on a night."""
        chosen = self.detector
        for first_night, sections in self.dated:
            if first_night <= night:
                chosen = sections
        return chosen

    @property
    def changes_us(self) -> list[int]:
        """Where nights begin from which on the detector has other numbers; no night lies on both sides."""
        before = (self.detector, *(sections for _, sections in self.dated))
        return [
            self._night(night).start_us
            for was, (night, sections) in zip(before, self.dated, strict=False)
            if sections != was
        ]

    def in_service(self, start_us: int) -> bool:
        """Whether an instant lies in the nights of service, wherever on Earth where no longitude is known."""
        after = self.service_from_us is None or start_us >= self.service_from_us
        return after and (self.service_to_us is None or start_us < self.service_to_us)

    @property
    def service_from_us(self) -> int | None:
        return None if self.service_from is None else self._night(self.service_from).validity.start_us

    @property
    def service_to_us(self) -> int | None:
        """The end of the last night of service; `service_to` is the first night without."""
        if self.service_to is None:
            return None
        return self._night(self.service_to, days=-1).validity.end_us

    def _night(self, night: str, *, days: int = 0) -> Night:
        return Night(date.fromisoformat(night) + timedelta(days=days), self.longitude_deg_east)

    def night_of(self, start_us: int) -> str:
        return str(Night.of(start_us, self.longitude_deg_east))

    def set_point_of(self, facts: Facts) -> tuple[str, float | None] | None:
        """(key, °C) of the series that a frame belongs to; None when its temperature is unknown."""
        if self.temperature_grid_c is None:
            return "none", None
        if facts.set_temp_c is not None:
            set_point_c = round(facts.set_temp_c, 1) + 0.0
        elif facts.ccd_temp_c is not None:
            set_point_c = round(facts.ccd_temp_c / self.temperature_grid_c) * self.temperature_grid_c + 0.0
        else:
            return None
        return f"{set_point_c:.1f}", set_point_c


def recognise(facts: Facts, profiles: Sequence[CameraProfile]) -> list[CameraProfile]:
    """The profiles that a frame may belong to: by serial number where it has one, else by name.

    A profile that lists serial numbers is not recognised by name alone when the frame's own serial
    number is another: two bodies of one model are two cameras.
    """
    if facts.serial is not None:
        by_serial = [p for p in profiles if facts.serial in p.serials]
        if by_serial:
            return by_serial
    if facts.instrument is None:
        return []
    return [
        p
        for p in profiles
        if not (facts.serial is not None and p.serials)
        and any(re.fullmatch(pattern, facts.instrument, re.IGNORECASE) for pattern in p.instruments)
    ]


def provisional_profile(facts: Facts, taken: set[str]) -> CameraProfile:
    """A profile for an unknown camera, from what its header says; its name avoids those taken."""
    if facts.instrument is None:
        raise ValueError("a header that names no camera cannot register one")
    slug = re.sub(r"[^a-z0-9]+", "-", facts.instrument.lower()[:_LONGEST_SLUG]).strip("-") or "camera"
    name, number = slug, 1
    if name in taken and facts.serial is not None:
        name = f"{slug}-{re.sub(r'[^a-z0-9]+', '-', facts.serial.lower()[:_LONGEST_SLUG]).strip('-')}"
    while name in taken:
        number += 1
        name = f"{slug}-{number}"
    return CameraProfile(
        name=name,
        summary=f"registered from a header that says {facts.instrument[:_LONGEST_SLUG]}",
        provisional=True,
        serials=(facts.serial,) if facts.serial is not None else (),
        instruments=(re.escape(facts.instrument),),
        temperature_grid_c=None if facts.temperature_c is None else 1.0,
    )


# --- TOML -----------------------------------------------------------------------

_TABLES: Mapping[str, Mapping[str, str]] = {
    "camera": {"name": "name", "summary": "summary", "provisional": "provisional"},
    "match": {"serials": "serials", "instruments": "instruments"},
    "temperature": {"grid_c": "temperature_grid_c", "tolerance_c": "temperature_tolerance_c"},
    "site": {"longitude_deg_east": "longitude_deg_east"},
    "service": {"from": "service_from", "to": "service_to"},
    "policy": {
        name: name
        for name in (
            "campaign_gap_nights",
            "campaign_span_nights",
            "borrow_days",
            "reach_back_days",
            "max_age_days",
            "certify",
        )
    },
}
_SECTION_KEYS = tuple(field.name for field in dataclasses.fields(Sections))
_GATE_KEYS = tuple(field.name for field in dataclasses.fields(GateBounds))
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_MOST_DAYS = 100_000
_LONGEST_SLUG = 80
"""what is taken of a header's name, which may go on for thousands of cards"""


def check_camera_name(name: str) -> None:
    """Raise `ProfileError` for what cannot be a camera's name."""
    if not _NAME.fullmatch(name):
        raise ProfileError(
            f"'{name}' is no camera name.", next_step="Use lower-case letters, digits, '-', '_' and '.'."
        )


def load_camera_profile(text: str, *, origin: str) -> CameraProfile:
    """Read a camera profile from TOML; `origin` is what error messages call it.

    Raises
    ------
    ProfileError
        One sentence: which key of which table is wrong, and what it should be.
    """
    try:
        tables = toml.tables(text)
    except ValueError as error:
        raise ProfileError(f"{origin} is no valid TOML: {error}.") from None
    values: dict[str, Any] = {}
    for table, content in tables.items():
        if table == "detector":
            values["detector"] = _sections(content, origin, "detector")
        elif table == "gates":
            values["gates"] = _gate_bounds(content, origin)
        elif table != "dated":
            keys = _TABLES.get(table)
            if keys is None:
                raise _unknown(origin, "table", table, (*_TABLES, "detector", "gates", "dated"))
            if not isinstance(content, dict):
                raise ProfileError(f"{origin}: {table} must be a table, written [{table}].")
            for key, value in content.items():
                if key not in keys:
                    raise _unknown(origin, f"key in [{table}]", key, tuple(keys))
                values[keys[key]] = _checked(origin, f"{table}.{key}", keys[key], value)
    # what is said as an instant is the night that it lies in, which the longitude decides
    longitude_deg_east = values.get("longitude_deg_east")
    for key in ("service_from", "service_to"):
        if key in values:
            values[key] = _night_label(origin, key.replace("_", "."), values[key], longitude_deg_east)
    if "dated" in tables:
        base = values.get("detector", Sections())
        values["dated"] = _dated(tables["dated"], base, longitude_deg_east, origin)
    if "name" not in values:
        raise ProfileError(f"{origin} names no camera.", next_step='Add `name = "…"` under [camera].')
    if not values.get("serials") and not values.get("instruments"):
        values["instruments"] = (re.escape(values["name"]),)
    return CameraProfile(**values)


def _unknown(origin: str, what: str, name: str, known: Sequence[str]) -> ProfileError:
    nearest = difflib.get_close_matches(name, known, 1)
    hint = f"Did you mean '{nearest[0]}'?" if nearest else f"Known are {', '.join(known)}."
    return ProfileError(f"{origin} has the unknown {what} '{name}'.", next_step=hint)


def _sections(content: Any, origin: str, where: str, base: Sections | None = None) -> Sections:
    if not isinstance(content, dict):
        raise ProfileError(f"{origin}: {where} must be a table, written [{where}].")
    for key, value in content.items():
        if key not in _SECTION_KEYS:
            raise _unknown(origin, f"key in [{where}]", key, _SECTION_KEYS)
        if key.endswith("_section"):
            good, kind = isinstance(value, str), "a section such as '[1:4096, :]'"
        elif key == "sections_shape":
            good = (
                isinstance(value, list) and len(value) == 2 and all(type(n) is int and n >= 0 for n in value)
            )
            kind = "columns and rows, such as [4109, 4096], 0 for any"
        else:
            good, kind = _is_number(value) and value > 0, "a positive number"
        if not good:
            raise ProfileError(f"{origin}: {where}.{key} must be {kind}, not {value!r}.")
    return _sections_from({k: float(v) if _is_number(v) else v for k, v in content.items()}, base)


def _sections_from(values: Mapping[str, Any], base: Sections | None = None) -> Sections:
    shape = values.get("sections_shape")
    return dataclasses.replace(
        base or Sections(), **dict(values) | ({"sections_shape": tuple(shape)} if shape else {})
    )


def _gate_bounds(content: Any, origin: str) -> GateBounds:
    if not isinstance(content, dict):
        raise ProfileError(f"{origin}: gates must be a table, written [gates].")
    for key, value in content.items():
        if key not in _GATE_KEYS:
            raise _unknown(origin, "key in [gates]", key, _GATE_KEYS)
        if isinstance(getattr(USUAL_BOUNDS, key), tuple):
            good = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
            good, kind = good and 0 <= value[0] <= value[1], "the least and the most, such as [0.5, 2.0]"
        elif isinstance(getattr(USUAL_BOUNDS, key), int):
            good, kind = type(value) is int and value >= 1, "a whole number of frames"
        else:
            good, kind = _is_number(value) and value >= 0, "a number that is not negative"
        if not good:
            raise ProfileError(f"{origin}: gates.{key} must be {kind}, not {value!r}.")
    return GateBounds.from_dict(content)


def _dated(
    content: Any, base: Sections, longitude_deg_east: float | None, origin: str
) -> tuple[tuple[str, Sections], ...]:
    if not isinstance(content, list):
        raise ProfileError(f"{origin}: dated must be a list of tables, written [[dated]].")
    dated = []
    for entry in content:
        if not isinstance(entry, dict) or "from" not in entry:
            raise ProfileError(
                f"{origin}: a [[dated]] entry has no `from`.", next_step="Add its first night."
            )
        night = _night_label(origin, "dated.from", entry["from"], longitude_deg_east)
        base = _sections({k: v for k, v in entry.items() if k != "from"}, origin, "dated", base)
        dated.append((night, base))
    if dated != sorted(dated, key=lambda pair: pair[0]):
        raise ProfileError(f"{origin}: [[dated]] entries must follow each other in time.")
    return tuple(dated)


def _night_label(origin: str, where: str, value: Any, longitude_deg_east: float | None) -> str:
    """The night that a bare date names, or in which an instant lies."""
    try:
        parsed = parse_date(str(value))
    except ValueError as error:
        raise ProfileError(
            f"{origin}: {where} must be a night such as 2018-08-22, or an instant: {error}."
        ) from None
    return str(Night.of(parsed, longitude_deg_east) if isinstance(parsed, int) else parsed)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _checked(origin: str, where: str, field: str, value: Any) -> Any:
    """A value as its field holds it, or a sentence about what it should be."""
    wanted = ""
    match field:
        case "name":
            if not (isinstance(value, str) and _NAME.fullmatch(value)):
                wanted = "lower-case letters, digits, '-', '_' and '.', beginning with a letter or digit"
        case "summary":
            wanted = "" if isinstance(value, str) else "a text"
        case "provisional":
            wanted = "" if isinstance(value, bool) else "true or false"
        case "certify":
            wanted = "" if value in ("auto", "manual") else "'auto' or 'manual'"
        case "serials" | "instruments":
            if isinstance(value, list) and all(isinstance(item, str) for item in value):
                return tuple(_checked_pattern(origin, where, field, item) for item in value)
            wanted = "a list of texts"
        case "service_from" | "service_to":
            return value  # a night, once the longitude is known
        case "temperature_grid_c":
            if value == "none":
                return None
            wanted = "" if _is_number(value) and value > 0 else "a positive number, or 'none' when uncooled"
        case "longitude_deg_east":
            wanted = "" if _is_number(value) and -180 <= value <= 180 else "degrees between -180 and 180"
        case "temperature_tolerance_c":
            wanted = "" if _is_number(value) and value >= 0 else "a number of degrees"
        case _:
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_DAYS:
                return value
            wanted = f"a whole number up to {_MOST_DAYS}"
    if wanted:
        raise ProfileError(f"{origin}: {where} must be {wanted}, not {value!r}.")
    return float(value) if _is_number(value) else value


def _checked_pattern(origin: str, where: str, field: str, item: str) -> str:
    if field == "instruments":
        try:
            toml.pattern(item)
        except ValueError as error:
            raise ProfileError(
                f"{origin}: {where} has the bad regular expression {item!r}: {error}."
            ) from None
    return item


def dump_camera_profile(profile: CameraProfile) -> str:
    """The profile as TOML that `load_camera_profile` reads back to the same profile."""
    blank = CameraProfile(name=profile.name)
    lines: list[str] = []
    for table, keys in _TABLES.items():
        rows = [
            f"{key} = {_toml(getattr(profile, field))}"
            for key, field in keys.items()
            if key == "name" or getattr(profile, field) != getattr(blank, field)
        ]
        if rows:
            lines += [f"[{table}]", *rows, ""]
        if table == "match":
            lines += _section_lines("[detector]", profile.detector, Sections())
    gates = [
        f"{key} = {_toml(getattr(profile.gates, key))}"
        for key in _GATE_KEYS
        if getattr(profile.gates, key) != getattr(blank.gates, key)
    ]
    lines += ["[gates]", *gates, ""] if gates else []
    before = profile.detector
    for night, sections in profile.dated:
        lines += ["[[dated]]", f'from = "{night}"', *_section_lines("", sections, before)]
        before = sections
    return "\n".join(lines).rstrip() + "\n"


def _section_lines(title: str, sections: Sections, base: Sections) -> list[str]:
    rows = [
        f"{key} = {_toml(getattr(sections, key))}"
        for key in _SECTION_KEYS
        if getattr(sections, key) != getattr(base, key)
    ]
    return [*([title] if title else []), *rows, ""] if rows else []


def _toml(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)


def shipped_camera_profiles() -> tuple[CameraProfile, ...]:
    """The profiles that ship with the package; a camera is registered from one when its frames fit."""
    return tuple(
        load_camera_profile(path.read_text(encoding="utf-8"), origin=path.name)
        for path in sorted((data_dir("config") / "cameras").glob("*.toml"))
    )


def load_profile_file(path: Path) -> tuple[str, str]:
    """(kind, text) of a profile file: 'camera' or 'keywords', told by its first table."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path} cannot be read: {error}.") from None
    try:
        tables = toml.tables(text)
    except ValueError as error:
        raise ProfileError(f"{path} is no valid TOML: {error}.") from None
    for kind in ("camera", "keywords"):
        if kind in tables:
            return kind, text
    raise ProfileError(f"{path} is no profile.", next_step="A profile has a table [camera] or [keywords].")
