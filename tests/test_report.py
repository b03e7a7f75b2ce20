"""Reports: their numbers are the stored ones, and every kind of mask has one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from typer.testing import CliRunner

from hotpix_registry.cli import app
from hotpix_registry.domain import DQ, Recipe, Rule
from hotpix_registry.errors import UnknownId
from hotpix_registry.registry import Registry
from hotpix_registry.report import make_report
from tests.small_camera import HOT_E_PER_S, NIGHT, write_campaign
from tests.told import Story

CAMERA = "smallcam-48"
FLAGS = [str(flag.name) for flag in DQ]


@pytest.fixture
def two_versions(told: Callable[[Story], Path], registry: Registry) -> Registry:
    """A registry with masks 1 and 2 of one series, a year apart."""
    told(two_campaigns)
    return registry


def two_campaigns(registry: Registry, folder: Path) -> None:
    write_campaign(folder / "first")
    write_campaign(folder / "second", start=NIGHT + timedelta(days=365))
    registry.ingest(folder, recursive=True)
    registry.build(CAMERA, recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))


class Page(HTMLParser):
    """The cells of a page's tables, the addresses that it refers to, and whether its elements close."""

    VOID = frozenset({"meta", "img", "br", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")
        ]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    def row(self, first: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == first)


def row_of(text: str, flag: str) -> list[str]:
    """The first line of a text report that begins with a word, in words."""
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [flag])


def plane(registry: Registry, mask_id: int, flag: DQ) -> NDArray[np.bool_]:
    return np.asarray((registry.mask_dq(mask_id) & flag.value) != 0)


def test_text_json_and_page_tell_the_stored_numbers(two_versions: Registry) -> None:
    stored = two_versions.show(1)
    report = two_versions.report(1)
    facts, text, page = json.loads(report.json()), report.text(), Page(report.html())
    assert facts["flagged"] == stored["flagged"] == len(HOT_E_PER_S)
    assert f"{stored['flagged']:,} of {stored['pixels']:,} pixels are masked" in text
    for told in facts["flags"]:
        flag, n = told["flag"], stored["counts"][told["flag"]]
        masked = int((plane(two_versions, 1, DQ[flag]) & plane(two_versions, 1, DQ.BAD)).sum())
        assert (told["pixels"], told["masked"]) == (n, masked)
        if told["tested"] is not False:
            assert row_of(text, flag)[1:3] == page.row(flag)[1:3] == [f"{n:,}", f"{masked:,}"]
    assert facts["limit"]["e_per_s"] == stored["report"]["limit"]["e_per_s"] == 4.0
    assert facts["z"]["sd"] == stored["report"]["z_sd"]
    assert {line["name"]: line["measured"] for line in facts["noise"]} == {
        name: stored["report"]["noise"][f"measured_{name}"] for name in ("gain_e_per_adu", "read_noise_e")
    }
    assert [group["rate_ratio"] for group in facts["groups"]] == [
        group["rate_ratio"] for group in (stored["report"]["biases"], *stored["report"]["groups"])
    ]
    assert facts["gates"] == stored["report"]["gates"]
    for gate in facts["gates"]:
        assert page.row(gate["name"]) == [gate["name"], "passed", gate["found"], gate["wanted"]]
        assert f"{gate['found']}" in text
    for entry in stored["inputs"]:
        assert entry["sha256"][:12] in text
    assert {entry["sha256"] for entry in facts["inputs"]} == {entry["sha256"] for entry in stored["inputs"]}
    for value in (stored["sha256"], stored["build_key"], stored["actor"], stored["software"]["numpy"]):
        assert value in text


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_page_stands_alone_and_names_every_flag(two_versions: Registry) -> None:
    html = two_versions.report(2).html()
    page = Page(html)
    assert not page.open
    assert not {"script", "link", "iframe", "object"} & page.tags
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    style = re.sub(r"data:image/png;base64,[\w+/=]+", "", html)
    assert "//" not in style
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    assert "width=device-width" in style
    assert {row[0] for row in page.rows} >= set(FLAGS)


def test_text_fits_eighty_columns(two_versions: Registry) -> None:
    for mask_id in (1, 2):
        text = two_versions.report(mask_id).text()
        assert max(map(len, text.splitlines())) <= 80


def test_a_version_is_compared_with_the_one_before_it(two_versions: Registry) -> None:
    assert two_versions.report(1).facts["comparison"] is None
    assert "first version of its series" in two_versions.report(1).text()
    told = two_versions.report(2).facts["comparison"]
    assert (told["mask_id"], told["days_apart"], told["same_series"], told["same_recipe"]) == (
        1,
        365,
        True,
        True,
    )
    for line in told["flags"]:
        now, then = (plane(two_versions, i, DQ[line["flag"]]) for i in (2, 1))
        oracle = [int(x.sum()) for x in (now & ~then, ~now & then, now & then)]
        assert [line["new"], line["vanished"], line["common"]] == oracle
    assert "Compared with mask 1" in two_versions.report(2).text()


def test_a_version_is_compared_with_any_other_when_asked(two_versions: Registry) -> None:
    told = two_versions.report(1, against=2).facts["comparison"]
    assert (told["mask_id"], told["days_apart"]) == (2, -365)
    assert "365 days later" in two_versions.report(1, against=2).text()
    same = two_versions.report(1, against=1).facts["comparison"]
    assert same["jaccard"] == 1.0
    with pytest.raises(UnknownId):
        two_versions.report(1, against=99)


def test_an_imported_mask_says_that_nothing_here_confirms_it(registry: Registry, tmp_path: Path) -> None:
    write_campaign(tmp_path / "darks", darks={30.0: 1}, biases=0)
    registry.ingest(tmp_path / "darks")
    path = tmp_path / "bpm.npy"
    np.save(path, np.eye(12, dtype=np.uint8))
    imported = registry.import_mask(path, CAMERA, valid_from="2023-01-01", temperature_c=-10.0)
    report = registry.report(imported.mask_id)
    assert report.verdict == "look at"
    assert "12 of 144 pixels are masked" in report.text()
    assert sha256(path.read_bytes()).hexdigest() in report.text()
    assert report.facts["limit"]["e_per_s"] is None
    assert json.loads(report.json())["z"] == {"sd": None, "pixels": 0, "beyond": []}
    page = Page(report.html())
    assert not page.open
    assert len(page.addresses) == 1, "only where its pixels lie can be drawn"


@pytest.mark.parametrize("n_frames", [1, 4])
def test_a_mask_of_one_exposure_time_is_told_by_its_cutoff(
    registry: Registry, tmp_path: Path, n_frames: int
) -> None:
    write_campaign(tmp_path / "darks", darks={120.0: n_frames}, biases=0)
    registry.ingest(tmp_path / "darks")
    (built,) = registry.build(CAMERA)
    report = registry.report(built.mask_id)
    text = report.text()
    assert report.facts["rule"] == "cutoff"
    assert "One exposure time: the cut-off" in text
    assert "HOT here means over 1 e-/s, and over 5 sigma" in text
    assert "Not tested: DARK_NONLINEAR" in text
    assert row_of(text, "BAD")[1] == str(built.flagged)
    assert max(map(len, text.splitlines())) <= 80
    json.loads(report.json())


def test_the_page_of_a_mask_of_one_exposure_time_is_whole(tmp_path: Path) -> None:
    write_campaign(tmp_path / "darks", darks={120.0: 1}, biases=0)
    with Registry(str(tmp_path / "registry.sqlite")) as registry:
        registry.ingest(tmp_path / "darks")
        (built,) = registry.build(CAMERA)
        assert not Page(registry.report(built.mask_id).html()).open


def test_a_mask_on_purpose_empty_has_a_report(registry: Registry, tmp_path: Path) -> None:
    write_campaign(tmp_path / "darks")
    registry.ingest(tmp_path / "darks")
    (built,) = registry.build(CAMERA, recipe=Recipe(rule=Rule.NONE))
    report = registry.report(built.mask_id)
    told = " ".join(report.text().split())
    assert "0 of 3,072 pixels are masked (0.000%). Rule 'none' masks nothing, on purpose." in told


def test_the_threshold_curve_counts_pixels_of_the_stored_histograms(two_versions: Registry) -> None:
    numbers, facts = two_versions.mask_numbers(1), two_versions.report(1).facts
    assert [line["above_e_per_s"] for line in facts["thresholds"]][-3:] == [8.0, 16.0, 32.0]
    for line in facts["thresholds"]:
        above = numbers["hist_edges"][:-1] >= line["above_e_per_s"]
        assert line["pixels_short"] == numbers["hist_short"][above].sum()
        assert line["pixels_long"] == numbers["hist_long"][above].sum()
    assert facts["thresholds"][-1]["pixels_long"] == 1, "one pixel of the camera has 40 e-/s"


def test_every_warning_reaches_the_reader(registry: Registry, tmp_path: Path) -> None:
    write_campaign(tmp_path / "darks", darks={30.0: 1, 120.0: 1}, biases=0)
    registry.ingest(tmp_path / "darks")
    (built,) = registry.build(CAMERA, recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
    assert built.warnings
    report = registry.report(built.mask_id)
    assert report.verdict == "look at"
    told = " ".join(report.text().split())
    for warning in built.warnings:
        assert " ".join(warning.split()) in told


# --- what follows from stored values alone ------------------------------------------


def stored(**changes: Any) -> dict[str, Any]:
    """What `Registry.show` tells of a small mask."""
    report = {
        "gates": [{"name": "flagged fraction", "passed": True, "found": "1%", "wanted": "at most 10%"}],
        "groups": [],
    }
    details: dict[str, Any] = {
        "mask_id": 7,
        "version": 2,
        "camera": "aspen",
        "series": "aspen at -20 °C, bin 1x1",
        "status": "certified",
        "valid": [{"from": "2018-08-22T19:00:00Z", "to": None}],
        "first_night": "2018-08-22",
        "last_night": "2018-08-22",
        "exposures_tested_s": None,
        "rule": "evidence",
        "flagged": 1,
        "pixels": 100,
        "counts": {"BAD": 1},
        "warnings": [],
        "recipe": {"rule": "evidence"},
        "software": {"numpy": "2"},
        "inputs": [],
        "report": report,
        "sha256": "a" * 64,
        "build_key": "b" * 64,
        "algorithm_version": "1",
        "built": "2018-08-23T10:00:00Z",
        "actor": "a person",
        "host": "a machine",
        "reason": None,
        "profile_digest": "c" * 64,
    }
    return details | changes


def gate(*, passed: bool) -> dict[str, Any]:
    return {
        "gates": [{"name": "flagged fraction", "passed": passed, "found": "16%", "wanted": "at most 10%"}]
    }


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        ({}, "trust", "The one quality gate passed"),
        ({"warnings": ["The noise model does not fit."]}, "look at", "The noise model does not fit."),
        ({"status": "candidate"}, "look at", "waits for a person"),
        ({"report": {"gates": []}}, "look at", "No quality gate was applied"),
        ({"rule": "import", "report": {"gates": []}}, "look at", "decided elsewhere"),
        ({"report": gate(passed=False)}, "do not use", "found 16% and wanted at most 10%"),
        ({"report": gate(passed=False), "status": "candidate"}, "do not use", "did not pass"),
        ({"report": gate(passed=False)}, "do not use", "A person certified it all the same"),
        ({"status": "revoked"}, "do not use", "declared unusable"),
    ],
)
def test_the_verdict_follows_from_gates_and_warnings(
    changes: dict[str, Any], verdict: str, reason: str
) -> None:
    dq = np.zeros((10, 10), np.uint16)
    report = make_report(stored(**changes), {}, dq)
    assert report.verdict == verdict
    text = report.text()
    head = " ".join(text[: text.index("What is masked")].split())
    assert f"{verdict.upper()}: " in head
    assert reason in head


def test_frames_that_the_build_rejected_are_named_with_the_reason() -> None:
    frames = [
        {
            "name": "/a/warm.fits",
            "used": False,
            "reason": "its hot pixels show it +0.90 K from the other frames",
        },
        {"name": "/a/cold.fits", "used": True, "rate_factor": 1.002, "temperature_k": 0.02},
    ]
    group = {"exptime_s": 90.0, "exposures": 1, "frames_used": 1, "frames_rejected": 1, "frames": frames}
    inputs = [
        {
            "frame_id": i,
            "role": "dark",
            "sha256": str(i) * 64,
            "kind": "dark",
            "exptime_s": 90.0,
            "ccd_temp_c": None,
            "start": None,
            "path": f"/moved/{name}.fits",
        }
        for i, name in enumerate(("warm", "cold"))
    ]
    details = stored(inputs=inputs, report=stored()["report"] | {"groups": [group]})
    report = make_report(details, {}, np.zeros((10, 10), np.uint16))
    assert [entry["used"] for entry in report.facts["inputs"]] == [False, True]
    assert report.facts["left_out"] == [{"name": "/a/warm.fits", "reason": frames[0]["reason"]}]
    assert "Left out: warm.fits: its hot pixels show it +0.90 K from the other frames." in " ".join(
        report.text().split()
    )


def test_z_scores_are_counted_against_the_unit_normal() -> None:
    edges = np.linspace(-8, 8, 321)
    z = np.random.default_rng(3).normal(size=20_000).clip(-7.9, 7.9)
    numbers = {"z_edges": edges, "z_counts": np.histogram(z, edges)[0]}
    told = make_report(stored(), numbers, np.zeros((10, 10), np.uint16)).facts["z"]
    assert told["pixels"] == 20_000
    for line in told["beyond"]:
        assert line["found"] == pytest.approx(np.sum(np.abs(z) >= line["sigma"]), abs=1)
        assert line["expected"] == pytest.approx(20_000 * math.erfc(line["sigma"] / math.sqrt(2)))


def test_names_that_look_like_markup_stay_text() -> None:
    html = make_report(
        stored(warnings=["<script>alert(1)</script>"]), {}, np.zeros((10, 10), np.uint16)
    ).html()
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_masks_of_other_shapes_are_not_compared_pixel_by_pixel() -> None:
    dq, other_dq = np.zeros((10, 10), np.uint16), np.zeros((5, 20), np.uint16)
    report = make_report(stored(), {}, dq, other=stored(mask_id=6), other_dq=other_dq)
    assert report.facts["comparison"]["flags"] is None
    assert "different shapes" in report.text()


planes = hnp.arrays(np.uint16, (7, 11), elements=st.integers(0, 1023))


@given(now=planes, then=planes)
def test_new_common_and_vanished_pixels_add_up(now: NDArray[np.uint16], then: NDArray[np.uint16]) -> None:
    told = make_report(stored(), {}, now, other=stored(mask_id=6), other_dq=then).facts["comparison"]
    assert [line["flag"] for line in told["flags"]] == FLAGS
    for line in told["flags"]:
        bit = DQ[line["flag"]].value
        a = {i for i, value in enumerate(now.ravel().tolist()) if value & bit}
        b = {i for i, value in enumerate(then.ravel().tolist()) if value & bit}
        assert (line["new"], line["vanished"], line["common"]) == (len(a - b), len(b - a), len(a & b))


@given(
    dq=hnp.arrays(np.uint16, st.tuples(st.integers(1, 60), st.integers(1, 200)), elements=st.integers(0, 3))
)
def test_the_map_holds_every_masked_pixel_and_fits_the_screen(dq: NDArray[np.uint16]) -> None:
    report = make_report(stored(), {}, dq)
    assert int(np.sum(report.facts["map"]["counts"])) == int(np.sum(dq & 1))
    assert max(map(len, report.text().splitlines())) <= 80


# --- the command ------------------------------------------------------------------------


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_command_prints_text_and_writes_files(
    two_versions: Registry, database: str, tmp_path: Path
) -> None:
    run = CliRunner()
    text = run.invoke(app, ["report", "2", "--database", database])
    assert text.exit_code == 0
    assert text.stdout == two_versions.report(2).text()
    told = run.invoke(app, ["report", "2", "--against", "2", "--format", "json", "--database", database])
    assert json.loads(told.stdout)["comparison"]["jaccard"] == 1.0
    page = tmp_path / "report.html"
    done = run.invoke(app, ["report", "2", "--format", "html", "-o", str(page), "--database", database])
    assert done.stdout == f"{page}\n"
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
