"""Two masks held against each other, pixel by pixel; two states of the registry, date by date."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from hotpix_registry import timeline
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.queries import CameraRow
from hotpix_registry.domain import DQ
from hotpix_registry.errors import HotpixError, UnknownCamera, UsageError
from hotpix_registry.instants import iso
from hotpix_registry.registry.answer import decide
from hotpix_registry.registry.question import Question
from hotpix_registry.registry.view import View, is_day, moment
from hotpix_registry.timeline import Held

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hotpix_registry.registry.science_frames import ScienceFrame

Progress = Callable[[int, int], None]


# --- states of the registry -------------------------------------------------------------


def is_mask_number(text: str) -> bool:
    """Whether an argument of `diff` means a mask: a number alone that is no day."""
    text = text.strip()
    return text.isdecimal() and not is_day(text)


def check_alike(a: str, b: str, *, camera: str | None = None) -> bool:
    """Whether two arguments of `diff` mean masks, and not states of the registry.

    Raises
    ------
    UsageError
        One is a mask and the other a state; or a camera is given for masks.
    """
    if is_mask_number(a) != is_mask_number(b):
        number, state = (a, b) if is_mask_number(a) else (b, a)
        raise UsageError(
            f"{number} is a mask and {state} a state of the registry; they cannot be compared.",
            next_step=f"Give two of a kind; tx{number} is the transaction.",
        )
    if is_mask_number(a) and camera is not None:
        raise UsageError("Masks say themselves of which camera they are.", next_step="Omit the camera.")
    return is_mask_number(a)


def moment_named(connection: Connection, text: str) -> int:
    """The transaction number of a release, of `tx123`, of a time, or of `now`.

    Raises
    ------
    UsageError
    """
    text = text.strip()
    known = {release.name: release.at_tx for release in queries.releases(connection)}
    if text in known:
        return known[text]
    if text == "now":
        return queries.last_tx(connection)
    try:
        at = moment(connection, text, None)
    except UsageError as error:
        if text.startswith("tx") and text[2:].isdecimal():
            raise
        nearest = difflib.get_close_matches(text, known, 1, 0.5)
        hint = f"Did you mean the release {nearest[0]}?" if nearest else str(error)
        raise UsageError(
            f"'{text}' is no release, no transaction such as tx12 and no time.", next_step=hint
        ) from None
    assert at is not None
    return at


# --- dates ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DatesChange:
    """Dates of a series that another mask answers, or that the same one answers no more."""

    camera: str
    series: str
    valid_from: str
    valid_to: str | None
    before: int | None
    """mask id; None is no mask"""
    before_version: int | None
    before_status: str
    """certified, revoked or none"""
    after: int | None
    after_version: int | None
    after_status: str

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def changed_dates(then: View, now: View, camera: str | None = None) -> list[DatesChange]:
    """The dates of each series that two states of the registry answer differently.

    A mask that was revoked between the two, or whose revocation was lifted, answers differently.
    """
    found: list[DatesChange] = []
    for row in _cameras(then, now, camera):
        series = {s.series_id: s for view in (then, now) for s in view.series(row).values()}
        versions = {m.id: m.version for m in queries.masks(now.connection, row.camera_id)}
        before, after = (_answers(view, row, list(series)) for view in (then, now))
        found += [
            DatesChange(
                camera=row.name,
                series=str(replace(one, camera=row.name)),
                valid_from=iso(change.validity.start_us) or "",
                valid_to=iso(change.validity.end_us),
                **_standing("before", change.before, versions),
                **_standing("after", change.after, versions),
            )
            for series_id, one in series.items()
            for change in timeline.changes(before[series_id], after[series_id])
        ]
    return found


def _cameras(then: View, now: View, name: str | None) -> list[CameraRow]:
    if name is not None:
        try:
            return [now.camera(name)]
        except UnknownCamera:
            return [then.camera(name)]
    rows = {row.camera_id: row for view in (then, now) for row in view.cameras}
    return sorted(rows.values(), key=lambda row: row.name)


def _answers(view: View, camera: CameraRow, series_ids: Sequence[int]) -> defaultdict[int, list[Held]]:
    """Series → what it answers; a revoked mask has a negative number, so that it differs from itself."""
    answers: defaultdict[int, list[Held]] = defaultdict(list)
    if camera.camera_id not in {row.camera_id for row in view.cameras}:
        return answers
    rows = queries.assignments(view.connection, series_ids, at=view.at)
    revoked = queries.revocations(view.connection, sorted({row.mask_id for row in rows}), at=view.at)
    for row in rows:
        number = -row.mask_id if row.mask_id in revoked else row.mask_id
        answers[row.series_id].append(Held(number, row.validity))
    return answers


def _standing(when: str, number: int | None, versions: dict[int, int]) -> dict[str, Any]:
    mask_id = None if number is None else abs(number)
    return {
        when: mask_id,
        f"{when}_version": None if mask_id is None else versions[mask_id],
        f"{when}_status": "none" if number is None else "revoked" if number < 0 else "certified",
    }


# --- frames -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameChange:
    """A science frame that another mask answers than before, or another outcome."""

    path: str
    camera: str
    date: str
    before: int | None
    before_status: str
    """certified, revoked, no-mask, ambiguous-mask, unknown-camera"""
    after: int | None
    after_status: str

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Affected:
    """What the registry answers otherwise than at an earlier moment."""

    since_tx: int
    tx: int
    dates: tuple[DatesChange, ...]
    frames: tuple[FrameChange, ...] = ()
    frames_read: int = 0
    rejected: tuple[tuple[str, str], ...] = ()
    """(path, reason) of files whose question cannot be said"""

    def as_dict(self) -> dict[str, Any]:
        return {
            "since_tx": self.since_tx,
            "tx": self.tx,
            "dates": [change.as_dict() for change in self.dates],
            "frames": [change.as_dict() for change in self.frames],
            "frames_read": self.frames_read,
            "rejected": [{"path": path, "reason": reason} for path, reason in self.rejected],
        }


def affected(
    then: View,
    now: View,
    frames: Sequence[ScienceFrame],
    *,
    camera: str | None = None,
    progress: Progress | None = None,
) -> Affected:
    """What the state `now` answers otherwise than `then`: dates, and of some frames those."""
    dates = changed_dates(then, now, camera)
    changed, rejected = changed_frames(then, now, frames, camera=camera, progress=progress)
    return Affected(
        since_tx=then.tx,
        tx=now.tx,
        dates=tuple(dates),
        frames=tuple(changed),
        frames_read=len(frames),
        rejected=tuple(rejected),
    )


def changed_frames(
    then: View,
    now: View,
    frames: Iterable[ScienceFrame],
    *,
    camera: str | None = None,
    progress: Progress | None = None,
) -> tuple[list[FrameChange], list[tuple[str, str]]]:
    """The frames that two states of the registry answer differently, and those that ask no question."""
    from hotpix_registry.registry.science_frames import question_of

    changed: list[FrameChange] = []
    rejected: list[tuple[str, str]] = []
    listed = list(frames)
    for number, frame in enumerate(listed):
        if progress is not None:
            progress(number, len(listed))
        try:
            facts = frame.read()
            question = question_of(now, facts, camera)
        except HotpixError as error:
            rejected.append((frame.path, str(error)))
            continue
        try:
            before = _outcome(then, question_of(then, facts, camera))
        except HotpixError:  # the camera was not known then
            before = None, "unknown-camera"
        after = _outcome(now, question)
        if before != after:
            changed.append(
                FrameChange(
                    path=frame.path,
                    camera=question.camera,
                    date=question.date,
                    before=before[0],
                    before_status=before[1],
                    after=after[0],
                    after_status=after[1],
                )
            )
    if progress is not None:
        progress(len(listed), len(listed))
    return changed, rejected


def _outcome(view: View, question: Question) -> tuple[int | None, str]:
    """(mask id, status) of an answer; a revoked mask is named too."""
    try:
        answer = decide(view, replace(question, allow_revoked=True))
    except HotpixError as error:
        return None, error.code
    return answer.mask_id, answer.status


# --- masks ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagDiff:
    """Pixels with a flag, or masked under a preset, in two masks."""

    name: str
    vanished: int
    """only in the first"""
    new: int
    """only in the second"""
    common: int

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskDiff:
    """Two masks held against each other."""

    a: dict[str, Any]
    b: dict[str, Any]
    flags: tuple[FlagDiff, ...]
    presets: tuple[FlagDiff, ...]
    jaccard: float
    """common by either, of what the preset `default` masks; 1 where both mask nothing"""
    pixels: int
    notes: tuple[str, ...]
    """what keeps the two from being like"""

    def rows(self) -> list[dict[str, Any]]:
        """Flags and presets as the rows of one table."""
        rows = [("flag", flag) for flag in self.flags] + [("preset", one) for one in self.presets]
        return [{"of": of} | one.as_dict() for of, one in rows]

    def as_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {
            "flags": [flag.as_dict() for flag in self.flags],
            "presets": [preset.as_dict() for preset in self.presets],
        }


def diff_masks(
    a: dict[str, Any], a_dq: NDArray[np.uint16], b: dict[str, Any], b_dq: NDArray[np.uint16]
) -> MaskDiff:
    """Compare two masks, each as `masks` lists it with its DQ plane (ny, nx) uint16.

    Raises
    ------
    UsageError
        They have different shapes.
    """
    from hotpix_registry.fits.presets import PRESETS

    if a_dq.shape != b_dq.shape:
        (a_ny, a_nx), (b_ny, b_nx) = a_dq.shape, b_dq.shape
        raise UsageError(
            f"Mask {a['mask_id']} has {a_nx} x {a_ny} pixels and mask {b['mask_id']} {b_nx} x {b_ny}; "
            "they cannot be compared pixel by pixel.",
            next_step="`hotpix-registry masks` shows which masks are of one series.",
        )
    flags = tuple(_flag_diff(str(flag.name), a_dq, b_dq, flag) for flag in DQ)
    presets = tuple(_flag_diff(name, a_dq, b_dq, PRESETS[name]) for name in ("default", "evidence", "all"))
    either = sum((presets[0].vanished, presets[0].new, presets[0].common))
    return MaskDiff(
        a=a,
        b=b,
        flags=flags,
        presets=presets,
        jaccard=presets[0].common / either if either else 1.0,
        pixels=int(a_dq.size),
        notes=tuple(_unlike(a, b)),
    )


def _flag_diff(name: str, a_dq: NDArray[np.uint16], b_dq: NDArray[np.uint16], flags: DQ) -> FlagDiff:
    import numpy as np

    then, now = (a_dq & flags.value) != 0, (b_dq & flags.value) != 0
    common = int(np.count_nonzero(then & now))
    return FlagDiff(
        name=name,
        vanished=int(np.count_nonzero(then)) - common,
        new=int(np.count_nonzero(now)) - common,
        common=common,
    )


def _unlike(a: dict[str, Any], b: dict[str, Any]) -> Iterable[str]:
    if a["camera"] != b["camera"]:
        yield f"They are of different cameras, {a['camera']} and {b['camera']}."
    elif a["series"] != b["series"]:
        yield f"They are of different series: {a['series']}; {b['series']}."
    if a["rule"] != b["rule"]:
        yield f"They were made by different rules, {a['rule']} and {b['rule']}."
    tested = [m["exposures_tested_s"] for m in (a, b)]
    if tested[0] != tested[1]:
        first, second = (
            "none" if times is None else " to ".join(f"{s:g}" for s in times) + " s" for times in tested
        )
        yield f"They compare different exposure times, {first} and {second}."
    limits = [m["limit_e_per_s"] for m in (a, b)]
    if limits[0] != limits[1]:
        first, second = ("none" if limit is None else f"{limit:.3g} e-/s" for limit in limits)
        yield f"Their limits differ: {first} and {second}."
