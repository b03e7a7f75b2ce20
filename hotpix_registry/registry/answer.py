"""Which mask is right for a date: the look-up, its answer, and the sentence when there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sqlalchemy.engine import Connection

from hotpix_registry.answers import Answer, Weighed
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.queries import Assignment, CameraRow
from hotpix_registry.domain import Series
from hotpix_registry.errors import (
    AmbiguousMask,
    IntegrityError,
    NoMask,
    RevokedMask,
    UsageError,
)
from hotpix_registry.instants import Validity, iso
from hotpix_registry.registry import criteria
from hotpix_registry.registry.criteria import distance_us
from hotpix_registry.registry.question import Question
from hotpix_registry.registry.receipt import read_receipt, write_receipt
from hotpix_registry.registry.view import Memory, Standing, View, labelled_us, when
from hotpix_registry.timeline import epoch_of


def resolve(view: View, question: Question, *, explained: bool = False) -> Answer:
    """Answer a question from what a view of the registry shows.

    Raises
    ------
    UnknownCamera, UsageError
        The question itself is wrong.
    NoMask
        Nothing answers.
    AmbiguousMask
        Several series or several masks answer; the sentence lists them.
    RevokedMask
        The mask of that date is declared unusable.

    The errors carry in `explanation` each mask that might have answered, by each criterion.
    """
    try:
        answer = decide(view, question)
    except (NoMask, AmbiguousMask, RevokedMask) as error:
        error.explanation = _explain(view, question)
        raise
    if explained:
        return replace(answer, explanation=_explain(view, question, answer.mask_id))
    return answer


def decide(view: View, question: Question) -> Answer:
    """As `resolve`, with errors that carry no explanation, for when nobody reads it."""
    _check(question)
    camera = view.camera(question.camera)
    return _resolve(view, question, camera, when(question.date, camera.profile.longitude_deg_east))


def _explain(view: View, question: Question, chosen: int | None = None) -> tuple[Weighed, ...]:
    camera = view.camera(question.camera)
    interval = when(question.date, camera.profile.longitude_deg_east)
    return criteria.explain(view, question, camera, interval, chosen=chosen)


def replay(
    connection: Connection, text: str, *, explained: bool = False, memory: Memory | None = None
) -> Answer:
    """Answer a receipt's question from the state that it saw, and hold the answer against the receipt.

    Raises
    ------
    UsageError
        It is no receipt, or one of another registry.
    IntegrityError
        Another mask comes out than the receipt names.
    """
    receipt = read_receipt(text)
    known = {r.registry_id: r.to_tx for r in queries.registry_ids(connection)}
    if receipt.registry_id not in known:
        own = ", once ".join([*known][::-1])
        raise UsageError(
            f"The receipt is of registry {receipt.registry_id}, and this is {own}.",
            next_step="Name that registry, or an export of it, with --database.",
        )
    newest = known[receipt.registry_id]
    if not 0 < receipt.tx <= newest:
        raise UsageError(
            f"The receipt is of transaction {receipt.tx}, and the newest of registry {receipt.registry_id} "
            f"that is known here is {newest}.",
            next_step="This is an older copy of it; ask a newer one.",
        )
    answer = resolve(View(connection, receipt.tx, memory), receipt.question, explained=explained)
    if answer.mask_id != receipt.mask_id or not answer.sha256.startswith(receipt.sha256_start):
        raise IntegrityError(
            f"The receipt names mask {receipt.mask_id} ({receipt.sha256_start}…), and the registry as of "
            f"transaction {receipt.tx} answers with mask {answer.mask_id} ({answer.sha256[:12]}…).",
            next_step="Check how the receipt was copied, then run `hotpix-registry db check`.",
        )
    return answer


def _check(question: Question) -> None:
    temperature_c, exposure_s = question.temperature_c, question.exposure_s
    if temperature_c is not None and not -273.15 <= temperature_c <= 100:
        raise UsageError(f"{temperature_c:g} °C is no temperature of a detector.", next_step="Correct it.")
    if exposure_s is not None and not 0 <= exposure_s <= 1e9:
        raise UsageError(f"{exposure_s:g} s is no exposure time.", next_step="Correct it.")
    if question.fallback == "warmer" and temperature_c is None:
        raise UsageError(
            "Warmer than what cannot be said without a temperature.", next_step="Give it with --temperature."
        )


def _resolve(view: View, question: Question, camera: CameraRow, interval: Validity) -> Answer:
    agreeing = _agreeing(view, question, camera)
    near = _near_temperature(agreeing, camera, question)
    chosen = _choose_series(view, near, interval, question)
    if chosen is not None:
        assignment, extrapolated = _the_one(chosen, interval, question), False
    elif question.fallback is None:
        raise _no_mask(view, near, interval, camera, question)
    else:
        assignment, extrapolated = _fall_back(view, agreeing, near, interval, camera, question), True
    standing = view.standing(assignment.mask_id, camera)
    mask, revocation = standing.mask, standing.revocation
    if revocation is not None and not question.allow_revoked:
        raise RevokedMask(
            f"The mask of camera {camera.name} for {question.date}, mask {mask.id}, was revoked at "
            f"{iso(revocation.at_us)} by {revocation.actor}: {revocation.reason.rstrip('.')}.",
            next_step=(
                "Certify another in its place with --supersede, or take it nevertheless with --allow-revoked."
            ),
        )
    aged = criteria.age_criterion(question, standing.nights, interval)
    if aged is not None and not aged.passed:
        raise NoMask(
            f"The darks of mask {mask.id} of camera {camera.name} lie {aged.found} from {question.date}, "
            f"and {aged.wanted} are allowed.",
            next_step="Take darks and build, or raise --max-age.",
        )
    return _answer(view, question, camera, assignment, standing, interval, extrapolated)


# --- series -----------------------------------------------------------------------------


def _agreeing(view: View, question: Question, camera: CameraRow) -> list[Series]:
    """Series whose configuration has the parts that were given."""
    everyone = list(view.series(camera).values())
    agreeing = [s for s in everyone if all(c.passed for c in criteria.configuration_criteria(question, s))]
    if everyone and not agreeing:
        failed = [c for s in everyone for c in criteria.configuration_criteria(question, s) if not c.passed]
        found = {c.name: sorted({f.found for f in failed if f.name == c.name}) for c in failed}
        wanted = {c.name: c.wanted for c in failed}
        listed = "; ".join(f"{name} {wanted[name]}, there is {', '.join(found[name])}" for name in found)
        raise NoMask(
            f"No series of camera {camera.name} has that configuration: {listed}.",
            next_step=(
                "`--adapt bin` joins the blocks of an unbinned mask."
                if question.preferred and set(found) == {"binning"} and "1x1" in found["binning"]
                else "`--explain` shows each series; take darks of that configuration to have one."
            ),
        )
    return agreeing


def _near_temperature(series: Sequence[Series], camera: CameraRow, question: Question) -> list[Series]:
    """Series within tolerance of the temperature asked for; only the nearest of them."""
    wanted_c = question.temperature_c
    if wanted_c is None:
        return list(series)
    away = {s.series_id: abs(s.set_point_c - wanted_c) for s in series if s.set_point_c is not None}
    tolerance_c = camera.profile.temperature_tolerance_c
    near = [s for s in series if s.set_point_c is None or away[s.series_id] <= tolerance_c]
    if not near and series and question.fallback != "warmer":
        points = sorted({s.set_point_c for s in series if s.set_point_c is not None})
        raise NoMask(
            f"Camera {camera.name} has no series within {tolerance_c:g} °C of {wanted_c:g} °C; "
            f"its set points are {', '.join(f'{p:g}' for p in points)} °C.",
            next_step="Give one of these with --temperature, or take --fallback warmer.",
        )
    nearest = min((away[s.series_id] for s in near if s.set_point_c is not None), default=0.0)
    return [s for s in near if s.set_point_c is None or away[s.series_id] <= nearest + 1e-9]


def _choose_series(
    view: View, series: Sequence[Series], interval: Validity, question: Question
) -> list[Assignment] | None:
    """Assignments of the one series that is alive then; None when none is."""
    alive = [(s, found) for s in series if (found := view.within(s.series_id, interval))]
    if not alive:
        return None
    if len(alive) > 1 and question.preferred:
        alike = [(s, found) for s, found in alive if criteria.is_preferred(question, s)]
        alive = alike or alive
    if len(alive) > 1:
        differing, next_step = criteria.tell_apart(question, alive)
        raise AmbiguousMask(
            f"{len(alive)} series of camera {question.camera} have a mask for {question.date}, "
            f"and differ in {differing}.",
            next_step=next_step,
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


# --- where no mask is valid -------------------------------------------------------------


def _fall_back(
    view: View,
    agreeing: Sequence[Series],
    near: Sequence[Series],
    interval: Validity,
    camera: CameraRow,
    question: Question,
) -> Assignment:
    if question.fallback == "warmer":
        return _warmer(view, agreeing, interval, camera, question)
    usable = [
        (distance_us(found.validity, interval), s, found)
        for s in near
        for found in _neighbours(view, s, interval, camera, question)
    ]
    if not usable:
        raise _no_mask(view, near, interval, camera, question)
    nearest_us = min(away_us for away_us, _, _ in usable)
    tied = [(s, [found]) for away_us, s, found in usable if away_us == nearest_us]
    if len({s.series_id for s, _ in tied}) > 1:
        differing, next_step = criteria.tell_apart(question, tied)
        raise AmbiguousMask(
            f"Masks of several series of camera {camera.name} are equally near to {question.date}, "
            f"and differ in {differing}.",
            next_step=next_step,
        )
    return min((found for _, (found,) in tied), key=lambda a: a.validity.start_us)


def _neighbours(
    view: View, series: Series, interval: Validity, camera: CameraRow, question: Question
) -> Iterator[Assignment]:
    """The nearest usable assignment on either side, within the epoch of the date."""
    epoch = epoch_of(labelled_us(interval), view.epochs_us(camera))
    sides = [view.before(series.series_id, interval.start_us)]
    if question.fallback == "nearest":
        sides.append(view.after(series.series_id, interval.start_us))
    for side in sides:
        for row in side:
            if not epoch.overlaps(row.validity):
                break
            if _is_usable(view, row, interval, camera, question):
                yield row
                break


def _is_usable(
    view: View, row: Assignment, interval: Validity, camera: CameraRow, question: Question
) -> bool:
    standing = view.standing(row.mask_id, camera)
    aged = criteria.age_criterion(question, standing.nights, interval)
    is_usable = standing.revocation is None or question.allow_revoked
    return is_usable and (aged is None or aged.passed)


def _warmer(
    view: View, agreeing: Sequence[Series], interval: Validity, camera: CameraRow, question: Question
) -> Assignment:
    """The mask of the date from the next warmer set point: it masks more, never less."""
    wanted_c = question.temperature_c
    assert wanted_c is not None
    warmer = sorted(
        (s for s in agreeing if s.set_point_c is not None and s.set_point_c > wanted_c),
        key=lambda s: s.set_point_c or 0.0,
    )
    for series in warmer:
        alike = [s for s in warmer if s.set_point_c == series.set_point_c]
        found = _choose_series(view, alike, interval, question)
        if found is not None:
            return _the_one(found, interval, question)
    raise _no_mask(view, warmer or agreeing, interval, camera, question)


def _no_mask(
    view: View, series: Sequence[Series], interval: Validity, camera: CameraRow, question: Question
) -> NoMask:
    neighbours = [
        row
        for s in series
        for side in (view.before(s.series_id, interval.start_us), view.after(s.series_id, interval.start_us))
        if (row := next(side, None)) is not None
    ]
    if not neighbours:
        waiting = queries.masks(view.connection, camera.camera_id, at=view.at)
        if waiting:
            return NoMask(
                f"Camera {camera.name} has no certified mask; "
                f"{len(waiting)} {'candidate waits' if len(waiting) == 1 else 'candidates wait'}.",
                next_step=f"See `hotpix-registry masks --camera {camera.name}`, then `certify ID`.",
            )
        frames = queries.frames(view.connection, camera_id=camera.camera_id)
        return NoMask(
            f"Camera {camera.name} has {len(frames)} catalogued frames and no mask.",
            next_step=f"Run `hotpix-registry build --camera {camera.name}`.",
        )
    spans = "; ".join(
        f"mask {a.mask_id} from {iso(a.validity.start_us)} to {iso(a.validity.end_us) or 'open'}"
        for a in sorted(neighbours, key=lambda a: a.validity.start_us)
    )
    nearest = replace(question, fallback="nearest")
    if question.fallback is None and any(
        True for s in series for _ in _neighbours(view, s, interval, camera, nearest)
    ):
        next_step = "`--fallback nearest` takes the nearest one."
    else:
        next_step = "No fallback crosses an epoch event, takes a revoked mask or one past --max-age."
    return NoMask(
        f"No mask of camera {camera.name} is valid at {question.date}; the nearest are {spans}.",
        next_step=next_step,
    )


# --- the answer -------------------------------------------------------------------------


def _answer(
    view: View,
    question: Question,
    camera: CameraRow,
    assignment: Assignment,
    standing: Standing,
    interval: Validity,
    extrapolated: bool,
) -> Answer:
    mask, series, profile = standing.mask, standing.series, camera.profile
    revocation, revoked_since = standing.revocation, standing.revoked_since
    age_days = criteria.age_days(standing.nights, interval)
    before_darks = criteria.days_before_darks(standing.nights, interval)
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
    if revocation is not None:
        warnings.append(f"This mask is revoked: {revocation.reason}")
    if (source := standing.revoked_source) is not None:
        warnings.append(
            f"This mask was made from mask {source.mask_id}, which is revoked: {source.reason.rstrip('.')}; "
            f"`hotpix-registry revoke {mask.id} --reason …` if it is unusable too."
        )
    if revoked_since is not None:
        warnings.append(
            f"This mask has been revoked since, at {iso(revoked_since.at_us)} by {revoked_since.actor}: "
            f"{revoked_since.reason}"
        )
    if standing.reason_to_rebuild is not None:
        warnings.append(standing.reason_to_rebuild)
    if extrapolated:
        how = f"at {series.set_point_c:g} °C" if question.fallback == "warmer" else f"{question.fallback}"
        warnings.append(f"No mask is valid at {question.date}; this is the {how} one.")
    if before_darks > 0:
        warnings.append(f"The date lies {before_darks} days before the darks of this mask.")
    if stale:
        warnings.append(f"The darks of this mask are {age_days} days older than the date.")
    if exposure_tested is False and tested_s is not None:
        warnings.append(
            f"An exposure of {question.exposure_s:g} s lies outside those tested "
            f"({tested_s[0]:g} to {tested_s[1]:g} s)."
        )
    if standing.newer_candidates:
        waiting = ", ".join(map(str, standing.newer_candidates))
        warnings.append(f"Newer candidates wait to be certified: {waiting}.")
    if (lag := view.lag()) is not None:
        warnings.append(lag)
    return Answer(
        mask_id=mask.id,
        version=mask.version,
        sha256=mask.sha256,
        camera=camera.name,
        series=standing.series_name,
        configuration=series.configuration.as_dict(),
        set_point_c=series.set_point_c,
        status="certified" if revocation is None else "revoked",
        rule=mask.rule,
        preset=question.preset,
        valid_from=iso(assignment.validity.start_us) or "",
        valid_to=iso(assignment.validity.end_us),
        first_night=mask.first_night,
        last_night=mask.last_night,
        temperature_difference_c=difference_c,
        age_days=age_days,
        stale=stale,
        extrapolated=extrapolated,
        exposures_tested_s=tested_s,
        exposure_tested=exposure_tested,
        flagged=mask.flagged,
        limit_e_per_s=mask.limit_e_per_s,
        shape=(mask.ny, mask.nx),
        newer_candidates=standing.newer_candidates,
        needs_rebuild=standing.reason_to_rebuild is not None,
        revoked_since=None if revoked_since is None else iso(revoked_since.at_us),
        warnings=tuple(warnings),
        receipt=write_receipt(question, camera.name, view.registry_id, view.tx, mask.id, mask.sha256),
        tx=view.tx,
        registry_id=view.registry_id,
    )
