"""Which mask is right for a date: the look-up, its answer, and the sentence when there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.queries import Assignment, CameraRow, MaskRow
from hotpix_registry.domain import US_PER_DAY, Night, Series, Validity, iso, parse_date
from hotpix_registry.errors import AmbiguousMask, NoMask, UsageError
from hotpix_registry.registry.frames import find_camera, unknown_camera

Fallback = Literal["previous", "nearest"]


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
    warnings: tuple[str, ...]
    receipt: str
    tx: int
    registry_id: str

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked: a camera, a date, and what narrows the series down."""

    camera: str
    date: str
    temperature_c: float | None = None
    exposure_s: float | None = None
    preset: str = "default"
    fallback: Fallback | None = None


def resolve(connection: Connection, question: Question) -> Answer:
    """Answer a question from the current assignments.

    Raises
    ------
    UnknownCamera, UsageError
        The question itself is wrong.
    NoMask
        Nothing answers; the sentence says what there is and what would answer.
    AmbiguousMask
        Several series or several masks answer; the sentence lists them.
    """
    temperature_c, exposure_s = question.temperature_c, question.exposure_s
    if temperature_c is not None and not -273.15 <= temperature_c <= 100:
        raise UsageError(f"{temperature_c:g} °C is no temperature of a detector.", next_step="Correct it.")
    if exposure_s is not None and not 0 <= exposure_s <= 1e9:
        raise UsageError(f"{exposure_s:g} s is no exposure time.", next_step="Correct it.")
    rows = queries.cameras(connection)
    camera = find_camera(rows, question.camera)
    if camera is None:
        raise unknown_camera(rows, question.camera)
    interval = when(question.date, camera.profile.longitude_deg_east)
    series = queries.series(connection, camera.camera_id)
    near = _near_temperature(list(series.values()), camera, question)
    chosen = _choose_series(connection, near, interval, question)
    if chosen is None:
        assignment, extrapolated = _fall_back(connection, near, interval, camera, question)
    else:
        assignment, extrapolated = _the_one(chosen, interval, question), False
    mask = queries.mask(connection, assignment.mask_id)
    assert mask is not None
    return _answer(
        connection, question, camera, series[mask.series_id], assignment, mask, interval, extrapolated
    )


def when(text: str, longitude_deg_east: float | None) -> Validity:
    """The instant or night of a `--date`, as an interval."""
    try:
        moment = parse_date(text)
    except ValueError as error:
        raise UsageError(f"{error}.") from None
    if isinstance(moment, date):
        return Night(moment, longitude_deg_east).validity
    return Validity(moment, moment + 1)


def _near_temperature(series: Sequence[Series], camera: CameraRow, question: Question) -> list[Series]:
    """Series within tolerance of the temperature asked for; only the nearest of them."""
    wanted_c = question.temperature_c
    if wanted_c is None:
        return list(series)
    away = {s.series_id: abs(s.set_point_c - wanted_c) for s in series if s.set_point_c is not None}
    tolerance_c = camera.profile.temperature_tolerance_c
    near = [s for s in series if s.set_point_c is None or away[s.series_id] <= tolerance_c]
    if not near and series:
        points = sorted({s.set_point_c for s in series if s.set_point_c is not None})
        raise NoMask(
            f"Camera {camera.name} has no series within {tolerance_c:g} °C of {wanted_c:g} °C; "
            f"its set points are {', '.join(f'{p:g}' for p in points)} °C.",
            next_step="Give one of these with --temperature.",
        )
    nearest = min((away[s.series_id] for s in near if s.set_point_c is not None), default=0.0)
    return [s for s in near if s.set_point_c is None or away[s.series_id] <= nearest + 1e-9]


def _choose_series(
    connection: Connection, series: Sequence[Series], interval: Validity, question: Question
) -> list[Assignment] | None:
    """Assignments of the one series that is alive then; None when none is."""
    alive = [
        (s, found) for s in series if (found := queries.assignments_within(connection, s.series_id, interval))
    ]
    if not alive:
        return None
    if len(alive) > 1:
        listed = "; ".join(str(s) for s, _ in alive)
        same_point = len({s.set_point_c for s, _ in alive}) == 1
        raise AmbiguousMask(
            f"{len(alive)} series of camera {question.camera} have a mask for {question.date}: {listed}.",
            next_step=(
                "They differ in configuration, which this question cannot tell apart."
                if same_point
                else "Say which with --temperature."
            ),
        )
    return alive[0][1]


def _the_one(assignments: list[Assignment], interval: Validity, question: Question) -> Assignment:
    """The one assignment that holds for the whole interval."""
    if assignments[0].validity.covers(interval):
        return assignments[0]
    pieces = "; ".join(
        f"mask {a.mask_id} from {iso(max(a.validity.start_us, interval.start_us))}" for a in assignments
    )
    if assignments[0].validity.start_us > interval.start_us:
        pieces = f"none from {iso(interval.start_us)}; {pieces}"
    last = assignments[-1].validity
    if last.end_us is not None and interval.end_us is not None and last.end_us < interval.end_us:
        pieces += f"; none from {iso(last.end_us)}"
    raise AmbiguousMask(
        f"The mask changes within the night {question.date}: {pieces}.",
        next_step=f"Give a time, such as --date {iso(assignments[-1].validity.start_us)}.",
    )


def _fall_back(
    connection: Connection,
    series: Sequence[Series],
    interval: Validity,
    camera: CameraRow,
    question: Question,
) -> tuple[Assignment, bool]:
    candidates = queries.assignments(connection, [s.series_id for s in series])
    before = [a for a in candidates if a.validity.start_us <= interval.start_us]
    usable = before if question.fallback == "previous" else candidates
    if question.fallback is None or not usable:
        raise _no_mask(connection, candidates, camera, question)
    ranked = sorted(usable, key=lambda a: (_distance(a.validity, interval), a.validity.start_us))
    nearest = _distance(ranked[0].validity, interval)
    tied = [a for a in ranked if _distance(a.validity, interval) == nearest]
    if len({a.series_id for a in tied}) > 1:
        raise AmbiguousMask(
            f"Masks of several series of camera {camera.name} are equally near to {question.date}.",
            next_step="Say which with --temperature.",
        )
    return ranked[0], True


def _distance(validity: Validity, interval: Validity) -> int:
    if validity.start_us > interval.start_us:
        return validity.start_us - interval.start_us
    return max(interval.start_us - (validity.end_us or interval.start_us), 0)


def _no_mask(
    connection: Connection, candidates: list[Assignment], camera: CameraRow, question: Question
) -> NoMask:
    if not candidates:
        frames = queries.frames(connection, camera_id=camera.camera_id)
        waiting = queries.masks(connection, camera.camera_id)
        if waiting:
            return NoMask(
                f"Camera {camera.name} has no certified mask; {len(waiting)} candidates wait.",
                next_step=f"See `hotpix-registry masks --camera {camera.name}`, then `certify ID`.",
            )
        return NoMask(
            f"Camera {camera.name} has {len(frames)} catalogued frames and no mask.",
            next_step=f"Run `hotpix-registry build --camera {camera.name}`.",
        )
    ordered = sorted(candidates, key=lambda a: a.validity.start_us)
    shown = ordered[:1] + ordered[-2:] if len(ordered) > 3 else ordered
    spans = "; ".join(
        f"mask {a.mask_id} from {iso(a.validity.start_us)} to {iso(a.validity.end_us) or 'open'}"
        for a in shown
    )
    more = f" ({len(ordered)} in all)" if len(ordered) > len(shown) else ""
    return NoMask(
        f"No mask of camera {camera.name} is valid at {question.date}; there is {spans}{more}.",
        next_step="`--fallback nearest` takes the nearest one.",
    )


def _answer(
    connection: Connection,
    question: Question,
    camera: CameraRow,
    series: Series,
    assignment: Assignment,
    mask: MaskRow,
    interval: Validity,
    extrapolated: bool,
) -> Answer:
    profile = camera.profile
    first_day = Night(date.fromisoformat(mask.first_night), profile.longitude_deg_east).validity.start_us
    last_end = Night(date.fromisoformat(mask.last_night), profile.longitude_deg_east).validity.end_us or 0
    age_days = (interval.start_us - last_end) // US_PER_DAY + 1 if interval.start_us >= last_end else 0
    before_darks = max((first_day - interval.start_us) // US_PER_DAY, 0)
    stale = age_days > profile.max_age_days
    difference_c = (
        None
        if question.temperature_c is None or series.set_point_c is None
        else round(question.temperature_c - series.set_point_c, 3)
    )
    tested_s = (
        None if mask.shortest_s is None or mask.longest_s is None else (mask.shortest_s, mask.longest_s)
    )
    exposure_tested = None
    if question.exposure_s is not None and tested_s is not None:
        shortest_s, longest_s = tested_s
        exposure_tested = shortest_s * (1 - 1e-3) <= question.exposure_s <= longest_s * (1 + 1e-3)
    warnings = list(mask.warnings)
    if profile.provisional:
        warnings.append(
            f"Camera {camera.name} is provisional: registered from a header, and confirmed by nobody."
        )
    if extrapolated:
        warnings.append(f"No mask is valid at {question.date}; this is the {question.fallback} one.")
    if before_darks > 0:
        warnings.append(f"The date lies {before_darks} days before the darks of this mask.")
    if stale:
        warnings.append(f"The darks of this mask are {age_days} days older than the date.")
    if exposure_tested is False and tested_s is not None:
        warnings.append(
            f"An exposure of {question.exposure_s:g} s lies outside those tested "
            f"({tested_s[0]:g} to {tested_s[1]:g} s)."
        )
    waiting = queries.newer_candidates(connection, mask.series_id, mask.version)
    if waiting:
        warnings.append(f"Newer candidates wait to be certified: {', '.join(map(str, waiting))}.")
    tx = queries.last_tx(connection)
    registry_id = queries.registry_id(connection)
    return Answer(
        mask_id=mask.id,
        version=mask.version,
        sha256=mask.sha256,
        camera=camera.name,
        series=str(series),
        configuration=series.configuration.as_dict(),
        set_point_c=series.set_point_c,
        status="certified",
        rule=mask.rule,
        preset=question.preset,
        valid_from=iso(assignment.validity.start_us) or "",
        valid_to=iso(assignment.validity.end_us),
        first_night=mask.first_night,
        last_night=mask.last_night,
        temperature_difference_c=difference_c,
        age_days=int(age_days),
        stale=stale,
        extrapolated=extrapolated,
        exposures_tested_s=tested_s,
        exposure_tested=exposure_tested,
        flagged=mask.flagged,
        limit_e_per_s=mask.limit_e_per_s,
        shape=(mask.ny, mask.nx),
        newer_candidates=tuple(waiting),
        warnings=tuple(warnings),
        receipt=receipt(question, camera.name, registry_id, tx, mask),
        tx=tx,
        registry_id=registry_id,
    )


def receipt(question: Question, camera: str, registry_id: str, tx: int, mask: MaskRow) -> str:
    """The text that replays an answer: registry, transaction, mask, digest, and the query.

    It fits one FITS card for cameras with names of up to 12 characters.
    """
    moment = parse_date(question.date)
    when_text = moment.strftime("%Y%m%d") if isinstance(moment, date) else f"{moment}us"
    query = [f"c={camera}", f"d={when_text}"]
    if question.temperature_c is not None:
        query.append(f"t={question.temperature_c:g}")
    if question.exposure_s is not None:
        query.append(f"e={question.exposure_s:g}")
    if question.preset != "default":
        query.append(f"p={question.preset}")
    if question.fallback is not None:
        query.append(f"f={question.fallback[0]}")
    return f"hp:{registry_id}/{tx}/{mask.id}/{mask.sha256[:12]}?{'&'.join(query)}"
