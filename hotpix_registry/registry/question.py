"""What is asked of the registry."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hotpix_registry.errors import UsageError

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
