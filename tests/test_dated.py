"""What changed one day at a detector, by a dated section of its camera's profile: it counts by night."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from hotpix_registry.cameras import load_camera_profile
from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.errors import Conflict, ProfileError
from hotpix_registry.instants import parse_date
from hotpix_registry.registry import Registry
from tests.small_camera import write_campaign
from tests.story import import_pixels

CAMERA = "smallcam-48"
LIMIT = Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0)
HEAD = f'[camera]\nname = "{CAMERA}"\n[match]\ninstruments = ["Smallcam 48"]\n'
DATED = "[[dated]]\nfrom = {}\ngain_e_per_adu = 2.0\n"
KEEN = HEAD + "[detector]\ngain_e_per_adu = 1.0\n"


def dated(start: str, longitude_deg_east: float | None = None) -> str:
    site = "" if longitude_deg_east is None else f"[site]\nlongitude_deg_east = {longitude_deg_east}\n"
    return DATED.format(start) + KEEN + site


def at(text: str) -> int:
    instant_us = parse_date(text)
    assert isinstance(instant_us, int)
    return instant_us


@pytest.mark.parametrize(
    ("start", "longitude_deg_east", "night", "begins"),
    [
        ("2021-03-05", None, "2021-03-05", "2021-03-05T12:00:00Z"),
        ("2021-03-05", -90.0, "2021-03-05", "2021-03-05T18:00:00Z"),
        ('"2021-03-05"', 90.0, "2021-03-05", "2021-03-05T06:00:00Z"),
        ("2021-03-05T03:00:00Z", None, "2021-03-04", "2021-03-04T12:00:00Z"),
        ("2021-03-05T03:00:00+02:00", -90.0, "2021-03-04", "2021-03-04T18:00:00Z"),
        ('"2021-03-05T13:00:00Z"', None, "2021-03-05", "2021-03-05T12:00:00Z"),
        ('"2021-03-05T13:00:00Z"', -90.0, "2021-03-04", "2021-03-04T18:00:00Z"),
    ],
)
def test_a_dated_section_holds_for_the_whole_night_in_which_it_begins(
    start: str, longitude_deg_east: float | None, night: str, begins: str
) -> None:
    profile = load_camera_profile(dated(start, longitude_deg_east), origin="x.toml")
    assert [first for first, _ in profile.dated] == [night]
    assert profile.changes_us == [at(begins)]
    assert profile.night_of(at(begins)) == night
    assert profile.night_of(at(begins) - 1) < night


def test_an_instant_without_its_offset_is_one_sentence() -> None:
    for table in ("service", "[dated]"):
        with pytest.raises(ProfileError, match=r"from must be a night .* no time zone; add Z"):
            load_camera_profile(HEAD + f"[{table}]\nfrom = 2021-03-05T03:00:00\n", origin="x.toml")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("x = " + "[" * 5000, "nested too deeply"),
        ("a." * 100_000 + "b = 1", "or 100 dots in one of its lines"),
        ("#" * 300_000, "more than 262144 characters"),
        (HEAD.replace("Smallcam 48", r"a\u0000"), "a text in it holds a zero character"),
        (HEAD + "[detector]\ngain_e_per_adu = 1" + "0" * 400, "more than 64 bits"),
        (HEAD + "[policy]\nborrow_days = 0x" + "f" * 5000, "more than 64 bits"),
        (HEAD + "[policy]\nborrow_days = 9000000000000000000", "a whole number up to 100000"),
        (HEAD.replace("Smallcam 48", "(a{1,99999999999})"), "too large"),
        (HEAD.replace("Smallcam 48", "(" * 5000), "nested too deeply"),
    ],
)
def test_a_hostile_profile_is_one_sentence(text: str, what: str) -> None:
    with pytest.raises(ProfileError, match=what):
        load_camera_profile(text, origin="x.toml")


def test_a_dated_section_that_changes_no_number_ends_nothing() -> None:
    profile = load_camera_profile(KEEN + DATED.format("2021-03-05") * 2, origin="x.toml")
    assert len(profile.changes_us) == 1


def test_the_nights_of_service_are_whole() -> None:
    service = HEAD + "[service]\nfrom = 2021-03-04\nto = 2021-03-05\n"
    profile = load_camera_profile(service, origin="x.toml")
    assert [profile.in_service(at(f"2021-03-{when}Z")) for when in ("04T20:00", "05T04:00")] == [True, True]
    assert not profile.in_service(at("2021-03-06T00:00Z"))


def applied(registry: Registry, folder: Path, text: str, *, trim: bool = False) -> list[tuple[object, ...]]:
    path = folder / "profile.toml"
    path.write_text(text)
    done = registry.apply_profile(path, trim=trim)
    return [(c.valid_from[:16], c.valid_to and c.valid_to[:16], c.before, c.after) for c in done.changes]


def test_a_night_is_one_campaign_though_the_date_changes_within_it(
    registry: Registry, tmp_path: Path
) -> None:
    applied(registry, tmp_path, dated("2021-03-05"))
    write_campaign(tmp_path / "darks", start=datetime(2021, 3, 4, 23, 57))
    registry.ingest(tmp_path / "darks")
    starts = [frame.start_us for frame in registry.frames()]
    assert min(starts) < at("2021-03-05T00:00Z") < max(starts)
    (built,) = registry.build(CAMERA, recipe=LIMIT)
    assert (built.status, built.exposures_s) == ("certified", (30.0, 120.0))
    assert registry.show(built.mask_id)["report"]["noise"]["gain_e_per_adu"] == pytest.approx(1.0, rel=0.2)
    # the profile's first numbers hold for its night, and the mask ends with them
    assert [v["to"] for row in registry.masks() for v in row["valid"]] == ["2021-03-05T12:00:00Z"]


def test_masks_on_both_sides_of_a_change_keep_to_their_epoch(registry: Registry, tmp_path: Path) -> None:
    applied(registry, tmp_path, dated("2021-03-05"))
    write_campaign(tmp_path / "a", start=datetime(2021, 3, 4, 23, 50))
    write_campaign(tmp_path / "b", start=datetime(2021, 3, 5, 23, 50))
    registry.ingest([tmp_path / "a", tmp_path / "b"])
    registry.build(CAMERA, recipe=LIMIT)
    assert [(r["mask_id"], r["status"], r["valid"][0]["to"]) for r in registry.masks()] == [
        (1, "certified", "2021-03-05T12:00:00Z"),
        (2, "certified", None),
    ]
    answered = {
        instant: registry.mask(CAMERA, instant).answer.mask_id
        for instant in ("2021-03-05T03:00Z", "2021-03-05T20:00Z")
    }
    assert list(answered.values()) == [1, 2]


def test_a_change_within_the_dates_of_a_mask_cuts_them_when_that_is_said(
    registry: Registry, tmp_path: Path
) -> None:
    applied(registry, tmp_path, KEEN)
    write_campaign(tmp_path / "a", start=datetime(2021, 3, 4, 23, 50))
    registry.ingest(tmp_path / "a")
    registry.build(CAMERA, recipe=LIMIT)
    with pytest.raises(Conflict, match=r"the night of 2021-05-01 lies within the dates of mask 1 .* --trim"):
        applied(registry, tmp_path, dated("2021-05-01"))
    assert registry.camera(CAMERA).profile.dated == ()
    changes = applied(registry, tmp_path, dated("2021-05-01"), trim=True)
    assert changes == [("2021-05-01T12:00", None, 1, None)]
    (gap,) = [s for s in registry.coverage(CAMERA).series[0].stretches if s.mask_id is None]
    assert gap.cures[0].startswith("the change of the detector in the night of 2021-05-01 ended")
    # a rebuild, a fallback or a certify does not lead across it
    registry.certify(1)
    assert registry.masks()[0]["valid"][0]["to"] == "2021-05-01T12:00:00Z"


def test_a_change_still_to_come_is_ordinary(registry: Registry, tmp_path: Path) -> None:
    applied(registry, tmp_path, KEEN)
    write_campaign(tmp_path / "a")
    registry.ingest(tmp_path / "a")
    registry.build(CAMERA, recipe=LIMIT)
    assert applied(registry, tmp_path, dated("2999-01-01")) == [("2999-01-01T12:00", None, 1, None)]


def test_a_mask_that_was_imported_for_the_night_of_a_change_belongs_after_it(
    registry: Registry, tmp_path: Path
) -> None:
    applied(registry, tmp_path, dated("2021-03-05"))
    import_pixels(registry, tmp_path, "2021-03-05", {1})
    (row,) = registry.masks()
    assert [v["from"] for v in row["valid"]] == ["2021-03-05T12:00:00Z"]


def test_an_event_on_a_night_does_not_tear_the_night_before(registry: Registry, tmp_path: Path) -> None:
    applied(registry, tmp_path, KEEN)
    write_campaign(tmp_path / "darks", start=datetime(2021, 3, 4, 23, 57))
    registry.ingest(tmp_path / "darks")
    registry.add_event(CAMERA, "2021-03-05", "controller")
    (built,) = registry.build(CAMERA, recipe=LIMIT)
    assert built.exposures_s == (30.0, 120.0)
