"""What is asked of the registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

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
