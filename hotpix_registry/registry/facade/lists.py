"""The facade on lists: records as the command line prints them, by the page.

`limit` None is the whole list; `cursor` is the `next` of the page before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.catalogue.queries import CameraRow, Transaction
from hotpix_registry.domain import Frame
from hotpix_registry.instants import iso
from hotpix_registry.places import is_there
from hotpix_registry.planning import SAME_EXPOSURE, same_exposure
from hotpix_registry.registry import masks
from hotpix_registry.registry.facade.opened import Opened, named_camera
from hotpix_registry.registry.masks import find_mask
from hotpix_registry.registry.pages import Page, Record, one_more, page, page_of, read_cursor, write_cursor
from hotpix_registry.registry.view import View, moment

FRAME_STATUSES = ("used", "excluded", "twin", "missing")
NEAR_C = 1.0
"""how far a frame's temperature may lie from the one asked for"""

_BATCH = 1000
_MOST_LOOKED_AT = 20_000
"""frames for one page; where few fit, the page is shorter and its cursor goes on"""


class ListMethods(Opened):
    """Lists: cameras, series, events, defects, masks, frames, history, log, releases."""

    def list_cameras(self, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """Registered cameras by name, with how many frames and masks each has."""
        with reading(self._source) as connection:
            rows, following = page_of(
                queries.cameras(connection), limit, cursor, key=lambda row: (row.name,), kinds=(str,)
            )
            frames = queries.frames_by(connection, "camera_id")
            versions = queries.masks_by_series(connection)
            return Page([self._camera_record(row, frames, versions, connection) for row in rows], following)

    @staticmethod
    def _camera_record(
        row: CameraRow, frames: dict[int, int], versions: dict[int, int], connection: Connection
    ) -> Record:
        series = queries.series(connection, row.camera_id)
        return {
            "name": row.name,
            "aliases": list(row.aliases),
            "status": "provisional" if row.profile.provisional else "confirmed",
            "frames": frames.get(row.camera_id, 0),
            "masks": sum(versions.get(series_id, 0) for series_id in series),
            "gain_e_per_adu": row.profile.detector.gain_e_per_adu,
            "read_noise_e": row.profile.detector.read_noise_e,
            "longitude_deg_east": row.profile.longitude_deg_east,
            "summary": row.profile.summary,
        }

    def list_series(self, camera: str, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """The series of a camera, in the order in which they were first seen."""
        with reading(self._source) as connection:
            camera_id = named_camera(connection, camera).camera_id
            known = queries.series(connection, camera_id).values()
            rows, following = page_of(known, limit, cursor, key=lambda one: (one.series_id,), kinds=(int,))
            frames = queries.frames_by(connection, "series_id", camera_id)
            versions = queries.masks_by_series(connection)
        records = [
            {
                "series_id": one.series_id,
                "camera": one.camera,
                "series": str(one),
                "configuration": one.configuration.as_dict(),
                "set_point_c": one.set_point_c,
                "frames": frames.get(one.series_id, 0),
                "masks": versions.get(one.series_id, 0),
            }
            for one in rows
        ]
        return Page(records, following)

    def list_events(self, camera: str, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """A camera's epoch events in the order of time."""
        with reading(self._source) as connection:
            known = queries.events(connection, named_camera(connection, camera).camera_id)
        rows, following = page_of(known, limit, cursor, key=lambda e: (e.at_us, e.id), kinds=(int, int))
        records = [
            {"event_id": e.id, "at": iso(e.at_us), "kind": e.kind, "note": e.note, "tx": e.opened_tx}
            for e in rows
        ]
        return Page(records, following)

    def list_defects(self, camera: str, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """A camera's static list of bad pixels."""
        with reading(self._source) as connection:
            known = queries.defects(connection, named_camera(connection, camera).camera_id)
        rows, following = page_of(known, limit, cursor, key=lambda d: (d.defect_id,), kinds=(int,))
        return Page([dataclasses.asdict(defect) for defect in rows], following)

    def list_masks(
        self,
        *,
        camera: str | None = None,
        as_of: int | str | None = None,
        release: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page:
        """Mask versions, series by series, each with its status and its validity."""
        after = read_cursor(cursor, int, int)
        with reading(self._source) as connection:
            at = moment(connection, as_of, release)
            camera_id = None if camera is None else View(connection, at).camera(camera).camera_id
            found = queries.masks(connection, camera_id, at=at, after=after, limit=one_more(limit))
            rows, following = page(found, limit, key=lambda row: (row.series_id, row.version))
            return Page(masks.summaries(connection, rows, at=at), following)

    def masks(
        self, *, camera: str | None = None, as_of: int | str | None = None, release: str | None = None
    ) -> list[Record]:
        """Mask versions, each with its series, its status and its validity."""
        return self.list_masks(camera=camera, as_of=as_of, release=release).items

    # --- frames ---------------------------------------------------------------------

    def list_frames(
        self,
        *,
        camera: str | None = None,
        nights: tuple[str, str] | None = None,
        kind: str | None = None,
        exposures_s: Sequence[float] | None = None,
        temperature_c: float | None = None,
        status: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page:
        """Catalogued frames in the order of time.

        Parameters
        ----------
        exposures_s
            only of these exposure times
        temperature_c
            only within `NEAR_C` of this
        status
            one of `FRAME_STATUSES`; missing is a frame whose file is gone
        """
        after = read_cursor(cursor, int, int)

        def fits(frame: Frame) -> bool:
            known_c = frame.facts.temperature_c
            return (
                (exposures_s is None or any(same_exposure(frame.exptime_s, e) for e in exposures_s))
                and (
                    temperature_c is None or (known_c is not None and abs(known_c - temperature_c) <= NEAR_C)
                )
                and (status is None or _status(frame) == status)
            )

        size = _BATCH if limit is None else min(_BATCH, limit + 1)
        found: list[Frame] = []
        last: Frame | None = None
        looked_at = 0
        for frame in self._frames_after(after, camera, nights, kind, exposures_s, size):
            if limit is not None and (looked_at == _MOST_LOOKED_AT or len(found) == limit):
                assert last is not None
                return Page([_frame_record(one) for one in found], write_cursor(_key(last)))
            looked_at, last = looked_at + 1, frame
            if fits(frame):
                found.append(frame)
        return Page([_frame_record(one) for one in found])

    def _frames_after(
        self,
        after: tuple[int, int] | None,
        camera: str | None,
        nights: tuple[str, str] | None,
        kind: str | None,
        exposures_s: Sequence[float] | None,
        size: int,
    ) -> Iterator[Frame]:
        """Frames in the order of time, of which only a batch of some size is in memory."""
        margin = 2 * SAME_EXPOSURE
        exptimes_s = None
        if exposures_s is not None:
            exptimes_s = min(exposures_s) * (1 - margin), max(exposures_s) * (1 + margin)
        while True:
            with reading(self._source) as connection:
                batch = queries.frames_after(
                    connection,
                    after,
                    limit=size,
                    camera_id=None if camera is None else named_camera(connection, camera).camera_id,
                    nights=nights,
                    kind=kind,
                    exptimes_s=exptimes_s,
                )
            yield from batch
            if len(batch) < size:
                return
            after = _key(batch[-1])

    def list_rejected(self, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """Files that the last ingest of each rejected, by path, and why."""
        key = read_cursor(cursor, str)
        with reading(self._source) as connection:
            found = queries.passed_over(
                connection, "rejected", after=None if key is None else key[0], limit=one_more(limit)
            )
        rows, following = page(found, limit, key=lambda row: (row.path,))
        return Page([{"path": row.path, "reason": row.reason} for row in rows], following)

    # --- history --------------------------------------------------------------------

    def list_log(self, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """What was written, newest first: who, when, where, with what, why, and what it did to masks."""
        key = read_cursor(cursor, int)
        with reading(self._source) as connection:
            newest_last = queries.transactions(
                connection, newest=one_more(limit), before=None if key is None else key[0]
            )
            rows, following = page(newest_last[::-1], limit, key=lambda row: (row.tx,))
            deeds = queries.touched(connection, rows[-1].tx, rows[0].tx) if rows else {}
        records = []
        for row in rows:
            told = row._asdict() | {"at": iso(row.at_us), "did": deeds.get(row.tx, [])}
            del told["at_us"]
            records.append(told)
        return Page(records, following)

    def log(self, *, newest: int | None = 50) -> list[Record]:
        """The newest acts, oldest first."""
        return self.list_log(limit=newest).items[::-1]

    def history(self, *, camera: str | None = None, mask_id: int | None = None) -> list[Record]:
        """Every interval that masks of a camera, or one mask, ever held, and every revocation."""
        return self.list_history(camera=camera, mask_id=mask_id).items

    def list_history(
        self,
        *,
        camera: str | None = None,
        mask_id: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page:
        """Every interval that masks of a camera, or one mask, ever held, in the order of writing.

        Each has who wrote it, when and why, who ended it, and whether the mask is revoked.
        """
        key = read_cursor(cursor, int)
        with reading(self._source) as connection:
            series = queries.series(connection)
            if mask_id is not None:
                find_mask(connection, mask_id)
            of_camera = None
            if camera is not None:
                of_camera = list(queries.series(connection, named_camera(connection, camera).camera_id))
            found = queries.assignment_history(
                connection,
                of_camera,
                mask_id=mask_id,
                after=0 if key is None else key[0],
                limit=one_more(limit),
            )
            rows, following = page(found, limit, key=lambda row: (row.id,))
            numbers = {tx for row in rows for tx in (row.opened_tx, row.closed_tx) if tx is not None}
            acts = {act.tx: act for act in queries.transactions(connection, numbers=sorted(numbers))}
            revoked = queries.revocations(connection, sorted({row.mask_id for row in rows}))
        records = [
            {
                "mask_id": row.mask_id,
                "series": str(series[row.series_id]),
                "valid_from": iso(row.validity.start_us),
                "valid_to": iso(row.validity.end_us),
                "opened_tx": row.opened_tx,
                "opened": _act(acts[row.opened_tx]),
                "closed_tx": row.closed_tx,
                "closed": None if row.closed_tx is None else _act(acts[row.closed_tx]),
                "revoked": row.mask_id in revoked,
            }
            for row in rows
        ]
        return Page(records, following)

    def list_releases(self, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """Named states of the registry, oldest first."""
        with reading(self._source) as connection:
            known = queries.releases(connection)
        rows, following = page_of(
            known, limit, cursor, key=lambda r: (r.at_tx, r.created_us, r.name), kinds=(int, int, str)
        )
        records = [
            {"name": r.name, "tx": r.at_tx, "at": iso(r.at_us), "created": iso(r.created_us), "note": r.note}
            for r in rows
        ]
        return Page(records, following)


def _key(frame: Frame) -> tuple[int, int]:
    return frame.start_us, frame.frame_id


def _status(frame: Frame) -> str:
    if frame.excluded is not None:
        return "excluded"
    if frame.twin_of is not None:
        return "twin"
    return "used" if any(map(is_there, frame.paths)) else "missing"


def _frame_record(frame: Frame) -> Record:
    facts = frame.facts
    return {
        "frame_id": frame.frame_id,
        "camera": frame.camera,
        "kind": str(frame.kind),
        "night": frame.night,
        "exptime_s": frame.exptime_s,
        "start": iso(frame.start_us),
        "set_temp_c": facts.set_temp_c,
        "ccd_temp_c": facts.ccd_temp_c,
        "shape": list(facts.shape),
        "n_combined": facts.n_combined,
        "configuration": facts.configuration.as_dict(),
        "status": _status(frame),
        "excluded": frame.excluded,
        "twin_of": frame.twin_of,
        "sha256": frame.sha256,
        "paths": list(frame.paths),
        "name": Path(frame.name).name,
        "sources": dict(facts.sources),
    }


def _act(act: Transaction) -> Record:
    return {
        "at": iso(act.at_us),
        "actor": act.actor,
        "host": act.host,
        "software": act.software,
        "action": act.action,
        "reason": act.reason,
    }
