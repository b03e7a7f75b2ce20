"""Which mask is applied: that of an id, a date or a receipt, or what a frame's own header asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from hotpix_registry.answers import Answer
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import Source, reading
from hotpix_registry.domain import Facts
from hotpix_registry.errors import AmbiguousMask, RevokedMask, UsageError
from hotpix_registry.instants import parse_date
from hotpix_registry.registry import masks
from hotpix_registry.registry.answer import replay, resolve
from hotpix_registry.registry.question import Fallback, Question
from hotpix_registry.registry.science_frames import question_of
from hotpix_registry.registry.view import Memory, View, moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A mask that was decided on, and the text that tells how."""

    mask_id: int
    version: int
    sha256: str
    registry_id: str
    preset: str
    receipt: str
    warnings: tuple[str, ...] = ()


Choose = Callable[[Facts], Chosen]
"""finds the mask of a frame by what its header says"""


def chooser(
    engine: Source,
    mask: int | str,
    *,
    camera: str | None = None,
    temperature_c: float | None = None,
    preset: str = "default",
    fallback: Fallback | None = None,
    max_age_days: int | None = None,
    allow_binning: bool = False,
    allow_revoked: bool = False,
    as_of: int | str | None = None,
    release: str | None = None,
    memory: Memory | None = None,
) -> Chosen | Choose:
    """The mask of an id, a date or a receipt, or with `auto` what finds that of each frame.

    A number is an id, unless a camera is given and it can be a date.

    Raises
    ------
    UsageError, UnknownId, UnknownCamera
    NoMask, AmbiguousMask, RevokedMask
        No one mask answers for the date.
    """
    from hotpix_registry.fits.presets import flags_of

    flags_of(preset)
    preset = preset.strip()
    text = str(mask).strip()
    with reading(engine) as connection:
        at = moment(connection, as_of, release)
        if text.startswith("hp:"):
            given = at, temperature_c, fallback, max_age_days
            if preset != "default" or allow_revoked or any(value is not None for value in given):
                raise UsageError(
                    "A receipt says everything itself.",
                    next_step="Leave out --as-of, --release, --temperature, --preset, --fallback, --max-age "
                    "and --allow-revoked.",
                )
            return chosen_by_answer(replay(connection, text, memory=memory))
        asked: dict[str, Any] = {
            "preset": preset,
            "fallback": fallback,
            "max_age_days": max_age_days,
            "allow_revoked": allow_revoked,
        }
        if text == "auto":

            def of_frame(facts: Facts) -> Chosen:
                with reading(engine) as connection:
                    view = View(connection, at, memory)
                    question = question_of(view, facts, camera, allow_binning=allow_binning, **asked)
                    return chosen_by_answer(resolve(view, question))

            return of_frame
        if camera is not None and (not text.isdecimal() or _is_date(text)):
            question = Question(camera=camera, date=text, temperature_c=temperature_c, **asked)
            try:
                return chosen_by_answer(resolve(View(connection, at, memory), question))
            except AmbiguousMask as error:
                error.next_step = "Name one of these masks by its number, in place of the date."
                raise
        if text.isdecimal() and len(text) < 19:
            if at is not None:
                raise UsageError(
                    "A number means the same mask at any time.", next_step="Leave out --as-of and --release."
                )
            if fallback is not None or max_age_days is not None:
                raise UsageError(
                    "A number means one mask, for any date.", next_step="Leave out --fallback and --max-age."
                )
            return chosen_by_id(connection, int(text), preset, allow_revoked=allow_revoked)
    raise UsageError(
        f"'{text}' is no number of a mask, and for a date the camera is missing.",
        next_step="Give the number of a mask, a date with --camera NAME, a receipt, or auto.",
    )


def _is_date(text: str) -> bool:
    try:
        parse_date(text)
    except ValueError:
        return False
    return True


def chosen_by_id(connection: Connection, mask_id: int, preset: str, *, allow_revoked: bool = False) -> Chosen:
    """A mask named by its id; the receipt then holds no question.

    Raises
    ------
    UnknownId, RevokedMask
    """
    row = masks.find_mask(connection, mask_id)
    status = masks.statuses(connection, [row])[mask_id]
    if status == "revoked" and not allow_revoked:
        raise RevokedMask(
            f"Mask {mask_id} has been revoked.",
            next_step="`hotpix-registry masks` lists others; or take it nevertheless with --allow-revoked.",
        )
    registry_id, tx = queries.registry_id(connection), queries.last_tx(connection)
    told = () if status == "certified" else (f"Mask {mask_id} is {status}, not certified.",)
    return Chosen(
        mask_id=row.id,
        version=row.version,
        sha256=row.sha256,
        registry_id=registry_id,
        preset=preset,
        receipt=f"hp:{registry_id}/{tx}/{row.id}/{row.sha256[:12]}",
        warnings=(*row.warnings, *told),
    )


def chosen_by_answer(answer: Answer) -> Chosen:
    return Chosen(
        mask_id=answer.mask_id,
        version=answer.version,
        sha256=answer.sha256,
        registry_id=answer.registry_id,
        preset=answer.preset,
        receipt=answer.receipt,
        warnings=answer.warnings,
    )
