"""Which dates have a mask: the timeline agrees with asking, and each gap says what would close it."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.errors import HotpixError, UnknownCamera
from hotpix_registry.instants import to_us
from hotpix_registry.registry import Registry
from hotpix_registry.registry.coverage import SeriesCoverage, Stretch
from tests import small_camera
from tests.story import CAMERA, import_pixels, register_camera


def only(registry: Registry, **options: str) -> SeriesCoverage:
    (series,) = registry.coverage(CAMERA, **options).series
    return series


def shown(stretches: tuple[Stretch, ...]) -> list[tuple[str, str | None, int | None, str]]:
    return [
        (s.valid_from[:10], None if s.valid_to is None else s.valid_to[:10], s.mask_id, s.status)
        for s in stretches
    ]


def test_the_timeline_shows_masks_gaps_and_events(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    import_pixels(registry, tmp_path, "2021-03-04", {1})
    import_pixels(registry, tmp_path, "2022-03-04", {2})
    registry.add_event(CAMERA, "2022-09-01", "warmup", note="power cut", trim=True)
    registry.revoke(1, reason="light leak")
    coverage = registry.coverage(CAMERA)
    (series,) = coverage.series
    found = shown(series.stretches)
    assert found[:2] == [
        ("2021-03-04", "2022-03-04", 1, "revoked"),
        ("2022-03-04", "2022-09-01", 2, "certified"),
    ]
    assert found[2][0] == "2022-09-01"
    assert found[2][2:] == (None, "gap")
    assert [(event.kind, event.note) for event in coverage.events] == [("warmup", "power cut")]
    assert "revoked" in series.stretches[0].cures[0]
    assert "warmup of 2022-09-01 ended the epoch" in series.stretches[2].cures[0]
    assert "no darks of this epoch" in series.stretches[2].cures[1]
    assert (series.stretches[1].age_at_start_days, series.stretches[1].age_at_end_days) == (0, 180)
    assert registry.draw_coverage(coverage).startswith(b"\x89PNG")


def test_the_timeline_agrees_with_asking_each_day(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    for night in ("2021-03-04", "2022-03-04", "2023-03-04"):
        import_pixels(registry, tmp_path, night, {1})
    registry.add_event(CAMERA, "2022-09-01", "anneal", trim=True)
    registry.revoke(2, reason="light leak")
    stretches = only(registry).stretches
    day, asked = datetime.fromisoformat("2021-03-04T00:00:00+00:00"), 0
    while day < datetime.fromisoformat("2024-06-01T00:00:00+00:00"):
        instant = day.isoformat()
        (stretch,) = [s for s in stretches if s.validity.contains(to_us(day))]
        try:
            answer = registry.mask(CAMERA, instant, temperature_c=-10.0, allow_revoked=True).answer
            assert (stretch.mask_id, stretch.status) == (answer.mask_id, answer.status)
        except HotpixError:
            assert stretch.mask_id is None
        day, asked = day + timedelta(days=23), asked + 1
    assert asked > 40


def test_a_gap_names_the_darks_that_were_not_built(registry: Registry, tmp_path: Path) -> None:
    small_camera.write_campaign(tmp_path / "darks")
    registry.ingest([tmp_path / "darks"])
    (gap,) = only(registry).stretches
    assert gap.mask_id is None
    assert gap.cures == (
        "8 darks of 2021-03-04 went into no mask: "
        f"`hotpix-registry build --camera {CAMERA} --nights 2021-03-04`",
    )


def apply_profile(registry: Registry, folder: Path, tables: str) -> None:
    path = folder / "profile.toml"
    path.write_text(f'[camera]\nname = "{CAMERA}"\n[match]\ninstruments = ["Smallcam 48"]\n{tables}\n')
    registry.apply_profile(path)


def test_a_gap_names_the_candidate_that_waits(registry: Registry, tmp_path: Path) -> None:
    small_camera.write_campaign(tmp_path / "darks")
    registry.ingest([tmp_path / "darks"])
    apply_profile(registry, tmp_path, '[policy]\ncertify = "manual"')
    registry.build(CAMERA, recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
    series = only(registry)
    assert series.candidates == (1,)
    assert series.stretches[0].cures == ("mask 1 is a candidate: `hotpix-registry certify 1`",)


def test_a_gap_before_the_first_mask_says_how_to_reach_back(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    apply_profile(registry, tmp_path, "[service]\nfrom = 2020-01-01")
    import_pixels(registry, tmp_path, "2021-03-04", {1})
    gap, held = only(registry).stretches
    assert shown((gap, held))[0] == ("2020-01-01", "2021-03-04", None, "gap")
    (cure,) = gap.cures
    assert "`hotpix-registry certify 1 --valid-from 2020-01-01T00:00:00Z`" in cure
    registry.certify(1, valid_from="2020-01-01T00:00:00Z")
    assert [s.mask_id for s in only(registry).stretches] == [1]
    assert only(registry).covered == 1.0


def test_the_timeline_can_be_had_as_it_was(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    import_pixels(registry, tmp_path, "2021-03-04", {1})
    registry.create_release("2021A")
    import_pixels(registry, tmp_path, "2022-03-04", {2})
    assert [s.mask_id for s in only(registry, release="2021A").stretches] == [1]
    assert [s.mask_id for s in only(registry).stretches] == [1, 2]


def test_darks_grow_stale(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    import_pixels(registry, tmp_path, "2021-03-04", {1})
    (held,) = only(registry).stretches
    assert held.stale_from == "2022-04-10T00:00:00Z"
    stale = registry.mask(CAMERA, "2022-04-10T00:00:00Z").answer
    fresh = registry.mask(CAMERA, "2022-04-09T23:59:59Z").answer
    assert (fresh.stale, stale.stale) == (False, True)


def test_an_unknown_camera_is_named(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    with pytest.raises(UnknownCamera, match="Did you mean smallcam-48"):
        registry.coverage("smallcam-84")
