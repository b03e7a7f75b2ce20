"""What is answered: the mask of a date, and how each mask was weighed; standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One thing that was compared."""

    name: str
    wanted: str
    found: str
    tolerance: str = ""
    passed: bool

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """A mask that might answer, and how it was weighed."""

    series: str
    mask_id: int | None
    """None: the series has no mask"""
    version: int | None
    valid_from: str | None
    valid_to: str | None
    distance_days: float
    """from the date to what the mask holds, or to its darks; 0 where it holds the date"""
    criteria: tuple[Criterion, ...]
    chosen: bool = False
    sort_key: tuple[float, ...] = field(default=(), repr=False)

    @property
    def passed(self) -> bool:
        return all(criterion.passed for criterion in self.criteria)

    def as_dict(self) -> dict[str, Any]:
        return {
            name: getattr(self, name) for name in self.__slots__ if name not in ("criteria", "sort_key")
        } | {"passed": self.passed, "criteria": [criterion.as_dict() for criterion in self.criteria]}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Weighed:
        """What `as_dict` told."""
        names = [name for name in cls.__slots__ if name not in ("criteria", "sort_key")]
        criteria = tuple(Criterion(**criterion) for criterion in told["criteria"])
        return cls(**{name: told[name] for name in names}, criteria=criteria)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The mask of a date, and everything a pipeline should know before it trusts it."""

    mask_id: int
    version: int
    sha256: str
    camera: str
    series: str
    configuration: dict[str, Any]
    set_point_c: float | None
    status: str
    """certified, or revoked where that was allowed"""
    rule: str
    preset: str
    valid_from: str
    valid_to: str | None
    first_night: str
    last_night: str
    temperature_difference_c: float | None
    age_days: int
    stale: bool
    extrapolated: bool
    exposures_tested_s: tuple[float, float] | None
    """shortest and longest; None for an imported mask"""
    exposure_tested: bool | None
    """whether the science frame's exposure lies within those tested; None when that cannot be said"""
    flagged: int
    limit_e_per_s: float | None
    shape: tuple[int, int]
    """(ny, nx)"""
    newer_candidates: tuple[int, ...]
    """masks of the series that wait to be certified"""
    needs_rebuild: bool
    """darks on both sides of an epoch event went into it, or frames that belong to another camera now"""
    revoked_since: str | None
    """when the mask was revoked, for an answer as of a time before that"""
    warnings: tuple[str, ...]
    receipt: str
    tx: int
    """the newest transaction that the answer has seen"""
    registry_id: str
    explanation: tuple[Weighed, ...] = ()
    """only when asked for: each mask that might have answered, by each criterion"""

    def as_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__slots__ if name != "explanation"}
        if self.explanation:
            values["explanation"] = [weighed.as_dict() for weighed in self.explanation]
        return values

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Answer:
        """The answer that `as_dict` told; what else stands there is passed over.

        Raises
        ------
        KeyError, TypeError, ValueError
            It tells no answer.
        """
        values = {name: told[name] for name in cls.__slots__ if name != "explanation"}
        for name in ("exposures_tested_s", "shape", "newer_candidates", "warnings"):
            values[name] = None if values[name] is None else tuple(values[name])
        explanation = tuple(map(Weighed.from_dict, told.get("explanation", ())))
        return cls(**values, explanation=explanation)
