"""Births, deaths and returns of hot pixels, held against sets."""

from __future__ import annotations

import random
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hotpix_registry.catalogue.queries import Event, MaskRow
from hotpix_registry.domain import Configuration, Recipe, Rule, Series
from hotpix_registry.errors import NoMask, UsageError
from hotpix_registry.registry import Registry
from hotpix_registry.registry.trend import Line, one_per_campaign, trend_of
from tests import small_camera
from tests.story import CAMERA, import_pixels, register_camera

YEAR_US = 31_557_600_000_000
SERIES = Series(series_id=1, camera="aspen", configuration=Configuration(), set_point_c=-20.0)


def mask_row(number: int, *, year: float = 0.0, version: int | None = None) -> MaskRow:
    start_us = int(year * YEAR_US)
    return MaskRow(
        id=number,
        series_id=1,
        version=number if version is None else version,
        sha256="",
        build_key=str(number),
        rule="evidence+limit",
        algorithm_version="1",
        first_night="2018-08-22",
        last_night="2018-08-22",
        campaign_start_us=start_us,
        campaign_end_us=start_us + 86_400_000_000,
        shortest_s=90.0,
        longest_s=1000.0,
        nx=100,
        ny=100,
        flagged=0,
        limit_e_per_s=4.0,
        created_tx=number,
        counts={},
        warnings=[],
    )


@pytest.mark.parametrize("seed", range(5))
def test_births_and_deaths_are_those_of_sets(seed: int) -> None:
    rng = random.Random(seed)
    years = sorted(rng.uniform(0, 10) for _ in range(6))
    pixels = {n: set(rng.sample(range(300), rng.randint(0, 150))) for n in range(1, 7)}
    line = Line(
        series=SERIES,
        made="",
        masks=tuple(mask_row(n, year=year) for n, year in enumerate(years, 1)),
        status=dict.fromkeys(pixels, "certified"),
        events=(),
    )
    trend = trend_of(line, "HOT", lambda n: np.array(sorted(pixels[n]), np.uint32))
    ever = set(pixels[1])
    intermittent: set[int] = set()
    deaths, pixel_years = 0, 0.0
    for (a, b), campaign in zip(pairwise(pixels), trend.campaigns[1:], strict=True):
        before, now = pixels[a], pixels[b]
        returned = (now - before) & ever
        assert campaign.count == len(now)
        assert campaign.born == len(now - ever)
        assert campaign.returned == len(returned)
        assert campaign.died == len(before - now)
        assert campaign.survived == len(before & now)
        assert campaign.of_the_first == len(pixels[1] & now)
        intermittent |= returned
        ever |= now
        deaths += len(before - now)
        pixel_years += len(before) * (years[b - 1] - years[a - 1])
    assert (trend.ever, trend.intermittent) == (len(ever), len(intermittent))
    assert trend.always == len(set.intersection(*pixels.values()))
    assert trend.half_life_years == pytest.approx(0.6931 * pixel_years / deaths, rel=1e-3, abs=0.01)


def test_a_few_deaths_make_no_half_life() -> None:
    masks = (mask_row(1), mask_row(2, year=1.0))
    line = Line(series=SERIES, made="", masks=masks, status={1: "certified", 2: "certified"}, events=())
    trend = trend_of(line, "HOT", lambda n: np.arange(n, 50, dtype=np.uint32))
    assert trend.campaigns[1].died == 1
    assert trend.half_life_years is None


def test_an_event_stands_at_the_campaign_after_it() -> None:
    masks = (mask_row(1), mask_row(2, year=1.0))
    events = (Event(1, 1, YEAR_US // 2, "anneal", "", 1),)
    line = Line(series=SERIES, made="", masks=masks, status={1: "certified", 2: "certified"}, events=events)
    trend = trend_of(line, "HOT", lambda n: np.arange(n, dtype=np.uint32))
    assert [campaign.events for campaign in trend.campaigns] == [(), ("anneal 1970-07-02",)]


def test_the_certified_mask_speaks_for_its_campaign_and_else_the_newest_not_revoked() -> None:
    rows = [
        mask_row(1),
        mask_row(2),
        mask_row(3),
        mask_row(4, year=1),
        mask_row(5, year=1),
        mask_row(6, year=1),
    ]
    status = {1: "superseded", 2: "certified", 3: "candidate", 4: "candidate", 5: "candidate", 6: "revoked"}
    assert [row.id for row in one_per_campaign(rows, status)] == [2, 5]


def test_imported_masks_are_followed_through_the_years(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    for year, pixels in ((2021, {1, 2, 3}), (2022, {2, 3, 4, 5}), (2023, {1, 3, 4, 5})):
        import_pixels(registry, tmp_path, f"{year}-03-04", pixels)
    (trend,) = registry.trend(CAMERA, flag="MANUAL")
    assert [(c.count, c.born, c.returned, c.died) for c in trend.campaigns] == [
        (3, None, None, None),
        (4, 2, 0, 1),
        (4, 0, 1, 1),
    ]
    assert trend.campaigns[1].born_per_year == pytest.approx(2.0, abs=0.01)
    assert registry.draw_trends(CAMERA, [trend]).startswith(b"\x89PNG")


def test_a_swap_of_the_detector_begins_another_line(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    for year in (2021, 2022, 2023):
        import_pixels(registry, tmp_path, f"{year}-03-04", {year - 2020})
    registry.add_event(CAMERA, "2022-08-01", "swap", trim=True)
    assert [len(trend.campaigns) for trend in registry.trend(CAMERA, flag="all")] == [2, 1]


def test_a_mask_edited_by_hand_is_like_the_one_it_was_edited_from(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    import_pixels(registry, tmp_path, "2021-03-04", {1, 2})
    second = import_pixels(registry, tmp_path, "2022-03-04", {1, 2})
    edited = registry.edit_mask(second, mask=[(7, 0)], reason="seen in flats").mask_id
    (trend,) = registry.trend(CAMERA, flag="default")
    assert [(c.mask_id, c.count, c.born) for c in trend.campaigns] == [(1, 2, None), (edited, 3, 1)]


def test_masks_of_other_exposures_are_another_line(registry: Registry, tmp_path: Path) -> None:
    for year, darks in enumerate(({30.0: 3, 120.0: 3}, {30.0: 3, 120.0: 3}, {30.0: 3, 240.0: 3})):
        start = small_camera.NIGHT + timedelta(days=500 * year)
        small_camera.write_campaign(tmp_path / str(year), start=start, darks=darks)
    registry.ingest([tmp_path], recursive=True)
    registry.build(CAMERA, recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
    trends = registry.trend(CAMERA)
    assert [trend.made for trend in trends] == [
        "rule limit, 30 and 120 s, limit of 4 e-/s given",
        "rule limit, 30 and 240 s, limit of 4 e-/s given",
    ]
    assert [[c.count for c in trend.campaigns] for trend in trends] == [[6, 6], [6]]
    assert trends[0].campaigns[1].born == trends[0].campaigns[1].died == 0


def test_what_cannot_be_followed_is_said(registry: Registry, tmp_path: Path) -> None:
    register_camera(registry, tmp_path)
    with pytest.raises(NoMask, match="no mask to follow"):
        registry.trend(CAMERA)
    with pytest.raises(UsageError, match="HTO"):
        registry.trend(CAMERA, flag="HTO")
    with pytest.raises(NoMask, match="at -30 °C"):
        registry.trend(CAMERA, temperature_c=-30.0)
