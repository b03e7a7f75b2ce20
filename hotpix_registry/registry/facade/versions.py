"""The facade on mask versions: how they are made, and which dates they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading
from hotpix_registry.catalogue.queries import CameraRow, Event, MaskRow
from hotpix_registry.domain import Configuration, Recipe
from hotpix_registry.errors import HotpixError, NothingToBuild, UsageError
from hotpix_registry.instants import Validity
from hotpix_registry.registry import content, events, life, masks
from hotpix_registry.registry.events import EventKind, EventResult
from hotpix_registry.registry.facade.opened import Opened, named_camera, now_us
from hotpix_registry.registry.life import Withdrawal
from hotpix_registry.registry.masks import BuildResult, MaskChange, Plan
from hotpix_registry.registry.view import instant_of, labelled_us, when

if TYPE_CHECKING:
    from hotpix_registry.registry.tallies import FleetReport


class VersionMethods(Opened):
    """Mask versions: plan, build, import, edit, certify, revoke; and the events that end an epoch."""

    def plan(
        self,
        camera: str,
        *,
        nights: tuple[str, str] | None = None,
        exposures_s: Sequence[float] | None = None,
    ) -> Plan:
        """What `build` would take in, and why other frames stay out."""
        from hotpix_registry.registry import build

        with reading(self._engine) as connection:
            row = named_camera(connection, camera)
        return build.plan(self._engine, row, nights=nights, exposures_s=exposures_s)

    def build(
        self,
        camera: str,
        *,
        nights: tuple[str, str] | None = None,
        exposures_s: Sequence[float] | None = None,
        recipe: Recipe | None = None,
        progress: Callable[[str, int, int], None] | None = None,
        failed: Callable[[str, HotpixError], None] | None = None,
    ) -> list[BuildResult]:
        """Build the mask of every campaign, one after the other; each is stored as soon as it is done.

        Parameters
        ----------
        recipe
            None takes the default rule, or the cut-off where a campaign has one exposure time
        progress
            called with the campaign's name, steps done and steps in all
        failed
            called with the series and the error of a campaign that cannot be built, and the others go
            on; without it the first such error is raised

        Raises
        ------
        NothingToBuild, FrameChanged, UnreadableFrame
            With nothing stored of that campaign.
        """
        from hotpix_registry.registry import build

        self._refuse_mirror()
        row = self._camera(camera)
        plan = self.plan(camera, nights=nights, exposures_s=exposures_s)
        if not plan.campaigns:
            raise NothingToBuild(
                f"Camera {row.name} has no darks to build from"
                + (f" in the nights {nights[0]} to {nights[1]}." if nights else "."),
                next_step="`hotpix-registry build --dry-run` says why.",
            )
        results = []
        for campaign in plan.campaigns:
            try:
                results.append(
                    build.build_campaign(self._engine, self._act(), campaign, row, recipe, progress)
                )
            except HotpixError as error:
                if failed is None:
                    raise
                failed(str(campaign.series), error)
        return results

    def survey_builds(
        self,
        cameras: Sequence[str] = (),
        *,
        nights: tuple[str, str] | None = None,
        exposures_s: Sequence[float] | None = None,
        recipe: Recipe | None = None,
    ) -> FleetReport:
        """How many campaigns `build_all` would find, and how many of them have their mask already."""
        from hotpix_registry.registry import fleet

        wanted = fleet.Wanted(nights=nights, exposures_s=exposures_s, recipe=recipe)
        return fleet.survey(self._engine, self._cameras_named(cameras), wanted)

    def build_all(
        self,
        cameras: Sequence[str] = (),
        *,
        nights: tuple[str, str] | None = None,
        exposures_s: Sequence[float] | None = None,
        recipe: Recipe | None = None,
        certify: bool = True,
        jobs: int | None = None,
        scheduler: str | None = None,
        progress: Callable[[FleetReport], None] | None = None,
    ) -> FleetReport:
        """Build every campaign of every camera that lacks a mask, several at a time.

        The masks, their standing and their dates are those of a serial `build` of each camera. Another
        process may do the same at the same time: each campaign is built by one of them.

        Parameters
        ----------
        cameras
            only these
        recipe
            None takes the default rule, or the cut-off where a campaign has one exposure time
        certify
            False: new masks wait as candidates
        jobs
            processes of this machine; None is as many as it has processors. They import the script that
            asks for them: let it do so below `if __name__ == "__main__":`.
        scheduler
            a dask scheduler (`tcp://HOST:8786`), whose workers compute in their place
        progress
            called with the report so far

        Raises
        ------
        SchedulerUnreachable, UnfitWorkers, DatabaseUnavailable
            What was stored until then stays.
        """
        from hotpix_registry.registry import fleet
        from hotpix_registry.work import work

        self._refuse_mirror()
        wanted = fleet.Wanted(nights=nights, exposures_s=exposures_s, recipe=recipe, certify=certify)
        rows = self._cameras_named(cameras)
        with work(jobs=jobs, scheduler=scheduler) as workers:
            return fleet.build_all(self._engine, self._act(), rows, wanted, workers, progress)

    def _cameras_named(self, names: Sequence[str]) -> list[CameraRow]:
        with reading(self._engine) as connection:
            return [named_camera(connection, name) for name in names] or queries.cameras(connection)

    def import_mask(
        self,
        path: str | Path,
        camera: str,
        *,
        valid_from: str,
        temperature_c: float | None = None,
        bit: int | None = None,
        shape: tuple[int, int] | None = None,
        configuration: Mapping[str, Any] | None = None,
        supersede: bool = False,
        reason: str | None = None,
    ) -> BuildResult:
        """Store a mask from outside as a version of its own, valid from a night on.

        Parameters
        ----------
        path
            FITS (any non-zero pixel, or those with `bit` set), `.npy`, or a list of boxes in ECSV
        shape
            (ny, nx) of the detector, for a list of boxes
        configuration
            of the frames that it is for, by parts as for `mask`; without a part it is unbinned, of the
            whole detector, and silent about the rest
        supersede
            take dates from other masks beyond what is ordinary

        Raises
        ------
        Conflict
            Another mask is in the way; nothing is stored.
        """
        from hotpix_registry.registry import derived

        row = self._camera(camera)
        with reading(self._engine) as connection:
            series = queries.series(connection)
            known = [(m, series[m.series_id]) for m in queries.masks(connection, row.camera_id)]
        foreign = derived.read_foreign(
            Path(path),
            row,
            known,
            valid_from,
            temperature_c,
            configuration=Configuration(**(configuration or {})),
            bit=bit,
            shape=shape,
        )
        packed = derived.pack(foreign, row)
        with self._writing("import", reason) as (connection, tx):
            result = derived.store(connection, packed, row, tx, supersede=supersede)
            if not result.new:
                connection.rollback()
            return result

    def edit_mask(
        self,
        mask_id: int,
        *,
        mask: Sequence[tuple[int, int]] = (),
        unmask: Sequence[tuple[int, int]] = (),
        reason: str,
    ) -> BuildResult:
        """Mask or unmask single pixels (x, y), 0-based, of a mask, as a version of its own.

        It has the standing of that mask: it takes the dates of one that is certified in its place, and
        is a candidate else; its warnings say what certifies it.
        """
        from hotpix_registry.registry import derived

        with reading(self._engine) as connection:
            source = masks.find_mask(connection, mask_id)
            series = queries.series(connection)[source.series_id]
        edited = derived.edit(
            source,
            series,
            content.dq(self._engine, mask_id),
            mask=mask,
            unmask=unmask,
            raw_section=content.raw_section(self._engine, mask_id),
        )
        camera = self._camera(series.camera)
        packed = derived.pack(edited, camera)
        with self._writing("edit", reason) as (connection, tx):
            result = derived.store(connection, packed, camera, tx, source=source)
            if not result.new:
                connection.rollback()
            return result

    def certify(
        self,
        mask_id: int,
        *,
        valid_from: str | None = None,
        valid_to: str | None = None,
        supersede: bool = False,
        force: bool = False,
        expect: int | None = None,
        camera: str | None = None,
        reason: str | None = None,
    ) -> tuple[MaskChange, ...]:
        """Let a mask answer for its dates; returns the dates that now answer otherwise.

        Parameters
        ----------
        valid_from, valid_to
            the interval, half-open; a bare date is the beginning of that night. By default from the
            campaign's first night to the next campaign or epoch event.
        supersede
            take dates from other masks beyond what is ordinary
        force
            although a quality gate had refused the mask
        expect
            transaction number at which the caller looked; refused when the series has moved since
        camera
            whose mask the caller takes it for; refused when it is another's

        Raises
        ------
        Conflict, RevokedMask, UsageError, UnknownId
        """
        if force and not reason:
            raise UsageError("What overrules a gate needs a reason.", next_step="Give it with --reason.")
        with self._writing("certify", reason) as (connection, tx):
            mask, row = _mask_and_camera(connection, mask_id, camera)
            if expect is not None:
                life.check_unmoved(connection, row, mask.series_id, expect, tx)
            changes = life.certify(
                connection,
                row,
                mask_id,
                tx,
                valid_from_us=None if valid_from is None else instant_of(valid_from, row),
                valid_to_us=None if valid_to is None else instant_of(valid_to, row),
                supersede=supersede,
                force=force,
            )
            if not changes:  # an act that changes nothing is none, and leaves no transaction
                connection.rollback()
            return changes

    def decertify(
        self,
        mask_id: int,
        *,
        restore_previous: bool = False,
        expect: int | None = None,
        camera: str | None = None,
        reason: str,
    ) -> Withdrawal:
        """Take all dates from a mask, and give them back to those who held them before, if asked.

        Nothing goes back to a mask that has been revoked or decertified since: these dates have no mask.

        Raises
        ------
        Conflict
            The mask holds no dates, or the series has moved since `expect`.
        """
        with self._writing("decertify", reason) as (connection, tx):
            mask, row = _mask_and_camera(connection, mask_id, camera)
            if expect is not None:
                life.check_unmoved(connection, row, mask.series_id, expect, tx)
            return life.decertify(connection, row, mask_id, tx, restore_previous=restore_previous)

    def revoke(
        self, mask_id: int, *, expect: int | None = None, camera: str | None = None, reason: str
    ) -> list[Validity]:
        """Declare a mask unusable; returns the dates whose answer is an error from now on."""
        with self._writing("revoke", reason) as (connection, tx):
            mask, row = _mask_and_camera(connection, mask_id, camera)
            if expect is not None:
                life.check_unmoved(connection, row, mask.series_id, expect, tx)
            return life.revoke(connection, mask_id, reason, tx)

    def lift_revocation(
        self, mask_id: int, *, expect: int | None = None, camera: str | None = None, reason: str
    ) -> list[Validity]:
        """Take a revocation back; returns the dates that the mask answers again."""
        with self._writing("lift revocation", reason) as (connection, tx):
            mask, row = _mask_and_camera(connection, mask_id, camera)
            if expect is not None:
                life.check_unmoved(connection, row, mask.series_id, expect, tx)
            return life.lift_revocation(connection, mask_id, tx)

    # --- epochs ---------------------------------------------------------------------

    def events(self, camera: str) -> list[Event]:
        """A camera's epoch events in the order of time."""
        with reading(self._engine) as connection:
            return queries.events(connection, named_camera(connection, camera).camera_id)

    def add_event(
        self, camera: str, date: str, kind: EventKind, *, note: str = "", trim: bool = False
    ) -> EventResult:
        """End an epoch of a camera: no interval, campaign, borrowing or fallback crosses the event.

        Parameters
        ----------
        date
            an instant, or a night, at whose beginning the event then lies
        trim
            cut what masks hold across an event in the past; for one still to come that is ordinary

        Raises
        ------
        Conflict
            Masks hold dates across it; nothing is written.
        """
        with self._writing(f"event {kind}", note or None) as (connection, tx):
            row = named_camera(connection, camera)
            at_us = labelled_us(when(date, row.profile.longitude_deg_east))
            past = at_us < now_us()
            return events.add_event(connection, row, at_us, kind, note, tx, trim=trim or not past)

    def remove_event(self, camera: str, event_id: int, *, reason: str) -> Event:
        """Take an event back; masks keep the dates that they hold."""
        with self._writing("remove event", reason) as (connection, tx):
            return events.remove_event(connection, named_camera(connection, camera), event_id, tx)


def _mask_and_camera(connection: Connection, mask_id: int, expected: str | None) -> tuple[MaskRow, CameraRow]:
    """A mask with its camera, which must be the expected one, where one is expected."""
    mask = masks.find_mask(connection, mask_id)
    series = queries.series(connection)[mask.series_id]
    camera = named_camera(connection, series.camera)
    if expected is not None and (other := named_camera(connection, expected)) != camera:
        raise UsageError(
            f"Mask {mask_id} is of camera {camera.name}, not of {other.name}.",
            next_step=f"`hotpix-registry masks --camera {other.name}` lists the masks of that one.",
        )
    return mask, camera
