"""Keyword profiles: which header keywords of an acquisition program mean what, in which unit.

A profile is TOML, described at the top of `config/keywords/generic.toml`, which every other one extends.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hotpix_registry import domain, toml
from hotpix_registry.errors import ProfileError
from hotpix_registry.fits.blocks import Value
from hotpix_registry.fits.headers import FrameHeader
from hotpix_registry.settings import data_dir

INTERPRETER_VERSION = 2
"""part of `rules_digest`; raise it when this module or `keywords` reads a header otherwise"""

_UNITS: Mapping[str, tuple[str, ...]] = {
    "exptime_s": ("s", "ms", "us", "min"),
    "set_temp_c": ("C", "K"),
    "ccd_temp_c": ("C", "K"),
    "start": ("iso", "mjd", "jd"),
    "time": ("", "s", "h"),
}
_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "type": ("from", "values"),
    "exptime_s": ("from",),
    "start": ("from", "time", "scale", "clock_hours"),
    "set_temp_c": ("from",),
    "ccd_temp_c": ("from",),
    "binning": ("from",),
    "sub_frame": ("from",),
    "readout_mode": ("from", "ignore"),
    "gain_setting": ("from",),
    "offset_setting": ("from",),
    "row_order": ("from",),
    "bayer_pattern": ("from",),
    "gain_e_per_adu": ("from",),
    "read_noise_e": ("from",),
    "saturation_adu": ("from",),
    "overscan_section": ("from", "ignore"),
    "trim_section": ("from", "ignore"),
    "n_combined": ("from",),
    "combined": ("any",),
    "bias_subtracted": ("any",),
    "unit": ("from", "values"),
    "instrument": ("from", "ignore", "template"),
    "serial": ("from", "ignore"),
    "software": ("from", "ignore"),
}
_VALUES: Mapping[str, tuple[str, ...]] = {
    "type": tuple(domain.Kind),
    "unit": ("adu", "electron", "adu/s", "electron/s"),
}
_SOURCE_KEYS = ("keyword", "mean_of", "unit", "missing", "pattern", "when")


@dataclass(frozen=True, slots=True)
class Condition:
    """What a card must be: its value or its comment matches, or it is there, or it is not."""

    keyword: str
    wanted: re.Pattern[str] | bool
    in_comment: bool = False

    def holds(self, header: FrameHeader) -> bool:
        value = header.cards.get(self.keyword)
        if isinstance(self.wanted, bool):
            return (value is not None) is self.wanted
        if value is None:
            return False
        text = header.comments.get(self.keyword, "") if self.in_comment else as_text(value)
        return self.wanted.search(text) is not None


Conditions = tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """One place where a fact may be found; two or more keywords are a pair or the members of a mean."""

    keywords: tuple[str, ...]
    unit: str
    missing: tuple[float, ...] = ()
    pattern: re.Pattern[str] | None = None
    when: Conditions = ()

    @property
    def name(self) -> str:
        return ", ".join(self.keywords)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The compiled rules for one fact."""

    sources: tuple[Source, ...] = ()
    ignore: re.Pattern[str] | None = None
    values: tuple[tuple[str, re.Pattern[str]], ...] = ()
    any_of: tuple[Conditions, ...] = ()
    time: tuple[Source, ...] = ()
    scale: tuple[str, ...] = ()
    clock_hours: int = 24
    template: str = ""

    @property
    def keywords(self) -> str:
        """The keywords that are looked at, for messages."""
        return ", ".join(dict.fromkeys(source.name for source in self.sources))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordProfile:
    """What the keywords of one program, or family of programs, mean."""

    name: str
    summary: str = ""
    priority: int = 10
    text: str = field(repr=False, compare=False)
    """the TOML it was loaded from"""
    digest: str
    """of everything that decides how a header is read, what it extends included"""
    match: tuple[Conditions, ...] = field(repr=False, compare=False)
    sections: Mapping[str, Section] = field(repr=False, compare=False)
    rejects: tuple[tuple[Conditions, str], ...] = field(repr=False, compare=False)

    def matches(self, header: FrameHeader) -> bool:
        return not self.match or any(holds(conditions, header) for conditions in self.match)


def holds(conditions: Conditions, header: FrameHeader) -> bool:
    """Whether every condition holds."""
    return all(condition.holds(header) for condition in conditions)


def as_text(value: Value) -> str:
    """A card's value as its header writes it: T and F for logicals."""
    if isinstance(value, bool):
        return "T" if value else "F"
    return str(value)


@functools.cache
def shipped_keyword_profiles() -> tuple[KeywordProfile, ...]:
    """The profiles that come with the package, generic included."""
    paths = sorted((data_dir("config") / "keywords").glob("*.toml"))
    return tuple(load_keyword_profile(path.read_text(encoding="utf-8")) for path in paths)


def choose_profile(header: FrameHeader, profiles: Iterable[KeywordProfile]) -> KeywordProfile:
    """The matching profile of the highest priority; among equals the first by name."""
    return min(
        (profile for profile in profiles if profile.matches(header)),
        key=lambda profile: (-profile.priority, profile.name),
    )


def rules_digest(profiles: Iterable[KeywordProfile]) -> str:
    """Digest of all the rules together: what a remembered verdict on a file depends on."""
    return domain.digest([INTERPRETER_VERSION, *sorted(profile.digest for profile in profiles)])


def load_keyword_profile(text: str) -> KeywordProfile:
    """Load a keyword profile from TOML.

    Raises
    ------
    ProfileError
        When it is no TOML, or with a key, unit or regular expression that does not exist.
    """
    try:
        own = toml.tables(text)
    except ValueError as error:
        raise ProfileError(
            f"The keyword profile is no valid TOML: {error}.", next_step="Correct that line."
        ) from None
    head = own.get("keywords")
    if not isinstance(head, dict) or not isinstance(head.get("name"), str) or not head["name"]:
        raise ProfileError(
            "The keyword profile has no name.", next_step='Begin it with [keywords] and name = "..."'
        )
    name = head["name"]
    _check_keys(head, ("name", "summary", "priority"), f"[keywords] of '{name}'")
    _check_keys(own, ("keywords", "match", "reject", *_SECTIONS), f"keyword profile '{name}'")
    priority = head.get("priority", 10)
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise _wrong(name, "priority", "a whole number")
    rules = _merge(_generic_rules(), own)
    match = own.get("match", [])
    match = match if isinstance(match, list) else [match]
    try:
        decides = {k: v for k, v in rules.items() if k != "keywords"} | {"match": match}
        digest = domain.digest({"name": name, "priority": priority} | decides)
    except (TypeError, ValueError):
        raise ProfileError(
            f"The keyword profile '{name}' holds a date or a number that is not finite.",
            next_step="Write numbers and strings only.",
        ) from None
    return KeywordProfile(
        name=name,
        summary=str(head.get("summary", "")),
        priority=priority,
        text=text,
        digest=digest,
        match=tuple(_conditions(name, "match", table) for table in match),
        sections={key: _section(name, key, rules.get(key, {})) for key in _SECTIONS},
        rejects=tuple(_reject(name, rule) for rule in _list(name, "reject", rules.get("reject", []))),
    )


def _generic_rules() -> dict[str, Any]:
    path = data_dir("config") / "keywords" / "generic.toml"
    return toml.tables(path.read_text(encoding="utf-8"))


def _merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A profile's sections laid over the generic ones key by key; its rejects come first."""
    rejects = _list(own["keywords"]["name"], "reject", own.get("reject", []))
    merged = {**base, "reject": [*rejects, *(rule for rule in base.get("reject", []) if rule not in rejects)]}
    for key, section in own.items():
        if key in _SECTIONS and isinstance(section, dict) and isinstance(base.get(key), dict):
            merged[key] = {**base[key], **section}
            if isinstance(section.get("values"), dict):
                merged[key]["values"] = {**base[key].get("values", {}), **section["values"]}
        elif key in _SECTIONS:
            merged[key] = section
    return merged


def _section(profile: str, key: str, table: Any) -> Section:
    where = f"[{key}] of '{profile}'"
    if not isinstance(table, dict):
        raise _wrong(profile, key, "a table")
    _check_keys(table, _SECTIONS[key], where)
    values = table.get("values", {})
    if not isinstance(values, dict):
        raise _wrong(profile, f"{key}.values", "a table")
    _check_keys(values, _VALUES.get(key, ()), f"[{key}.values] of '{profile}'")
    clock_hours, template = table.get("clock_hours", 24), table.get("template", "")
    if clock_hours not in (12, 24) or not isinstance(template, str):
        raise _wrong(profile, key, "clock_hours = 12 or 24 and a string as template")
    ignore = "|".join(
        f"(?:{_string(profile, key, name)})" for name in _list(profile, key, table.get("ignore", []))
    )
    return Section(
        sources=tuple(_source(profile, key, entry) for entry in _list(profile, key, table.get("from", []))),
        ignore=_regex(profile, key, ignore) if ignore else None,
        values=tuple((meaning, _regex(profile, key, pattern)) for meaning, pattern in values.items()),
        any_of=tuple(_conditions(profile, key, entry) for entry in _list(profile, key, table.get("any", []))),
        time=tuple(_source(profile, "time", entry) for entry in _list(profile, key, table.get("time", []))),
        scale=tuple(_string(profile, key, entry) for entry in _list(profile, key, table.get("scale", []))),
        clock_hours=clock_hours,
        template=template,
    )


def _source(profile: str, key: str, entry: Any) -> Source:
    units = _UNITS.get(key, ("",))
    if isinstance(entry, str):
        return Source((entry.upper(),), units[0])
    if isinstance(entry, list) and entry:
        return Source(tuple(_string(profile, key, name).upper() for name in entry), units[0])
    if not isinstance(entry, dict):
        raise _wrong(profile, key, "keywords, or tables with a keyword")
    _check_keys(entry, _SOURCE_KEYS, f"[{key}] of '{profile}'")
    if ("keyword" in entry) == ("mean_of" in entry):
        raise _wrong(profile, key, "either keyword or mean_of in each of its tables")
    names = [entry["keyword"]] if "keyword" in entry else _list(profile, key, entry["mean_of"])
    unit = entry.get("unit", units[0])
    if unit not in units:
        raise _wrong(profile, key, "a unit among " + (", ".join(filter(None, units)) or "none at all"))
    missing = _list(profile, key, entry.get("missing", []))
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in missing):
        raise _wrong(profile, key, "numbers in missing")
    pattern = _regex(profile, key, entry["pattern"]) if "pattern" in entry else None
    if pattern is not None and pattern.groups < 1:
        raise _wrong(profile, key, "a group ( ) in its pattern")
    return Source(
        tuple(_string(profile, key, name).upper() for name in names),
        unit,
        tuple(missing),
        pattern,
        _conditions(profile, key, entry.get("when", {})),
    )


def _conditions(profile: str, key: str, table: Any) -> Conditions:
    if not isinstance(table, dict):
        raise _wrong(profile, key, 'conditions of the form KEYWORD = "regular expression"')
    return tuple(
        Condition(
            keyword.removeprefix("/").upper(),
            wanted if isinstance(wanted, bool) else _regex(profile, key, wanted),
            keyword.startswith("/"),
        )
        for keyword, wanted in table.items()
    )


def _reject(profile: str, rule: Any) -> tuple[Conditions, str]:
    if not isinstance(rule, dict) or not rule.get("when"):
        raise _wrong(profile, "reject", "when and reason")
    _check_keys(rule, ("when", "reason"), f"[[reject]] of '{profile}'")
    return _conditions(profile, "reject", rule["when"]), _string(profile, "reject", rule.get("reason"))


def _list(profile: str, key: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(profile, key, "a list")
    return value


def _string(profile: str, key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(profile, key, "strings")
    return value


def _regex(profile: str, key: str, pattern: Any) -> re.Pattern[str]:
    try:
        return toml.pattern(_string(profile, key, pattern))
    except ValueError as error:
        raise ProfileError(
            f"The keyword profile '{profile}' has a regular expression in {key} that is none: '{pattern}'.",
            next_step=f"Correct it: {error}.",
        ) from None


def _check_keys(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    known = tuple(known)
    for key in table:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            raise ProfileError(
                f"Unknown key '{key}' in {where}.",
                next_step=f"Did you mean '{nearest[0]}'?" if nearest else f"Known are {', '.join(known)}.",
            )


def _wrong(profile: str, key: str, wanted: str) -> ProfileError:
    return ProfileError(
        f"The keyword profile '{profile}' is wrong in {key}: it takes {wanted}.", next_step="Correct it."
    )
