"""The registry as it is, or as it was at a transaction: what the look-ups of one reading share."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Hashable, Iterator
from copy import copy
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple, Self, TypeVar, cast

from sqlalchemy.engine import Connection

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.prompt import Driver, Prompt
from hotpix_registry.catalogue.queries import Assignment, CameraRow, Event, MaskRow, Release, Revocation
from hotpix_registry.domain import Series
from hotpix_registry.errors import UnknownCamera, UnknownId, UsageError
from hotpix_registry.instants import US_PER_DAY, Night, Validity, parse_date, to_us
from hotpix_registry.registry.frames import camera_named, find_camera
from hotpix_registry.registry.masks import campaign_validity, epochs_us, reasons_to_rebuild, sources_of

T = TypeVar("T")

_BATCH = 50
_MOST_KEPT = 5000
_NOTHING: Any = object()


class Memory:
    """What was read of a registry, kept from one look-up to the next until something is written.

    All that is kept here hangs on a transaction number, so none of it can change before the newest does.

    Parameters
    ----------
    lag
        says of a mirror that it is older than it may be; None: it is not, or no mirror
    """

    def __init__(self, lag: Callable[[], str | None] = lambda: None) -> None:
        self.lag = lag
        self.state = -1, dict[Hashable, Any]()
        """the newest transaction, and what was kept of its state"""

    def of(self, newest_tx: int) -> dict[Hashable, Any]:
        known_tx, kept = self.state
        if known_tx != newest_tx or len(kept) > _MOST_KEPT:
            kept = {}
            self.state = newest_tx, kept  # at once, since threads of a service share a registry
        return kept


class Standing(NamedTuple):
    """What a state of the registry says of a mask."""

    mask: MaskRow
    series: Series
    series_name: str
    nights: Validity
    """from the start of the first night of its darks to the end of the last"""
    revocation: Revocation | None
    """why it is unusable"""
    revoked_source: Revocation | None
    """why a mask is unusable that it was made from"""
    revoked_since: Revocation | None
    """why it is unusable since a later state"""
    reason_to_rebuild: str | None
    """why no build would make it of its frames now, and what to do"""
    newer_candidates: tuple[int, ...]
    """later versions of its series that wait to be certified"""


class View:
    """One state of the registry; what was read once is kept.

    Parameters
    ----------
    at
        transaction number; None is the state of now
    memory
        what earlier views have kept
    """

    def __init__(self, connection: Connection, at: int | None = None, memory: Memory | None = None) -> None:
        self._connection, self.at = connection, at
        self._newest_tx = queries.last_tx(connection)
        memory = memory or Memory()
        self._kept, self.lag = memory.of(self._newest_tx), memory.lag

    @property
    def connection(self) -> Connection:
        return self._connection

    def moved(self, as_of: int | str | None, release: str | None) -> Self:
        """The state that `as_of` or `release` means; neither means this one.

        Raises
        ------
        UsageError, UnknownId
            As `moment` does.
        """
        if as_of is None and release is None:
            return self
        other = copy(self)
        other.at = self._keep_at(None, _moment, None if as_of is None else str(as_of), release)
        return other

    def _keep(self, read: Callable[..., T], *arguments: Any) -> T:
        """What a query says of this state; asked once."""
        return self._keep_at(self.at, read, *arguments)

    def _keep_at(self, at: int | None, read: Callable[..., T], *arguments: Any) -> T:
        key = (read, at, *arguments)
        found: T | None = self._kept.get(key, _NOTHING)
        if found is _NOTHING:
            found = self._kept[key] = read(self.connection, *arguments, at=at)
        return cast(T, found)

    @property
    def tx(self) -> int:
        """The number of the newest transaction that is seen."""
        return self._newest_tx if self.at is None else self.at

    @property
    def registry_id(self) -> str:
        """The name under which the registry went at that transaction."""
        return self._keep(_registry_id)

    @property
    def cameras(self) -> list[CameraRow]:
        return self._keep(queries.cameras)

    @property
    def cameras_now(self) -> list[CameraRow]:
        return self._keep_at(None, queries.cameras)

    def camera(self, name: str) -> CameraRow:
        """A camera by a name or alias that it has in this state, or else that it has now.

        Raises
        ------
        UnknownCamera
        """
        now = None if find_camera(self.cameras, name) else find_camera(self.cameras_now, name)
        if now is not None:
            for row in self.cameras:
                if row.camera_id == now.camera_id:
                    return row
            raise UnknownCamera(
                f"Camera {name} was not registered yet at transaction {self.at}.",
                next_step="`hotpix-registry log` shows what was written when.",
            )
        return camera_named(self.cameras, name)

    def series(self, camera: CameraRow) -> dict[int, Series]:
        return self._keep(queries.series, camera.camera_id)

    def events(self, camera: CameraRow) -> list[Event]:
        return self._keep(queries.events, camera.camera_id)

    def epochs_us(self, camera: CameraRow) -> tuple[int, ...]:
        """Where the epochs of a camera begin."""
        return epochs_us(self.events(camera), camera)

    def standing(self, mask_id: int, camera: CameraRow) -> Standing:
        """What this state says of a mask of a camera, whatever is asked."""
        key = Standing, self.at, mask_id
        found: Standing | None = self._kept.get(key)
        if found is None:
            found = self._kept[key] = self._standing(mask_id, camera)
        return found

    def _standing(self, mask_id: int, camera: CameraRow) -> Standing:
        mask = queries.mask(self.connection, mask_id)
        assert mask is not None
        series = self.series(camera)[mask.series_id]
        revoked, waiting = (
            self._keep(queries.revocations, None),
            self._keep(queries.candidates, series.series_id),
        )
        return Standing(
            mask=mask,
            series=series,
            series_name=str(series),
            nights=campaign_validity(mask.first_night, mask.last_night, camera),
            revocation=revoked.get(mask_id),
            revoked_source=next((revoked[m] for m in self._ancestors(mask) if m in revoked), None),
            revoked_since=self._revoked_since(mask_id),
            reason_to_rebuild=self._reason_to_rebuild(mask, camera),
            newer_candidates=tuple(number for version, number in waiting if version > mask.version),
        )

    def _revoked_since(self, mask_id: int) -> Revocation | None:
        if self.at is None:
            return None
        now = self._keep_at(None, queries.revocations, None).get(mask_id)
        return now if now is not None and now.opened_tx > self.at else None

    def _reason_to_rebuild(self, mask: MaskRow, camera: CameraRow) -> str | None:
        events_us = self.epochs_us(camera)
        if not events_us and not self._keep(queries.any_frame_moved):
            return None
        return reasons_to_rebuild(self.connection, [mask], events_us, at=self.at).get(mask.id)

    def _ancestors(self, mask: MaskRow) -> Iterator[int]:
        for source in sources_of(self.connection, mask):
            yield source.id
            yield from self._ancestors(source)

    def masks_of(self, series_id: int) -> list[MaskRow]:
        return queries.masks(self.connection, series_id=series_id, at=self.at)

    def within(self, series_id: int, interval: Validity) -> list[Assignment]:
        """Assignments that touch an interval, in the order of time."""
        return queries.assignments_within(Driver.of(self.connection), series_id, interval, self.at)[1]

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


class Unremembered(Exception):
    """Something was written since, or something is asked for the first time."""


class Remembered(View):
    """The state of now out of memory alone, except for the dates; no transaction holds it.

    What is asked for the dates says which transaction was the newest then. As long as that is the one of
    the memory, all is of one state.
    """

    def __init__(self, prompt: Prompt, memory: Memory) -> None:
        self._prompt, self.at = prompt, None
        self._newest_tx, self._kept = memory.state
        self.lag = memory.lag

    @property
    def connection(self) -> Connection:
        raise Unremembered

    def within(self, series_id: int, interval: Validity) -> list[Assignment]:
        newest_tx, found = self._prompt.ask(queries.assignments_within, series_id, interval, self.at)
        if newest_tx != self._newest_tx:
            raise Unremembered
        return found


def _moment(connection: Connection, as_of: str | None, release: str | None, *, at: None) -> int | None:
    return moment(connection, as_of, release)


def _registry_id(connection: Connection, *, at: int | None) -> str:
    if at is None:
        return queries.registry_id(connection)
    known = queries.registry_ids(connection)
    return next((r.registry_id for r in reversed(known) if r.from_tx <= at), known[0].registry_id)


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
    if text.isdecimal() and len(text) < 10 and not is_day(text):
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


def is_day(text: str) -> bool:
    """Whether a number is a date written without hyphens, such as 20180822."""
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
    names = [release.name for release in known]
    if near := difflib.get_close_matches(name, names, n=1):
        next_step = f"Did you mean {near[0]}?"
    elif names:
        next_step = f"Known are {', '.join(names)}."
    else:
        next_step = "`hotpix-registry release create` makes one."
    raise UnknownId(f"There is no release {name}.", next_step=next_step)


def instant_of(text: str, camera: CameraRow) -> int:
    """The instant of a date; a bare date is the beginning of that night at the camera.

    Raises
    ------
    UsageError
    """
    return when(text, camera.profile.longitude_deg_east).start_us


def labelled_us(interval: Validity) -> int:
    """An instant of the night that a date is counted to, as frames are: it says which epoch is meant."""
    is_anywhere = interval.end_us == interval.start_us + 2 * US_PER_DAY
    return interval.start_us + (US_PER_DAY // 2 if is_anywhere else 0)


def when(text: str, longitude_deg_east: float | None) -> Validity:
    """The instant or night of a `--date`, as an interval."""
    try:
        parsed = parse_date(text)
    except ValueError as error:
        raise UsageError(f"{error}.") from None
    if isinstance(parsed, date):
        return Night(parsed, longitude_deg_east).validity
    return Validity(parsed, parsed + 1)
