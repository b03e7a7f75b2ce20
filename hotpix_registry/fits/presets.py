"""Which flags mask: presets by name, and expressions of flags; standard library only."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from hotpix_registry.domain import DQ
from hotpix_registry.errors import UsageError

_EVIDENCE = DQ.DARK_SATURATED | DQ.DARK_NONLINEAR | DQ.UNSTABLE | DQ.STUCK | DQ.COLUMN | DQ.MANUAL
_ALL = DQ((1 << len(DQ)) - 1)

PRESETS: Mapping[str, DQ] = {
    "default": DQ.BAD,
    "evidence": _EVIDENCE,
    "matched": DQ.STUCK | DQ.UNSTABLE | DQ.COLUMN | DQ.MANUAL | DQ.DARK_SATURATED,
    "all": _ALL,
    "none": DQ(0),
}
"""The flags by which each preset masks; `matched` with what saturates in the longest dark."""

_MOST_TOKENS = 100


def flags_of(preset: str) -> DQ:
    """The flags named by a preset or an expression; a pixel with any of them is masked.

    An expression is made of flags and presets with `|` (either), `&` (common to both), `~` (all flags
    but these) and parentheses: `HOT|UNSTABLE`, `~WARM`, `~(WARM|PEDESTAL)`, `evidence|HOT`. It speaks of
    flags, not of pixels: `~WARM` masks a pixel that is WARM and HOT, for being HOT.

    Raises
    ------
    UsageError
        When a name is unknown, the expression is broken, or it names no flag.
    """
    tokens = re.findall(r"[A-Za-z_]\w*|\S", preset)
    if len(tokens) > _MOST_TOKENS:
        raise _broken(f"{preset[:40]}…", f"it has more than {_MOST_TOKENS} parts")
    position = 0

    def peek() -> str:
        return tokens[position] if position < len(tokens) else ""

    def take() -> str:
        nonlocal position
        position += 1
        return tokens[position - 1] if position <= len(tokens) else ""

    def union() -> DQ:
        flags = common()
        while peek() == "|":
            take()
            flags |= common()
        return flags

    def common() -> DQ:
        flags = single()
        while peek() == "&":
            take()
            flags &= single()
        return flags

    def single() -> DQ:
        word = take()
        if word == "~":
            return _ALL & ~single()
        if word == "(":
            flags = union()
            if take() != ")":
                raise _broken(preset, "a parenthesis is not closed")
            return flags
        return _flags_named(word, preset)

    flags = union()
    if peek():
        raise _broken(preset, f"'{peek()}' is not expected there")
    if not flags and "none" not in preset.lower():
        raise _broken(
            preset, "it names no flag at all; a pixel is masked for any one of the flags, joined with |"
        )
    return flags


def flag_names(value: int) -> str:
    """`BAD|HOT` for 5; the empty string for a good pixel."""
    return "|".join(str(flag.name) for flag in DQ if value & flag)


def _flags_named(name: str, preset: str) -> DQ:
    if name.lower() in PRESETS:
        return PRESETS[name.lower()]
    if name.upper() in DQ.__members__:
        return DQ[name.upper()]
    if not re.fullmatch(r"\w+", name):
        raise _broken(
            preset, f"a flag is missing before '{name}'" if name else "a flag is missing at its end"
        )
    known = {known.lower(): known for known in (*PRESETS, *DQ.__members__)}
    nearest = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    advice = f"Did you mean {known[nearest[0]]}?" if nearest else f"Use one of {', '.join(known.values())}."
    raise UsageError(f"'{name}' is neither a flag nor a preset.", next_step=advice)


def _broken(preset: str, why: str) -> UsageError:
    return UsageError(
        f"'{preset}' cannot be understood: {why}.",
        next_step="Write a preset, or flags like HOT|UNSTABLE or ~WARM.",
    )
