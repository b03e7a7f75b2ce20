"""What a frame means: its camera, its series, its twins; and how people correct that."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from hotpix_registry.cameras import (
    CameraProfile,
    check_camera_name,
    provisional_profile,
    recognise,
    shipped_camera_profiles,
)
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.queries import CameraRow, Reading
from hotpix_registry.domain import Facts, Kind
from hotpix_registry.errors import UnknownCamera, UnreadableFrame, UsageError

CORRECTABLE: Mapping[str, type] = {
    "exptime_s": float,
    "start": str,
    "kind": str,
    "set_temp_c": float,
    "ccd_temp_c": float,
    "n_combined": int,
    "unit": str,
    "bias_subtracted": bool,
    "gain_e_per_adu": float,
    "camera": str,
}
"""What `frames fix --set` takes, and as what."""

_UNITS = ("adu", "electron", "adu/s", "electron/s")
_RANGES: Mapping[str, tuple[float, float]] = {
    "exptime_s": (0.0, 1e9),
    "set_temp_c": (-273.15, 100.0),
    "ccd_temp_c": (-273.15, 100.0),
    "n_combined": (1, 1_000_000),
    "gain_e_per_adu": (1e-6, 1e6),
}


class CameraBook:
    """The cameras of a registry within one transaction, found by name or by a frame's header.

    `tx` None: a rehearsal, in which new cameras are registered in the book alone, under negative ids.
    """

    def __init__(self, connection: Connection, tx: int | None) -> None:
        self._connection, self._tx = connection, tx
        self._rows = queries.cameras(connection)
        self._shipped: tuple[CameraProfile, ...] | None = None
        self.notices: list[str] = []

    def camera_of(self, facts: Facts, given: str | None) -> CameraRow:
        """The camera of a frame: the one given, one that its header fits, or a new one.

        Raises
        ------
        UnreadableFrame
            The header fits no camera or several, or the camera was not in service then.
        UnknownCamera
            The name that was given looks like a mistyped one.
        """
        camera = self._given(given, facts) if given is not None else self._recognised(facts)
        check_service(camera.name, camera.profile, facts)
        return camera

    def _given(self, name: str, facts: Facts) -> CameraRow:
        found = find_camera(self._rows, name)
        if found is not None:
            return found
        for profile in self._from_shelf():
            if profile.name == name:
                return self._register(profile)
        if difflib.get_close_matches(name, known_names(self._rows), 1, 0.8):
            raise unknown_camera(self._rows, name)
        check_camera_name(name)
        blank = provisional_profile(dataclasses.replace(facts, instrument=facts.instrument or name), set())
        # a name given by hand says which body it is; a header's "ASCOM Camera" must not recognise it later
        instruments = blank.instruments if facts.instrument is not None else ()
        return self._register(dataclasses.replace(blank, name=name, instruments=instruments))

    def _recognised(self, facts: Facts) -> CameraRow:
        profile = recognise_one(facts, [row.profile for row in self._rows], self._from_shelf)
        if profile is None:
            return self._register(provisional_profile(facts, set(known_names(self._rows))))
        known = next((row for row in self._rows if row.profile is profile), None)
        return known or self._register(profile)

    def _from_shelf(self) -> tuple[CameraProfile, ...]:
        if self._shipped is None:
            taken = set(known_names(self._rows))
            self._shipped = tuple(p for p in shipped_camera_profiles() if p.name not in taken)
        return self._shipped

    def _register(self, profile: CameraProfile) -> CameraRow:
        if self._tx is None:
            pretended = -1 - len(self._rows)
            row = CameraRow(pretended, profile.name, (), profile, pretended)
        else:
            row = queries.add_camera(self._connection, profile, self._tx)
        self._rows.append(row)
        self._shipped = None
        if not profile.provisional:
            self.notices.append(f"Camera {row.name} is registered from the profile that ships with us.")
            return row
        bodies = (
            f"It is told from others of its model by its serial number {profile.serials[0]}."
            if profile.serials
            else "Its header has no serial number, so all bodies of this name are assumed to be one."
        )
        self.notices.append(
            f"Camera {row.name} is new and provisional: {profile.summary}. {bodies} "
            f"See `hotpix-registry cameras show {row.name}`, then `cameras confirm {row.name}`."
        )
        return row


def recognise_one(
    facts: Facts, known: Sequence[CameraProfile], shelf: Callable[[], Sequence[CameraProfile]]
) -> CameraProfile | None:
    """The one profile that a header fits, of those known or else of those on the shelf; None: a new camera.

    Raises
    ------
    UnreadableFrame
        It fits several, or names no camera.
    """
    fitting = recognise(facts, known) or recognise(facts, shelf())
    if len(fitting) > 1:
        names = " and ".join(sorted(profile.name for profile in fitting))
        raise UnreadableFrame(f"Its header fits the cameras {names}.", next_step="Say which with --camera.")
    if not fitting and facts.instrument is None:
        raise UnreadableFrame(
            "Its header does not say which camera took it.", next_step="Name it with --camera."
        )
    return fitting[0] if fitting else None


def check_service(name: str, profile: CameraProfile, facts: Facts) -> None:
    """Raise `UnreadableFrame` for a frame from before or after the service of its camera."""
    start_us = facts.start_us or 0
    if not profile.in_service(start_us):
        raise UnreadableFrame(
            f"It was taken in the night {profile.night_of(start_us)}, outside the service of camera {name} "
            f"({profile.service_from or '…'} to {profile.service_to or '…'}).",
            next_step="Correct the header's date or the camera's [service].",
        )


def known_names(rows: list[CameraRow]) -> list[str]:
    return [name for row in rows for name in (row.name, *row.aliases)]


def find_camera(rows: list[CameraRow], name: str) -> CameraRow | None:
    return next((row for row in rows if name == row.name or name in row.aliases), None)


def camera_named(rows: list[CameraRow], name: str) -> CameraRow:
    """A camera by name or alias.

    Raises
    ------
    UnknownCamera
        With the nearest name there is.
    """
    found = find_camera(rows, name)
    if found is None:
        raise unknown_camera(rows, name)
    return found


def unknown_camera(rows: list[CameraRow], name: str) -> UnknownCamera:
    names = known_names(rows)
    nearest = difflib.get_close_matches(name, names, 1, 0.5)
    if nearest:
        hint = f"Did you mean {nearest[0]}?"
    elif names:
        hint = f"Known are {', '.join(sorted(names))}."
    else:
        hint = "No camera is registered yet: `hotpix-registry ingest` registers them from their frames."
    return UnknownCamera(f"There is no camera {name}.", next_step=hint)


def find_twin(
    connection: Connection, camera_id: int, facts: Facts, *, other_than: Container[int] = ()
) -> int | None:
    """The frame that is the same exposure by what headers say, if one is catalogued."""
    twins = queries.same_exposures(
        connection,
        camera_id,
        str(facts.kind),
        facts.start_us or 0,
        facts.exptime_s or 0.0,
        facts.shape,
    )
    return next((frame_id for frame_id in twins if frame_id not in other_than), None)


def may_be_several(facts: Facts) -> bool:
    """Whether several exposures can share start and exposure time, too short for their clock.

    Two biases in one second do with a header that knows whole seconds; pixels alone tell them apart.
    """
    return (facts.exptime_s or 0.0) <= facts.start_precision_s


def reading_of(
    connection: Connection,
    camera: CameraRow,
    facts: Facts,
    *,
    twin_of: int | None,
    tx: int,
    known_series: dict[Any, int] | None = None,
) -> Reading:
    """What a frame means under its camera's profile; its series is made if it is new.

    `known_series` remembers the series of one transaction from frame to frame.
    """
    set_point = camera.profile.set_point_of(facts)
    series_id = None
    if set_point is not None:
        known_series = {} if known_series is None else known_series
        key = (camera.camera_id, facts.configuration, set_point)
        series_id = known_series.get(key)
        if series_id is None:
            series_id = queries.series_id(connection, *key, tx)
            known_series[key] = series_id
    night = camera.profile.night_of(facts.start_us or 0)
    return Reading(camera.camera_id, series_id, night, facts, twin_of)


def parse_correction(text: str) -> tuple[str, Any]:
    """Read `exptime_s=60` of `frames fix --set`.

    Raises
    ------
    UsageError
        An unknown field, or a value that does not fit it.
    """
    name, equals, value = text.partition("=")
    name, value = name.strip(), value.strip()
    if not equals or name not in CORRECTABLE:
        raise UsageError(
            f"'{text}' is no correction.",
            next_step=f"Write FIELD=VALUE; fields are {', '.join(CORRECTABLE)}.",
        )
    kind = CORRECTABLE[name]
    try:
        if kind is bool:
            return name, {"true": True, "yes": True, "false": False, "no": False}[value.lower()]
        if name == "kind":
            return name, str(Kind(value))
        if name == "start":
            return name, _instant_us(value)
        if name == "unit" and value not in _UNITS:
            raise ValueError(f"it is none of {', '.join(_UNITS)}")
        if kind is str:
            return name, value
        number = kind(value)
        low, high = _RANGES[name]
        if not low <= number <= high:
            raise ValueError(f"it must lie between {low:g} and {high:g}")
        return name, number
    except (ValueError, KeyError) as error:
        raise UsageError(
            f"'{value}' does not fit {name}: {error}.", next_step="Write another value."
        ) from None


def _instant_us(text: str) -> int:
    from hotpix_registry.instants import parse_date

    instant = parse_date(text)
    if not isinstance(instant, int):
        raise ValueError("it needs a time, such as 2018-08-22T04:00:00Z")
    return instant


def corrected(facts: Facts, corrections: Mapping[str, Any]) -> Facts:
    """Facts with an operator's corrections, each of which says `correction` as its source."""
    values: dict[str, Any] = {}
    for name, value in corrections.items():
        if name == "start":
            values |= {"start_us": value, "start_precision_s": 1e-6}
        elif name == "kind":
            values["kind"] = Kind(value)
        elif name not in ("camera", "excluded"):
            values[name] = value
    if not values:
        return facts
    sources = dict(facts.sources) | dict.fromkeys(values, "correction")
    return dataclasses.replace(facts, **values, sources=sources, problems=())
