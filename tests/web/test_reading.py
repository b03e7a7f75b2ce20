"""What can be read over HTTP is what the command line prints, in pages and in every form."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from astropy.io.votable import parse_single_table
from astropy.table import Table
from prov.constants import PROV_ATTRIBUTE_QNAMES
from prov.model import ProvDocument, ProvElement, ProvRelation
from starlette.testclient import TestClient

from tests.cli.conftest import Hotpix
from tests.story import CAMERA


@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("/v1/cameras", "cameras"),
        (f"/v1/cameras/{CAMERA}", f"cameras show {CAMERA}"),
        (f"/v1/cameras/{CAMERA}/events", f"event list --camera {CAMERA}"),
        (f"/v1/cameras/{CAMERA}/defects", f"defects --camera {CAMERA}"),
        (f"/v1/cameras/{CAMERA}/trend?flag=BAD", f"trend --camera {CAMERA} --flag BAD"),
        (f"/v1/cameras/{CAMERA}/plan", f"build --camera {CAMERA} --dry-run"),
        ("/v1/masks", "masks"),
        ("/v1/masks?release=2021A", "masks --release 2021A"),
        ("/v1/masks/1", "show 1"),
        ("/v1/masks/1/report", "report 1"),
        ("/v1/frames", "frames"),
        (
            f"/v1/frames?camera={CAMERA}&kind=dark&exposure=30",
            f"frames --camera {CAMERA} --kind dark --exposures 30",
        ),
        (
            "/v1/frames?nights=2021-03-04&status=used&temperature=-10",
            "frames --nights 2021-03-04 --status used --temperature -10",
        ),
        ("/v1/frames?nights=2022-01-01", "frames --nights 2022-01-01"),
        ("/v1/frames?rejected=true", "frames --rejected"),
        ("/v1/history", "history"),
        ("/v1/history?mask_id=2", "history 2"),
        (f"/v1/history?camera={CAMERA}", f"history --camera {CAMERA}"),
        ("/v1/log?limit=1000", "log"),
        ("/v1/releases", "release list"),
        ("/v1/diff?a=1&b=2", "diff 1 2"),
        ("/v1/diff?a=2021A&b=now", "diff 2021A now"),
        ("/v1/affected?since=2021A", "affected --since 2021A"),
        ("/v1/cite?release=2021A", "cite --release 2021A"),
        (f"/v1/cite?camera={CAMERA}&date=2021-03-05", f"cite --camera {CAMERA} --date 2021-03-05"),
    ],
)
def test_objects_are_those_of_the_command_line(
    story_client: TestClient, hotpix: Hotpix, url: str, command: str
) -> None:
    got = story_client.get(url)
    assert got.status_code == 200, got.text
    printed = hotpix(*command.split(), "--format", "json").ended_with(0).json
    if isinstance(printed, list):
        items = got.json()["items"]
        assert got.json()["next"] is None
        assert (items[::-1] if "/log" in url else items) == printed
    else:
        assert got.json() == printed


def test_coverage_is_that_of_the_command_line_but_for_the_moment_at_which_it_ends(
    story_client: TestClient, hotpix: Hotpix
) -> None:
    got = story_client.get(f"/v1/cameras/{CAMERA}/coverage").json()
    printed = hotpix("coverage", "--camera", CAMERA, "--format", "json").json
    for told in (got, printed):
        told["to"] = told["to"][:10]
        for series in told["series"]:
            series["stretches"][-1]["valid_to"] = None
    assert got == printed


LISTS = [
    "/v1/cameras",
    f"/v1/cameras/{CAMERA}/series",
    f"/v1/cameras/{CAMERA}/events",
    "/v1/masks",
    "/v1/frames",
    "/v1/frames?rejected=true",
    "/v1/history",
    "/v1/log",
    "/v1/releases",
]


@pytest.mark.parametrize("url", LISTS)
def test_pages_of_one_record_make_the_whole_list(story_client: TestClient, url: str) -> None:
    whole = story_client.get(url).json()["items"]
    assert whole
    found: list[Any] = []
    following: str | None = f"{url}{'&' if '?' in url else '?'}limit=1"
    while following is not None:
        got = story_client.get(following)
        found += got.json()["items"]
        following = got.links["next"]["url"] if "next" in got.links else None
        assert (got.json()["next"] is None) == (following is None)
    assert found == whole


def test_a_cursor_stays_right_while_others_write(story_client: TestClient, hotpix: Hotpix) -> None:
    first = story_client.get("/v1/log", params={"limit": 2}).json()
    with hotpix.opened() as registry:
        registry.confirm_camera(CAMERA)
    second = story_client.get("/v1/log", params={"limit": 2, "cursor": first["next"]}).json()
    numbers = [act["tx"] for act in first["items"] + second["items"]]
    assert numbers == list(range(numbers[0], numbers[0] - 4, -1))


@pytest.mark.parametrize(
    "cursor", ["x", "W10", "WzFd", "WzEsICIyIl0", "bnVsbA", "WzkyMjMzNzIwMzY4NTQ3NzU4MDgsMV0="]
)
def test_a_cursor_of_another_list_is_refused(story_client: TestClient, cursor: str) -> None:
    got = story_client.get("/v1/masks", params={"cursor": cursor})
    assert (got.status_code, got.json()["code"]) == (422, "usage")
    assert got.json()["detail"].endswith("is no cursor of this list.")


@pytest.mark.parametrize("url", [*LISTS, "/v1/frames?nights=2030-01-01", "/v1/diff?a=1&b=2"])
def test_every_list_comes_as_a_table(story_client: TestClient, url: str) -> None:
    rows = story_client.get(url).json().get("items")
    joint = "&" if "?" in url else "?"
    as_csv = story_client.get(f"{url}{joint}format=csv")
    assert as_csv.headers["content-type"] == "text/csv; charset=utf-8"
    read = list(csv.DictReader(io.StringIO(as_csv.text)))
    ecsv = Table.read(story_client.get(f"{url}{joint}format=ecsv").text, format="ascii.ecsv")
    asked = story_client.get(url, headers={"Accept": "application/x-votable+xml"})
    assert asked.headers["content-type"] == "application/x-votable+xml"
    votable = parse_single_table(io.BytesIO(asked.content)).to_table()
    assert len(read) == len(ecsv) == len(votable)
    if rows is not None:
        assert len(rows) == len(read)
    if rows:
        assert list(rows[0]) == list(read[0]) == ecsv.colnames == votable.colnames


@pytest.mark.parametrize(
    "url",
    [
        *LISTS,
        f"/v1/cameras/{CAMERA}",
        f"/v1/cameras/{CAMERA}/plan",
        "/v1/masks/1",
        "/v1/masks/1/plots/map.png",
        "/v1/masks/1/pixel?x=5&y=3",
        "/v1/masks/1/report",
        "/v1/affected?since=2021A",
    ],
)
def test_what_is_known_is_not_sent_again(story_client: TestClient, url: str) -> None:
    got = story_client.get(url)
    again = story_client.get(url, headers={"If-None-Match": got.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == got.headers["etag"]


def test_a_pixel_tells_its_dark_current_and_its_flags_through_the_versions(story_client: TestClient) -> None:
    hot = story_client.get("/v1/masks/1/pixel", params={"x": 5, "y": 3}).json()
    assert hot["masked"]
    assert "HOT" in hot["flags"]
    assert [one["exptime_s"] for one in hot["dark_current"]] == [30.0, 120.0]
    assert [one["e_per_s"] for one in hot["dark_current"]] == pytest.approx([40.0, 40.0], rel=0.05)
    assert [(one["mask_id"], one["masked"]) for one in hot["versions"]] == [(1, True), (2, False), (3, False)]
    assert hot["versions"][2]["status"] == "revoked"
    imported = story_client.get("/v1/masks/2/pixel", params={"x": 5, "y": 0}).json()
    assert (imported["flags"], imported["dark_current"]) == (["BAD", "MANUAL"], [])
    beyond = story_client.get("/v1/masks/1/pixel", params={"x": 64, "y": 0})
    assert (beyond.status_code, beyond.json()["next_step"]) == (422, "x is 0 to 63, y is 0 to 47.")


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_pictures_and_reports_of_a_build(story_client: TestClient) -> None:
    for name in ("histogram", "scatter", "map"):
        got = story_client.get(f"/v1/masks/1/plots/{name}.png")
        assert (got.headers["content-type"], got.content[:4]) == ("image/png", b"\x89PNG")
    missing = story_client.get("/v1/masks/2/plots/histogram.png")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown-id")
    page = story_client.get("/v1/masks/1/report", headers={"Accept": "text/html"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.startswith("<!DOCTYPE html>")
    assert story_client.get("/v1/masks/1/report?format=text").text.startswith("Mask 1")
    assert json.loads(story_client.get("/v1/masks/1/report").text)["mask_id"] == 1


def test_provenance_is_a_document_of_prov_whose_relations_end_at_what_is_in_it(
    story_client: TestClient, hotpix: Hotpix
) -> None:
    for mask_id in (1, 2, 3):
        written = story_client.get(f"/v1/masks/{mask_id}/provenance").text
        document = ProvDocument.deserialize(content=written, format="json")
        known = {record.identifier for record in document.get_records((ProvElement,))}
        relations = list(document.get_records((ProvRelation,)))
        ends = [
            value
            for one in relations
            for name, value in one.formal_attributes
            if name in PROV_ATTRIBUTE_QNAMES
        ]
        assert ends
        assert set(ends) - {None} <= known
    parts = json.loads(written)
    details = story_client.get("/v1/masks/3").json()
    mask = f"sha256:{details['sha256']}"
    assert parts["entity"][mask]["hotpix:status"] == "revoked"
    (revoked,) = [one for one in parts["wasInvalidatedBy"].values() if one["prov:entity"] == mask]
    assert parts["activity"][revoked["prov:activity"]]["hotpix:reason"] == "streaks"
    built = json.loads(story_client.get("/v1/masks/1/provenance").text)
    frames = {one["sha256"] for one in story_client.get("/v1/frames").json()["items"]}
    used = {one["prov:entity"].removeprefix("sha256:") for one in built["used"].values()}
    assert len(frames) == 11
    assert frames <= used
    assert {one["prov:type"]["$"] for one in built["agent"].values()} == {"prov:Person", "prov:SoftwareAgent"}
