"""Where one answer ends and another begins: the last microsecond, noon, midnight, the date line."""

from __future__ import annotations

import re

import pytest

from hotpix_registry import Registry
from hotpix_registry.cameras import CameraProfile
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import writing
from hotpix_registry.catalogue.queries import Act, CameraRow
from hotpix_registry.errors import AmbiguousMask, HotpixError, NoMask, UnknownCamera, UsageError
from hotpix_registry.instants import iso, parse_date
from hotpix_registry.registry import life
from tests.plain_masks import add_camera, add_mask


def instant(text: str) -> int:
    moment = parse_date(text)
    assert isinstance(moment, int)
    return moment


def camera_at(registry: Registry, longitude_deg_east: float | None) -> CameraRow:
    return add_camera(registry, CameraProfile(name="aspen", longitude_deg_east=longitude_deg_east))


def built(registry: Registry, camera: CameraRow, *nights: str) -> None:
    """Masks 1, 2, 3… of these nights, each of a dark in the middle of it."""
    for night in nights:
        start_us = instant(f"{night}T12:00:00Z") - round((camera.profile.longitude_deg_east or 0) * 240e6)
        add_mask(registry, camera, (night, night), [start_us + 12 * 3600 * 10**6])


def asked(registry: Registry, date: str, *, camera: str = "aspen", **options: object) -> int:
    return registry.mask(camera, date, **options).answer.mask_id  # type: ignore[arg-type]


# --- the change of masks ----------------------------------------------------------------------------


def test_the_change_itself_belongs_to_the_later_mask(registry: Registry) -> None:
    built(registry, camera_at(registry, 0.0), "2018-08-22", "2019-08-22")
    assert asked(registry, "2019-08-22T11:59:59.999999Z") == 1
    assert asked(registry, "2019-08-22T12:00:00Z") == 2
    assert asked(registry, "2019-08-22T12:00:00.000001Z") == 2


def test_the_end_itself_belongs_to_no_mask(registry: Registry) -> None:
    built(registry, camera_at(registry, 0.0), "2018-08-22")
    registry.certify(1, valid_from="2018-08-22", valid_to="2018-09-01T06:00:00.000001Z")
    assert asked(registry, "2018-09-01T06:00:00Z") == 1
    for outside in ("2018-09-01T06:00:00.000001Z", "2018-08-22T11:59:59.999999Z"):
        with pytest.raises(NoMask):
            asked(registry, outside)


def test_masks_change_at_noon_at_the_site(registry: Registry) -> None:
    for number, longitude in enumerate((-180.0, -179.9, -105.0, -0.1, 0.0, 0.1, 149.1, 179.9, 180.0)):
        name = f"at-{number}"
        camera = add_camera(registry, CameraProfile(name=name, longitude_deg_east=longitude))
        built(registry, camera, "2018-08-22", "2019-08-22")
        earlier, later = 2 * number + 1, 2 * number + 2
        noon = registry.mask(name, "2019-08-22").answer.valid_from
        assert instant(noon) == instant("2019-08-22T12:00:00Z") - round(longitude * 240e6)
        assert asked(registry, noon, camera=name) == asked(registry, "2019-08-22", camera=name) == later
        before = iso(instant(noon) - 1) or ""
        assert asked(registry, before, camera=name) == asked(registry, "2019-08-21", camera=name) == earlier


def test_a_night_in_which_the_mask_changes_needs_a_time(registry: Registry) -> None:
    built(registry, camera_at(registry, -105.0), "2018-08-22")
    registry.add_event("aspen", "2019-03-05T04:00:00Z", "warmup", trim=True)
    add_mask(
        registry, registry.camera("aspen"), ("2019-03-04", "2019-03-04"), [instant("2019-03-05T06:00:00Z")]
    )
    with pytest.raises(AmbiguousMask) as caught:
        asked(registry, "2019-03-04")
    assert "changes within the night 2019-03-04" in str(caught.value)
    assert "mask 1 from 2019-03-04T19:00:00Z; mask 2 from 2019-03-05T04:00:00Z" in str(caught.value)
    (proposed,) = re.findall(r"such as --date (\S+)\.$", str(caught.value))
    assert asked(registry, proposed) == 2
    assert asked(registry, "2019-03-05T03:59:59.999999Z") == 1
    assert asked(registry, "2019-03-03") == 1
    assert asked(registry, "2019-03-05") == 2


def test_a_night_of_which_a_mask_holds_a_part_needs_a_time(registry: Registry) -> None:
    built(registry, camera_at(registry, 0.0), "2018-08-22")
    registry.certify(1, valid_from="2018-08-22T22:00:00Z", valid_to="2018-08-24T22:00:00Z")
    with pytest.raises(AmbiguousMask, match=r"none from 2018-08-22T12:00:00Z; mask 1 from 2018-08-22T22"):
        asked(registry, "2018-08-22")
    assert asked(registry, "2018-08-23") == 1
    with pytest.raises(AmbiguousMask, match=r"mask 1 from 2018-08-24T12:00:00Z; none from 2018-08-24T22"):
        asked(registry, "2018-08-24")


def test_without_a_longitude_a_night_is_that_night_anywhere_on_earth(registry: Registry) -> None:
    built(registry, camera_at(registry, None), "2018-08-22", "2019-08-22")
    assert asked(registry, "2019-08-20") == 1
    with pytest.raises(AmbiguousMask, match=r"mask 1 from 2019-08-21.*mask 2 from 2019-08-22T00:00:00Z"):
        asked(registry, "2019-08-21")
    assert asked(registry, "2019-08-22") == 2
    assert asked(registry, "2019-08-21T23:59:59.999999Z") == 1


# --- how a date is written ----------------------------------------------------------------------------


NEIGHBOURS = [
    # clocks go forward in Denver at 2019-03-10T09:00Z, and back in Berlin at 2019-10-27T01:00Z
    ("2019-03-10T01:59:59-07:00", "2019-03-10T03:00:00-06:00"),
    ("2019-10-27T02:59:59+02:00", "2019-10-27T02:00:00+01:00"),
    ("2016-12-31T23:59:59.999999Z", "2016-12-31T23:59:60Z"),
    ("2016-12-31T23:59:59Z", "2017-01-01T00:00:00Z"),
    ("2017-01-01T08:59:59+09:00", "2017-01-01T08:59:60+09:00"),
    ("2020-02-29T23:59:59Z", "2020-03-01T00:00:00Z"),
    ("2020-02-28T23:59:59Z", "2020-02-29T00:00:00Z"),
    ("2100-02-28T23:59:59Z", "2100-03-01T00:00:00Z"),
    ("1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z"),
    ("1899-12-31T23:59:59Z", "1900-01-01T00:00:00Z"),
    ("MJD58352.499999", "MJD58352.5"),
    ("JD2458352.999999", "JD 2458353"),
    ("58352.49999999999", "58352.5"),
    ("9999-12-27T23:59:58Z", "9999-12-27T23:59:59Z"),
]
"""the last moment of one mask and the first of the next"""


def test_neighbouring_moments_fall_on_either_side(registry: Registry) -> None:
    built(registry, camera_at(registry, 0.0), "1950-01-01", "1950-02-01")
    for last, first in NEIGHBOURS:
        registry.certify(1, valid_from="1850-01-01", valid_to=first, supersede=True)
        registry.certify(2, valid_from=first, supersede=True)
        assert (asked(registry, last), asked(registry, first)) == (1, 2), first


def test_any_year_has_its_nights(registry: Registry) -> None:
    years = (1904, 1950, 1969, 1970, 2000, 2100, 2399)
    built(registry, camera_at(registry, -105.0), *(f"{year}-08-22" for year in years))
    for number, year in enumerate(years, start=1):
        assert asked(registry, f"{year}-08-22") == number
        mask = registry.mask("aspen", f"{year}-12-31", allow_revoked=True)
        assert registry.replay(mask.answer.receipt).answer.mask_id == mask.answer.mask_id
    assert asked(registry, "1969-12-31") == asked(registry, "1970-01-01T00:00:00Z") == 3


def test_moments_that_never_were_are_refused(registry: Registry) -> None:
    built(registry, camera_at(registry, 0.0), "2018-08-22")
    for text in (
        "2021-02-29",
        "2100-02-29",
        "2018-08-22T04:00:60Z",
        "2017-06-15T23:59:60Z",
        "2018-08-22T24:00:00Z",
    ):
        with pytest.raises(UsageError, match="cannot be read as a date"):
            asked(registry, text)


# --- transaction time ------------------------------------------------------------------------------------

NOON_US = instant("2030-01-01T12:00:00Z")


def revoked_at(registry: Registry, at_us: int, mask_id: int) -> int:
    """Revoke a mask in a transaction of a given time; returns its number."""
    with writing(registry._engine) as connection:
        tx = queries.open_transaction(connection, Act("a", "b", "c"), "revoke", now_us=at_us)
        life.revoke(connection, mask_id, "light leak", tx)
    return tx


def test_an_act_is_seen_from_its_own_microsecond_on(registry: Registry) -> None:
    built(registry, camera_at(registry, 0.0), "2018-08-22")
    revoked_at(registry, NOON_US, 1)
    assert asked(registry, "2018-08-22", as_of="2030-01-01T11:59:59.999999Z") == 1
    with pytest.raises(HotpixError, match="was revoked"):
        asked(registry, "2018-08-22", as_of="2030-01-01T12:00:00Z")


def test_of_acts_in_one_microsecond_a_time_sees_all_and_a_number_each(registry: Registry) -> None:
    built(registry, camera_at(registry, 0.0), "2018-08-22", "2019-08-22")
    first = revoked_at(registry, NOON_US, 1)
    second = revoked_at(registry, NOON_US, 2)
    assert asked(registry, "2018-08-22", as_of=first - 1) == 1
    assert asked(registry, "2019-08-22", as_of=first) == 2
    for as_of in (second, "2030-01-01T12:00:00Z", "2030-01-01"):
        for date in ("2018-08-22", "2019-08-22"):
            with pytest.raises(HotpixError, match="was revoked"):
                asked(registry, date, as_of=as_of)
    assert asked(registry, "2019-08-22", as_of="2030-01-01T11:59:59.999999Z") == 2


def test_a_clock_that_goes_back_does_not_take_time_back(registry: Registry) -> None:
    built(registry, camera_at(registry, 0.0), "2018-08-22", "2019-08-22")
    revoked_at(registry, NOON_US, 1)
    revoked_at(registry, NOON_US - 3600 * 10**6, 2)
    assert asked(registry, "2019-08-22", as_of="2030-01-01T11:30:00Z") == 2
    assert registry.log()[-1]["at"] == "2030-01-01T12:00:00Z"


def test_before_all_there_was_no_camera(registry: Registry) -> None:
    built(registry, camera_at(registry, 0.0), "2018-08-22")
    with pytest.raises(UnknownCamera, match="aspen was not registered yet"):
        asked(registry, "2018-08-22", as_of="1990-01-01T00:00:00Z")
    for number in (0, 99):
        with pytest.raises(UsageError, match=f"no transaction {number}"):
            asked(registry, "2018-08-22", as_of=number)
    with pytest.raises(NoMask):
        asked(registry, "2018-08-22", as_of=1)
