"""The registry as it is, or as it was at a transaction: what the look-ups of one reading share."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from functools import cached_property

from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.queries import Assignment, CameraRow, Event, MaskRow, Release
from hotpix_registry.domain import Night, Series, Validity, parse_date, to_us
from hotpix_registry.errors import UnknownCamera, UnknownId, UsageError
from hotpix_registry.registry.frames import find_camera, unknown_camera

_BATCH = 50


class View:
    """One state of the registry; what was read once is kept.

    Parameters
    ----------
    at
        transaction number; None is the state of now
    """

    def __init__(self, connection: Connection, at: int | None = None) -> None:
        self.connection, self.at = connection, at
        self._series: dict[int, dict[int, Series]] = {}
        self._events: dict[int, list[Event]] = {}

    @cached_property
    def tx(self) -> int:
        """The number of the newest transaction that is seen."""
        return queries.last_tx(self.connection) if self.at is None else self.at

    @cached_property
    def registry_id(self) -> str:
        """The name under which the registry went at that transaction."""
        if self.at is None:
            return queries.registry_id(self.connection)
        known = queries.registry_ids(self.connection)
        return next((r.registry_id for r in reversed(known) if r.from_tx <= self.tx), known[0].registry_id)

    @cached_property
    def cameras(self) -> list[CameraRow]:
        return queries.cameras(self.connection, at=self.at)

    def camera(self, name: str) -> CameraRow:
        """A camera by name or alias.

        Raises
        ------
        UnknownCamera
        """
        found = find_camera(self.cameras, name)
        if found is None and self.at is not None and find_camera(queries.cameras(self.connection), name):
            raise UnknownCamera(
                f"Camera {name} was not registered yet at transaction {self.at}.",
                next_step="`hotpix-registry log` shows what was written when.",
            )
        if found is None:
            raise unknown_camera(self.cameras, name)
        return found

    def series(self, camera: CameraRow) -> dict[int, Series]:
        if camera.camera_id not in self._series:
            self._series[camera.camera_id] = queries.series(self.connection, camera.camera_id, at=self.at)
        return self._series[camera.camera_id]

    def events(self, camera: CameraRow) -> list[Event]:
        if camera.camera_id not in self._events:
            self._events[camera.camera_id] = queries.events(self.connection, camera.camera_id, at=self.at)
        return self._events[camera.camera_id]

    def masks_of(self, series_id: int) -> list[MaskRow]:
        return queries.masks(self.connection, series_id=series_id, at=self.at)

    def within(self, series_id: int, interval: Validity) -> list[Assignment]:
        return queries.assignments_within(self.connection, series_id, interval, at=self.at)

    def before(self, series_id: int, instant_us: int) -> Iterator[Assignment]:
        """Assignments that begin before an instant, the nearest first."""
        while batch := queries.assignments_before(
            self.connection, series_id, instant_us, limit=_BATCH, at=self.at
        ):
            yield from batch
            instant_us = batch[-1].validity.start_us

    def after(self, series_id: int, instant_us: int) -> Iterator[Assignment]:
        """Assignments that begin after an instant, the nearest first."""
        while batch := queries.assignments_after(
            self.connection, series_id, instant_us, limit=_BATCH, at=self.at
        ):
            yield from batch
            instant_us = batch[-1].validity.start_us


def moment(connection: Connection, as_of: int | str | None, release: str | None) -> int | None:
    """The transaction number that `--as-of` or `--release` means; None for now.

    Raises
    ------
    UsageError, UnknownId
        Both were given, or what was given cannot be read or is not there.
    """
    if release is not None:
        if as_of is not None:
            raise UsageError("A release is an --as-of of its own.", next_step="Give one of them.")
        return find_release(connection, release).at_tx
    if as_of is None:
        return None
    last = queries.last_tx(connection)
    text = str(as_of).strip().removeprefix("tx")
    if text.isdecimal() and len(text) < 10 and not _is_day(text):
        if not 0 < int(text) <= last:
            raise UsageError(
                f"There is no transaction {text}; the newest is {last}.",
                next_step="`hotpix-registry log` lists them.",
            )
        return int(text)
    try:
        parsed = parse_date(text)
    except ValueError as error:
        raise UsageError(f"{error}.") from None
    if isinstance(parsed, date):  # all that was known when that day ended, in UTC
        parsed = to_us(datetime.fromisoformat(f"{parsed}T00:00:00+00:00") + timedelta(days=1)) - 1
    return queries.tx_at(connection, parsed)


def _is_day(text: str) -> bool:
    return len(text) == 8 and text[:2] in ("19", "20", "21")


def find_release(connection: Connection, name: str) -> Release:
    """A release by its name.

    Raises
    ------
    UnknownId
    """
    known = queries.releases(connection)
    for release in known:
        if release.name == name:
            return release
    names = ", ".join(release.name for release in known)
    raise UnknownId(
        f"There is no release {name}.",
        next_step=f"Known are {names}." if names else "`hotpix-registry release create` makes one.",
    )


def instant_of(text: str, camera: CameraRow) -> int:
    """The instant of a date; a bare date is the beginning of that night at the camera.

    Raises
    ------
    UsageError
    """
    return when(text, camera.profile.longitude_deg_east).start_us


def when(text: str, longitude_deg_east: float | None) -> Validity:
    """The instant or night of a `--date`, as an interval."""
    try:
        parsed = parse_date(text)
    except ValueError as error:
        raise UsageError(f"{error}.") from None
    if isinstance(parsed, date):
        return Night(parsed, longitude_deg_east).validity
    return Validity(parsed, parsed + 1)
