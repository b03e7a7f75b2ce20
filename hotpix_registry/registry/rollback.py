"""Going back behind a rollout: dates return to the masks that held them, in one act."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from hotpix_registry import timeline
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.queries import Assignment, CameraRow
from hotpix_registry.errors import Conflict, UsageError
from hotpix_registry.instants import iso
from hotpix_registry.registry import life
from hotpix_registry.registry.masks import MaskChange
from hotpix_registry.registry.rollout import ACT
from hotpix_registry.timeline import Handover, Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Dates that stay where the rollout put them, since the mask of before has been withdrawn."""

    valid_from: str
    valid_to: str | None
    mask_id: int
    instead_of: int
    status: str
    """of the mask of before: revoked or decertified"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """What a rollout had changed, and is changed back."""

    rollout_tx: int
    tx: int
    changes: tuple[MaskChange, ...]
    kept: tuple[Kept, ...]

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def roll_back(connection: Connection, rollout_tx: int, tx: int, *, expect: int | None) -> Rollback:
    """Give the dates that a rollout gave away back to those who held them, as far as its masks hold them.

    Raises
    ------
    UsageError
        That transaction is no rollout.
    Conflict
        Its masks hold nothing any more that could be given back, or a series has moved since `expect`.
    """
    acts = queries.transactions(connection, numbers=[rollout_tx]) if 0 < rollout_tx < tx else []
    if not acts or acts[0].action != ACT:
        raise UsageError(
            f"Transaction {rollout_tx} is no rollout.", next_step="`hotpix-registry log` lists the acts."
        )
    rows = queries.assignments_of(connection, rollout_tx)
    series = queries.series(connection)
    cameras = {row.name: row for row in queries.cameras(connection)}
    changes: list[MaskChange] = []
    kept: list[Kept] = []
    for series_id in sorted({row.series_id for row in rows}):
        camera = cameras[series[series_id].camera]
        if expect is not None:
            life.check_unmoved(connection, camera, series_id, expect, tx)
        own = [row for row in rows if row.series_id == series_id]
        back, stays = _back(connection, camera, series_id, own, rollout_tx)
        state = life.state_of(connection, camera, series_id)
        changes += life.settle(connection, series_id, timeline.hand_over(state.placed, back), tx)
        kept += stays
    if not changes:
        raise Conflict(
            f"The masks of rollout {rollout_tx} hold no dates any more that could be given back.",
            next_step="`hotpix-registry history` shows who took them.",
        )
    return Rollback(rollout_tx=rollout_tx, tx=tx, changes=tuple(changes), kept=tuple(kept))


def _back(
    connection: Connection,
    camera: CameraRow,
    series_id: int,
    rows: Sequence[Assignment],
    rollout_tx: int,
) -> tuple[list[Handover], list[Kept]]:
    state = life.state_of(connection, camera, series_id)
    before = [Held(row.mask_id, row.validity) for row in rows if row.closed_tx == rollout_tx]
    returned, withheld = life.returnable(connection, camera, state, before)
    back: list[Handover] = []
    kept: list[Kept] = []
    for now in (row for row in rows if row.opened_tx == rollout_tx):
        for was in returned:
            piece = timeline.intersection(now.validity, was.validity)
            if piece is not None and was.mask_id != now.mask_id:
                back.append(Handover(now.mask_id, was.mask_id, piece))
        for was, status in withheld:
            piece = timeline.intersection(now.validity, was.validity)
            if piece is not None and was.mask_id != now.mask_id:
                kept.append(
                    Kept(
                        valid_from=iso(piece.start_us) or "",
                        valid_to=iso(piece.end_us),
                        mask_id=now.mask_id,
                        instead_of=was.mask_id,
                        status=status,
                    )
                )
    return back, kept
