"""One registry's cameras, frames and masks into another: in one transaction, and only what is new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from hotpix_registry.catalogue import copying, queries
from hotpix_registry.catalogue import schema as t
from hotpix_registry.catalogue.engine import reading, writing
from hotpix_registry.catalogue.queries import Act, CameraRow, MaskRow
from hotpix_registry.catalogue.queries.common import insert_id, insert_rows
from hotpix_registry.domain import Facts
from hotpix_registry.errors import Conflict
from hotpix_registry.fits.packing import unpack
from hotpix_registry.registry import life, masks
from hotpix_registry.registry.frames import find_camera, find_twin, may_be_several
from hotpix_registry.registry.masks import MaskChange

_NAMED_IN_REASON = 20


@dataclass(slots=True)
class MergeReport:
    """What came in, what was here already, and what differs."""

    registry_id: str
    """where it came from"""
    new: Counter[str] = field(default_factory=Counter)
    """cameras, keyword profiles, frames, locations, masks"""
    known: Counter[str] = field(default_factory=Counter)
    differing: list[str] = field(default_factory=list)
    """a sentence for each thing that is otherwise here and stays as it is"""
    masks: list[dict[str, Any]] = field(default_factory=list)
    """new versions: id and version here and there"""
    certified: list[int] = field(default_factory=list)
    changes: list[MaskChange] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "registry_id": self.registry_id,
            "new": dict(self.new),
            "known": dict(self.known),
            "differing": self.differing,
            "masks": self.masks,
            "certified": self.certified,
        }


def merge(
    source_engine: Engine,
    engine: Engine,
    act: Act,
    *,
    certify: bool,
    reason: str | None,
    now_us: int,
) -> MergeReport:
    """Take in what another registry knows; masks as candidates, or certified as they are there.

    Raises
    ------
    IntegrityError
        A mask there is damaged; nothing is taken in.
    """
    with reading(source_engine) as source, writing(engine) as target:
        report = MergeReport(queries.registry_id(source))
        merging = _Merge(source, target, report)
        told = f"{merging.told}; {reason}" if reason else merging.told
        merging.begin = lambda: queries.open_transaction(target, act, "import", now_us=now_us, reason=told)
        merging.take_cameras()
        merging.take_frames()
        merging.take_masks()
        if certify:
            merging.certify()
        if not merging.begun:
            target.get_transaction().rollback()  # type: ignore[union-attr]
    return report


class _Merge:
    def __init__(self, source: Connection, target: Connection, report: MergeReport) -> None:
        self._source, self._target, self._report = source, target, report
        self._tx = 0
        self._cameras: dict[int, CameraRow] = {}
        """camera id there → camera here"""
        self._series: dict[int, int] = {}
        self._frames: dict[int, int] = {}
        self._masks: dict[int, MaskRow] = {}
        self._fresh_cameras: set[int] = set()
        self._there = queries.masks(source)
        self.begin: Callable[[], int] = lambda: 0
        self._wanted = [row for row in self._there if self._here(row) is None]

    @property
    def begun(self) -> bool:
        return self._tx > 0

    @property
    def tx(self) -> int:
        """The transaction, which begins with the first row that is new."""
        self._tx = self._tx or self.begin()
        return self._tx

    @property
    def told(self) -> str:
        """Where the masks come from, for the record."""
        named = [f"{row.id} (version {row.version})" for row in self._wanted[:_NAMED_IN_REASON]]
        more = len(self._wanted) - len(named)
        if not named:
            return f"from registry {self._report.registry_id}"
        listed = f"from registry {self._report.registry_id}: mask {', '.join(named)}"
        return f"{listed} and {more} more" if more else listed

    def _here(self, row: MaskRow) -> MaskRow | None:
        return queries.mask_by_build_key(self._target, row.build_key)

    # --- cameras ------------------------------------------------------------------------

    def take_cameras(self) -> None:
        here = queries.cameras(self._target)
        for row in queries.cameras(self._source):
            found = next((c for name in (row.name, *row.aliases) if (c := find_camera(here, name))), None)
            if found is None:
                found = self._add_camera(row, here)
                here.append(found)
                self._report.new["cameras"] += 1
            else:
                self._report.known["cameras"] += 1
                self._compare(row, found)
            self._cameras[row.camera_id] = found
        self._take_keyword_profiles()

    def _add_camera(self, row: CameraRow, here: Sequence[CameraRow]) -> CameraRow:
        added = queries.add_camera(self._target, row.profile, self.tx)
        taken = {name for camera in here for name in (camera.name, *camera.aliases)}
        for alias in row.aliases:
            if alias not in taken:
                queries.add_camera_name(self._target, added.camera_id, alias, self.tx, is_alias=True)
        for table in (t.defects, t.events):
            copied = [
                {**other, "camera_id": added.camera_id, "opened_tx": self.tx}
                for other in _open_rows(self._source, table, camera_id=row.camera_id)
            ]
            insert_rows(self._target, table, copied)
        self._fresh_cameras.add(added.camera_id)
        return added

    def _compare(self, there: CameraRow, here: CameraRow) -> None:
        if there.profile.digest != here.profile.digest:
            self._report.differing.append(f"The profile of camera {here.name} differs; ours stays.")
        for table, noun in ((t.defects, "static defects"), (t.events, "epoch events")):
            lists = []
            for connection, camera in ((self._source, there), (self._target, here)):
                rows = _open_rows(connection, table, camera_id=camera.camera_id)
                lists.append({repr({k: v for k, v in row.items() if k != "camera_id"}) for row in rows})
            if more := len(lists[0] - lists[1]):
                self._report.differing.append(
                    f"Camera {here.name} has {more} {noun} there that are not here; ours stay as they are."
                )

    def _take_keyword_profiles(self) -> None:
        mine = {row["name"]: row for row in _open_rows(self._target, t.profiles, kind="keywords")}
        for row in _open_rows(self._source, t.profiles, kind="keywords"):
            known = mine.get(row["name"])
            if known is None:
                queries.put_keyword_profile(
                    self._target, row["name"], row["digest"], row["body"]["toml"], self.tx
                )
                self._report.new["keyword profiles"] += 1
            elif known["digest"] == row["digest"]:
                self._report.known["keyword profiles"] += 1
            else:
                self._report.differing.append(f"The keyword profile {row['name']} differs; ours stays.")

    # --- frames -------------------------------------------------------------------------

    def take_frames(self) -> None:
        fresh: dict[int, int] = {}
        for batch in copying.rows(self._source, t.frames):
            here = queries.frame_ids(self._target, [row["sha256"] for row in batch])
            self._frames |= {row["id"]: here[row["sha256"]] for row in batch if row["sha256"] in here}
            new = [row for row in batch if row["sha256"] not in here]
            if new:
                values = [_without(row, "id") | {"created_tx": self.tx} for row in new]
                insert_rows(self._target, t.frames, values)
                ids = queries.frame_ids(self._target, [row["sha256"] for row in new])
                fresh |= {row["id"]: ids[row["sha256"]] for row in new}
        self._report.new["frames"] += len(fresh)
        self._report.known["frames"] += len(self._frames)
        self._frames |= fresh
        self._take_readings(fresh)
        self._take_overrides(fresh)
        self._take_locations()

    def _take_readings(self, fresh: dict[int, int]) -> None:
        own = set(fresh.values())
        for batch in copying.rows(self._source, t.readings):
            values = []
            for row in batch:
                camera = self._cameras.get(row["camera_id"])
                if row["closed_tx"] is not None or row["frame_id"] not in fresh or camera is None:
                    continue
                twin_of = self._frames.get(row["twin_of"]) if row["twin_of"] is not None else None
                if twin_of is None and camera.camera_id not in self._fresh_cameras:
                    facts = Facts.from_dict(row["facts"])
                    if not may_be_several(facts):  # only an ingest compares pixels
                        twin_of = find_twin(self._target, camera.camera_id, facts, other_than=own)
                values.append(
                    _without(row, "id", "closed_tx")
                    | {
                        "frame_id": fresh[row["frame_id"]],
                        "camera_id": camera.camera_id,
                        "series_id": self._series_here(row["series_id"]),
                        "twin_of": twin_of,
                        "opened_tx": self.tx,
                    }
                )
            insert_rows(self._target, t.readings, values)

    def _series_here(self, there: int | None) -> int | None:
        if there is None:
            return None
        if there not in self._series:
            (row,) = copying.rows_where(self._source, t.series, id=there)
            camera = self._cameras.get(row["camera_id"])
            if camera is None:
                return None
            self._series[there] = self._series_id(row, camera.camera_id)
        return self._series[there]

    def _series_id(self, row: dict[str, Any], camera_id: int) -> int:
        same = {"configuration_digest": row["configuration_digest"], "set_point_key": row["set_point_key"]}
        for known in copying.rows_where(self._target, t.series, camera_id=camera_id, **same):
            return int(known["id"])
        values = _without(row, "id") | {"camera_id": camera_id, "created_tx": self.tx}
        return insert_id(self._target, t.series, **values)

    def _take_overrides(self, fresh: dict[int, int]) -> None:
        for batch in copying.rows(self._source, t.overrides):
            values = [
                _without(row, "id", "closed_tx") | {"frame_id": fresh[row["frame_id"]], "opened_tx": self.tx}
                for row in batch
                if row["closed_tx"] is None and row["frame_id"] in fresh
            ]
            insert_rows(self._target, t.overrides, values)

    def _take_locations(self) -> None:
        others = 0
        for batch in copying.rows(self._source, t.locations):
            values = []
            current = [row for row in batch if row["closed_tx"] is None]
            here = queries.known_files(self._target, [row["path"] for row in current])
            for row in current:
                frame_id, known = self._frames[row["frame_id"]], here.get(row["path"])
                if known is None:
                    new = {"frame_id": frame_id, "opened_tx": self.tx}
                    values.append(_without(row, "id", "closed_tx") | new)
                others += known is not None and known[2] != frame_id
            insert_rows(self._target, t.locations, values)
            if values:
                self._report.new["locations"] += len(values)
        if others:
            self._report.differing.append(
                f"{others} paths of frames there are those of other frames here; ours stay."
            )

    # --- masks --------------------------------------------------------------------------

    def take_masks(self) -> None:
        wanted = {row.id for row in self._wanted}
        for there in self._there:
            here = self._here(there)
            if there.id in wanted and here is None:
                here = self._add_mask(there)
                if here is None:
                    continue
            elif here is not None and here.sha256 == there.sha256:
                self._report.known["masks"] += 1
            elif here is not None:
                self._report.differing.append(
                    f"Mask {there.id} there and mask {here.id} here are of one build and differ; ours stays."
                )
                continue
            if here is not None:
                self._masks[there.id] = here

    def _add_mask(self, there: MaskRow) -> MaskRow | None:
        series = self._series_here(there.series_id)
        if series is None:
            self._report.differing.append(
                f"Mask {there.id} there is of a camera that was merged into another; it is left out."
            )
            return None
        (row,) = copying.rows_where(self._source, t.masks, id=there.id)
        unpack(row["encoding"], bytes(row["blob"]), sha256=there.sha256)
        origin = {"registry_id": self._report.registry_id, "mask_id": there.id, "version": there.version}
        built = queries.mask_details(self._source, there.id)
        values = _without(row, "id", "version") | {
            "series_id": series,
            "profile_id": self._profile_here(row["profile_id"]),
            "created_tx": self.tx,
            "report": row["report"]
            | {
                "imported_from": origin
                | {"built_us": built["at_us"], "actor": built["actor"], "host": built["host"]}
            },
        }
        mask_id, version = queries.add_mask(self._target, values)
        inputs = queries.mask_inputs(self._source, there.id)
        queries.add_mask_inputs(self._target, mask_id, [(self._frames[f], role) for f, role in inputs])
        self._report.new["masks"] += 1
        self._report.masks.append({"mask_id": mask_id, "version": version, "from": origin})
        return masks.find_mask(self._target, mask_id)

    def _profile_here(self, there: int) -> int:
        """The same profile here, or a row of it that never holds: ours stays the current one."""
        (row,) = copying.rows_where(self._source, t.profiles, id=there)
        camera_id = self._cameras[row["camera_id"]].camera_id
        for known in copying.rows_where(self._target, t.profiles, camera_id=camera_id, digest=row["digest"]):
            return int(known["id"])
        never = {"opened_tx": self.tx, "closed_tx": self.tx}
        return insert_id(self._target, t.profiles, **_without(row, "id") | {"camera_id": camera_id} | never)

    def certify(self) -> None:
        """Give dates to the masks that hold some there, in the order of their campaigns."""
        held, revoked = (
            {
                row["mask_id"]
                for batch in copying.rows(self._source, table)
                for row in batch
                if row["closed_tx"] is None
            }
            for table in (t.assignments, t.revocations)
        )
        waiting = [here for there, here in self._masks.items() if there in held - revoked]
        status = masks.statuses(self._target, waiting)
        for mask in sorted(waiting, key=lambda mask: (mask.campaign_start_us, mask.id)):
            if status[mask.id] == "candidate":
                self._certify(mask)

    def _certify(self, mask: MaskRow) -> None:
        """The ordinary rules, as for any candidate; what is out of the ordinary waits for a person."""
        name = queries.series(self._target)[mask.series_id].camera
        camera = find_camera(queries.cameras(self._target), name)
        assert camera is not None
        try:
            self._report.changes += life.certify(self._target, camera, mask.id, self.tx)
        except Conflict as refusal:
            self._report.differing.append(f"Mask {mask.id} stays a candidate. {refusal}")
        else:
            self._report.certified.append(mask.id)


def _open_rows(connection: Connection, table: sa.Table, **values: Any) -> list[dict[str, Any]]:
    """Rows that hold now, without what belongs to their registry alone."""
    found = copying.rows_where(connection, table, closed_tx=None, **values)
    return [_without(row, "id", "opened_tx", "closed_tx") for row in found]


def _without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}
