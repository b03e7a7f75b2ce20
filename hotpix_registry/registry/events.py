"""Epoch events: what they take from the masks of their camera, since no mask crosses one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.engine import Connection

from hotpix_registry import timeline
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.queries import CameraRow, Event
from hotpix_registry.errors import Conflict, UnknownId
from hotpix_registry.instants import iso
from hotpix_registry.registry.life import in_words, settle, state_of
from hotpix_registry.registry.masks import MaskChange, need_rebuild

EventKind = Literal["anneal", "warmup", "repair", "controller", "swap"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventResult:
    """What an epoch event does to the masks of its camera."""

    event_id: int | None
    at: str
    kind: str
    changes: tuple[MaskChange, ...]
    needs_rebuild: tuple[int, ...]
    """masks with darks on both sides of it"""

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {
            "changes": [change.as_dict() for change in self.changes]
        }


def add_event(
    connection: Connection,
    camera: CameraRow,
    at_us: int,
    kind: str,
    note: str,
    tx: int,
    *,
    trim: bool,
) -> EventResult:
    """End an epoch: no interval, campaign, borrowing or fallback crosses the event from now on.

    Raises
    ------
    Conflict
        Masks hold dates across it, and `trim` does not say that they may lose them.
    """
    for event in queries.events(connection, camera.camera_id):
        if event.at_us == at_us:
            raise Conflict(
                f"Camera {camera.name} has event {event.id} ({event.kind}) at {iso(at_us)} already."
            )
    event_id = queries.add_event(connection, camera.camera_id, at_us, kind, note, tx)
    what = f"The event of {iso(at_us)}"
    changes, torn = end_epochs(connection, camera, [at_us], tx, what=what, trim=trim)
    return EventResult(
        event_id=event_id,
        at=iso(at_us) or "",
        kind=kind,
        changes=changes,
        needs_rebuild=torn,
    )


def end_epochs(
    connection: Connection, camera: CameraRow, instants_us: Sequence[int], tx: int, *, what: str, trim: bool
) -> tuple[tuple[MaskChange, ...], tuple[int, ...]]:
    """Keep the masks of a camera to their epochs where new ones begin at some instants.

    Returns the dates that now answer otherwise, and the masks with darks on both sides.

    Raises
    ------
    Conflict
        Masks hold dates across `what` ends the epochs, and `trim` does not say that they may lose them.
    """
    changes: list[MaskChange] = []
    crossing: list[str] = []
    rows = queries.masks(connection, camera.camera_id)
    for series_id in sorted(queries.series(connection, camera.camera_id)):
        state = state_of(connection, camera, series_id)
        placement = timeline.keep_to_epochs(state.placed, state.events_us)
        touched = [p for p in state.placed if p.assignment_id in placement.closed]
        if touched:
            crossing.append(in_words(touched))
            changes += settle(connection, series_id, placement, tx)
    torn = tuple(sorted(need_rebuild(connection, rows, instants_us)))
    if crossing and not trim:
        rebuilt = f" Masks with darks on both sides: {', '.join(map(str, torn))}." if torn else ""
        raise Conflict(
            f"{what} lies within the dates of {'; '.join(crossing)}.{rebuilt}",
            next_step="--trim cuts them there.",
        )
    return tuple(changes), torn


def remove_event(connection: Connection, camera: CameraRow, event_id: int, tx: int) -> Event:
    """Take an event back; masks keep the dates that they hold."""
    for event in queries.events(connection, camera.camera_id):
        if event.id == event_id:
            queries.close_event(connection, event_id, tx)
            return event
    raise UnknownId(
        f"Camera {camera.name} has no event {event_id}.",
        next_step=f"`hotpix-registry event list --camera {camera.name}` lists them.",
    )
