"""What a mask must agree with to answer a question: the look-up and its explanation use the same words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from hotpix_registry.answers import Criterion, Weighed
from hotpix_registry.catalogue.queries import Assignment, CameraRow, MaskRow
from hotpix_registry.domain import Series, and_list
from hotpix_registry.instants import US_PER_DAY, Validity, iso
from hotpix_registry.registry import masks
from hotpix_registry.registry.question import Question
from hotpix_registry.registry.view import View

_PART_NAMES = {
    "binning": "binning",
    "readout_mode": "readout mode",
    "gain_setting": "gain setting",
    "offset_setting": "offset setting",
    "sub_frame": "sub-frame",
    "row_order": "row order",
    "bayer_pattern": "Bayer pattern",
}


def option_of(name: str) -> str:
    """The option that gives a part of a configuration."""
    return "--bayer" if name == "bayer_pattern" else "--" + name.replace("_", "-")


# --- series -----------------------------------------------------------------------------


def configuration_criteria(question: Question, series: Series) -> list[Criterion]:
    """The given parts of the configuration; one that the darks are silent about does not agree."""
    return [
        Criterion(
            name=_PART_NAMES[name],
            wanted=_part(wanted),
            found=_part(getattr(series.configuration, name)),
            passed=_agrees(question, name, wanted, getattr(series.configuration, name)),
        )
        for name, wanted in question.configuration.items()
    ]


def _agrees(question: Question, name: str, wanted: Any, found: Any) -> bool:
    return bool(wanted == found or (name == "binning" and question.allow_binning and found == (1, 1)))


def is_preferred(question: Question, series: Series) -> bool:
    """Whether a series has all the parts in which its masks would else have to be adapted."""
    return all(getattr(series.configuration, name) == value for name, value in question.preferred.items())


def _part(value: Any) -> str:
    if value is None:
        return "not said"
    if isinstance(value, tuple):
        return ("x" if len(value) == 2 else ",").join(map(str, value))
    # no two settings may look alike
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def tell_apart(question: Question, choices: Sequence[tuple[Series, Sequence[Assignment]]]) -> tuple[str, str]:
    """In what the series differ that answer one question, with the masks of each value; and what to do."""
    values = {
        ("set point", "--temperature"): [
            None if s.set_point_c is None else f"{s.set_point_c:g} °C" for s, _ in choices
        ]
    } | {
        (name, option_of(part)): [
            None if (value := getattr(s.configuration, part)) is None else _part(value) for s, _ in choices
        ]
        for part, name in _PART_NAMES.items()
    }
    differing = {names: found for names, found in values.items() if len(set(found)) > 1}
    ids = [[row.mask_id for row in rows] for _, rows in choices]
    told = []
    for (name, _), found in differing.items():
        holders: dict[str, list[int]] = {}
        for value, of_series in zip(found, ids, strict=True):
            holders.setdefault(value or "not said", []).extend(of_series)
        told.append(f"{name}: " + ", ".join(f"{value} ({_masks(held)})" for value, held in holders.items()))
    enough = [o for (_, o), found in differing.items() if None not in found and len({*found}) == len(found)]
    options = " or ".join(enough) or and_list([option for _, option in differing])
    if question.preferred:
        next_step = (
            f"The frame's header does not settle it: ask for its date with {options}, "
            "or `apply` one of these masks by its number."
        )
    elif unnamed := [i for n, held in enumerate(ids) if _is_silent(n, differing.values()) for i in held]:
        next_step = f"Say which with {options}; no option means {_masks(unnamed)}, whose darks are silent."
    else:
        next_step = f"Say which with {options}."
    return "; in ".join(told), next_step


def _is_silent(number: int, differing: Collection[Sequence[str | None]]) -> bool:
    """Whether all that a choice says fits another choice too, so that no option singles it out."""
    others = {n for found in differing for n in range(len(found))} - {number}
    return any(all(found[number] in (None, found[n]) for found in differing) for n in others)


def _masks(ids: Sequence[int]) -> str:
    return f"{'mask' if len(ids) == 1 else 'masks'} {and_list([str(i) for i in sorted(ids)])}"


def temperature_criterion(question: Question, series: Series, camera: CameraRow) -> Criterion | None:
    """None where no temperature is asked for, or the camera has no set points."""
    if question.temperature_c is None or series.set_point_c is None:
        return None
    tolerance_c = camera.profile.temperature_tolerance_c
    return Criterion(
        name="temperature",
        wanted=f"{question.temperature_c:g} °C",
        found=f"{series.set_point_c:g} °C",
        tolerance=f"{tolerance_c:g} °C",
        passed=abs(series.set_point_c - question.temperature_c) <= tolerance_c,
    )


# --- masks ------------------------------------------------------------------------------


def age_days(nights: Validity, interval: Validity) -> int:
    """Days from the last night of a mask's darks to a date; 0 for dates before that."""
    last_end_us = nights.end_us or 0
    return 0 if interval.start_us < last_end_us else (interval.start_us - last_end_us) // US_PER_DAY + 1


def days_before_darks(nights: Validity, interval: Validity) -> int:
    """Days from a date to the first night of a mask's darks; 0 for dates after that."""
    return max((nights.start_us - interval.start_us) // US_PER_DAY, 0)


def age_criterion(question: Question, nights: Validity, interval: Validity) -> Criterion | None:
    """None where no greatest age is asked for."""
    if question.max_age_days is None:
        return None
    away = max(age_days(nights, interval), days_before_darks(nights, interval))
    return Criterion(
        name="age of the darks",
        wanted=f"at most {question.max_age_days} days",
        found=f"{away} days",
        passed=away <= question.max_age_days,
    )


def distance_us(validity: Validity, interval: Validity) -> int:
    """How far a date lies from an interval."""
    if validity.start_us > interval.start_us:
        return validity.start_us - interval.start_us
    return max(interval.start_us + 1 - (validity.end_us or interval.start_us + 1), 0)


# --- everything at once -----------------------------------------------------------------

_MOST_PER_SERIES = 4


def explain(
    view: View, question: Question, camera: CameraRow, interval: Validity, *, chosen: int | None = None
) -> tuple[Weighed, ...]:
    """Each mask that might have answered, by each criterion; what came nearest stands first."""
    found: list[Weighed] = []
    for series in view.series(camera).values():
        found += _explain_series(view, question, camera, series, interval, chosen)
    return tuple(sorted(found, key=lambda weighed: weighed.sort_key))


def _explain_series(
    view: View,
    question: Question,
    camera: CameraRow,
    series: Series,
    interval: Validity,
    chosen: int | None,
) -> list[Weighed]:
    common = configuration_criteria(question, series)
    temperature = temperature_criterion(question, series, camera)
    common += [temperature] if temperature is not None else []
    away_c = abs((series.set_point_c or 0.0) - (question.temperature_c or 0.0)) if temperature else 0.0
    rows = view.within(series.series_id, interval)
    rows += _first(view.before(series.series_id, interval.start_us), rows)
    rows += _first(view.after(series.series_id, interval.start_us), rows)
    versions = {mask.id: mask for mask in view.masks_of(series.series_id)}
    status = masks.statuses(view.connection, list(versions.values()), at=view.at)
    holding = {row.mask_id for row in rows}
    waiting = [m for m in versions.values() if status[m.id] == "candidate" and m.id not in holding]
    waiting.sort(key=lambda m: abs(m.campaign_start_us - interval.start_us))

    weighed = [
        _weigh(question, camera, series, interval, common, away_c, versions[row.mask_id], row, status, chosen)
        for row in rows
    ]
    weighed += [
        _weigh(question, camera, series, interval, common, away_c, mask, None, status, chosen)
        for mask in waiting[:_MOST_PER_SERIES]
    ]
    if weighed:
        return weighed
    missing = Criterion(name="mask", wanted="a certified mask", found="none", passed=False)
    criteria = (*common, missing)
    return [
        Weighed(
            series=str(series),
            mask_id=None,
            version=None,
            valid_from=None,
            valid_to=None,
            distance_days=0.0,
            criteria=criteria,
            sort_key=(1.0, float(_failed(criteria)), 0.0, away_c, 0.0),
        )
    ]


def _first(rows: Any, known: list[Assignment]) -> list[Assignment]:
    for row in rows:
        if row.id not in {k.id for k in known}:
            return [row]
    return []


def _weigh(
    question: Question,
    camera: CameraRow,
    series: Series,
    interval: Validity,
    common: list[Criterion],
    away_c: float,
    mask: MaskRow,
    row: Assignment | None,
    status: dict[int, str],
    chosen: int | None,
) -> Weighed:
    validity = row.validity if row is not None else None
    wanted = iso(interval.start_us) or ""
    if interval.end_us is not None and interval.end_us - interval.start_us > 1:
        wanted = f"{wanted} to {iso(interval.end_us)}"
    criteria = [*common]
    if validity is not None:
        criteria.append(
            Criterion(
                name="date",
                wanted=wanted,
                found=f"{iso(validity.start_us)} to {iso(validity.end_us) or 'further notice'}",
                passed=validity.covers(interval),
            )
        )
    usable = ("certified", "revoked") if question.allow_revoked else ("certified",)
    criteria.append(
        Criterion(
            name="status", wanted=" or ".join(usable), found=status[mask.id], passed=status[mask.id] in usable
        )
    )
    nights = masks.campaign_validity(mask.first_night, mask.last_night, camera)
    age = age_criterion(question, nights, interval)
    criteria += [age] if age is not None else []
    darks = Validity(mask.campaign_start_us, mask.campaign_end_us)
    away_us = distance_us(validity or darks, interval)
    return Weighed(
        series=str(series),
        mask_id=mask.id,
        version=mask.version,
        valid_from=iso(validity.start_us) if validity else None,
        valid_to=iso(validity.end_us) if validity else None,
        distance_days=round(away_us / US_PER_DAY, 3),
        criteria=tuple(criteria),
        chosen=mask.id == chosen and validity is not None and validity.overlaps(interval),
        sort_key=(0.0, float(_failed(criteria)), float(away_us), away_c, float(mask.id)),
    )


def _failed(criteria: Any) -> int:
    return sum(not criterion.passed for criterion in criteria)
