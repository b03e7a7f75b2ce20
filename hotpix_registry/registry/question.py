"""What is asked of the registry."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.errors import UsageError
from hotpix_registry.fits.presets import flags_of

Fallback = Literal["previous", "nearest", "warmer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A camera, a date, and what narrows the series down."""

    camera: str
    date: str
    temperature_c: float | None = None
    exposure_s: float | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)
    """parts of a `domain.Configuration` that must agree; those not given must be unambiguous"""
    preferred: Mapping[str, Any] = field(default_factory=dict)
    """parts in which a mask can be adapted: series that have them are taken before others"""
    allow_binning: bool = False
    """whether a mask without binning may be binned"""
    preset: str = "default"
    fallback: Fallback | None = None
    """what may answer when no mask is valid at the date"""
    max_age_days: int | None = None
    """how far the darks may lie from the date"""
    allow_revoked: bool = False

    def __post_init__(self) -> None:
        """Raise `UsageError` for a preset that names nothing: receipts and links would carry it on."""
        if self.preset != "default":
            flags_of(self.preset)


_FORMS = {"row_order": "TOP-DOWN|BOTTOM-UP", "bayer_pattern": "[RGBCMYW]{4}"}
"""what a header is read as having, else nothing"""
_LEAST = {"binning": (1, 1), "sub_frame": (0, 0, 1, 1)}


def parse_configuration(
    given: Mapping[str, str | None], *, spelled: Callable[[str], str] = str
) -> dict[str, Any]:
    """The parts of a configuration that were given as texts, as they are compared.

    Parameters
    ----------
    spelled
        how whoever asks calls a part, such as `--bayer`

    Raises
    ------
    UsageError
    """
    parts = {}
    for name, text in given.items():
        if text is None:
            continue
        try:
            parts[name] = _possible(name, configuration_value(name, text.strip()))
        except ValueError:
            raise UsageError(
                f"'{text}' does not fit {spelled(name)}.",
                next_step=f"See `hotpix-registry mask -h` for how {spelled(name)} is written.",
            ) from None
    return parts


def _possible(name: str, value: Any) -> Any:
    if name in _LEAST and any(part < least for part, least in zip(value, _LEAST[name], strict=True)):
        raise ValueError(f"{value} is too little")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no setting")
    return value


def configuration_value(name: str, text: str) -> Any:
    """A part of a configuration as it is compared.

    Raises
    ------
    ValueError
    """
    if name == "binning":
        x, y = re.split(r"[x,*]", text) if re.search(r"[x,*]", text) else (text, text)
        return int(x), int(y)
    if name == "sub_frame":
        x0, y0, nx, ny = (int(part) for part in text.split(","))
        return x0, y0, nx, ny
    if name in ("gain_setting", "offset_setting"):
        return float(text)
    if (form := _FORMS.get(name)) is None:
        return text
    if not re.fullmatch(form, text.upper()):
        raise ValueError(f"{text} is none of {form}")
    return text.upper()


# --- what is asked of a build ----------------------------------------------------------


def parse_nights(text: str | None) -> tuple[str, str] | None:
    """`2018-08-20..2018-08-25` or one night, as ISO dates.

    Raises
    ------
    UsageError
        With what to write instead.
    """
    if text is None:
        return None
    first, dots, last = text.partition("..")
    try:
        a = date.fromisoformat(first.strip())
        b = date.fromisoformat(last.strip()) if dots else a
    except ValueError:
        raise UsageError(
            f"'{text}' is no range of nights.", next_step="Write 2018-08-20..2018-08-25."
        ) from None
    if b < a:
        raise UsageError(f"The nights {text} end before they begin.", next_step=f"Write {b}..{a}.")
    return str(a), str(b)


def parse_exposures(text: str | None) -> list[float] | None:
    """`90,1000` as seconds.

    Raises
    ------
    UsageError
        With what to write instead.
    """
    if text is None:
        return None
    parts = [part for part in re.split(r"[,\s]+", text.strip()) if part]
    try:
        exposures = [float(part.removesuffix("s")) for part in parts]
    except ValueError:
        exposures = []
    if not exposures or not all(0 < e < 1e6 for e in exposures):
        raise UsageError(f"'{text}' is no list of exposure times.", next_step="Write seconds: 90,1000.")
    return exposures


def parse_recipe(rule: Rule | None, limit: str | None, cutoff: float | None) -> Recipe | None:
    """The recipe that a rule, a limit (`auto` or e-/s) and a cut-off (e-/s) describe; None: none of them.

    Raises
    ------
    UsageError
    """
    if limit is not None and cutoff is not None:
        raise UsageError("A limit and a cut-off exclude each other.", next_step="Give one of them.")
    values: dict[str, Any] = {}
    if rule is not None:
        values["rule"] = rule
    if limit is not None and limit != "auto":
        try:
            values["limit_e_per_s"] = float(limit)
        except ValueError:
            values["limit_e_per_s"] = -1.0
        if not 0 < values["limit_e_per_s"] <= 1e9:
            raise UsageError(f"'{limit}' is no limit.", next_step="Write auto, or e-/s such as 4.")
    if cutoff is not None:
        values |= {"rule": values.get("rule", Rule.CUTOFF), "cutoff_e_per_s": cutoff}
    if rule in (Rule.IMPORT, Rule.EDIT):
        raise UsageError(
            f"Rule {rule} is not built from darks.", next_step=f"See `hotpix-registry {rule} -h`."
        )
    return Recipe(**values) if values else None
