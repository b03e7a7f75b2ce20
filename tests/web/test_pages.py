"""The pages for people, as they come from the service: what stands in them, and that nothing breaks."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, urlencode, urljoin, urlsplit

import numpy as np
import pytest
from starlette.testclient import TestClient

from hotpix_registry.cameras import CameraProfile
from hotpix_registry.registry import Registry
from hotpix_registry.web.app import create_app
from hotpix_registry.web.state import ServerSettings
from tests.plain_masks import add_camera, add_mask
from tests.story import CAMERA, import_pixels, one_mask, register_camera
from tests.told import Story
from tests.web.conftest import bearing

HTML = {"Accept": "text/html,application/xhtml+xml"}
HOSTILE = "<img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """What a browser would find in a page: links, pictures, headings, landmarks, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag in tags]

    @property
    def text(self) -> str:
        return " ".join(self.words.split())


def get(client: TestClient, url: str, status: int = 200) -> Page:
    got = client.get(url, headers=HTML)
    assert got.status_code == status, f"{url}: {got.text[:2000]}"
    assert got.headers["content-type"] == "text/html; charset=utf-8"
    return Page(got.text)


@pytest.fixture
def mask_id(told: Callable[[Story], Path]) -> int:
    """The first of two masks of one series; the second is revoked, and an event lies between them."""
    told(two_masks)
    return 1


def two_masks(registry: Registry, folder: Path) -> None:
    one_mask(registry, folder)
    registry.create_release("2021A")
    registry.add_event(CAMERA, "2021-05-01", "warmup", note=HOSTILE, trim=True)
    second = import_pixels(registry, folder, "2021-06-08", [5, 9])
    registry.revoke(second, reason=HOSTILE)


@pytest.fixture
def hostile(registry: Registry) -> str:
    """A camera whose name, summary and names of frames are not what they should be."""
    row = add_camera(registry, CameraProfile(name=HOSTILE, summary=HOSTILE))
    add_mask(registry, row, ("2021-03-04", "2021-03-04"), [1_614_895_200_000_000])
    add_mask(registry, row, ("2022-03-04", "2022-03-04"), [1_646_431_200_000_000], gates_passed=False, seed=3)
    return HOSTILE


PAGES = ["/", f"/cameras/{CAMERA}", "/masks/1", "/masks/1/pixels", "/frames", "/frames/1", "/jobs", "/docs"]


def test_every_page_has_its_landmarks_a_title_and_names_for_what_it_holds(
    client: TestClient, mask_id: int
) -> None:
    for page in (get(client, url) for url in PAGES):
        for landmark in ("header", "main", "footer", "title", "h1"):
            assert len(page.all(landmark)) >= 1, landmark
        assert len(page.all("main")) == len(page.all("h1")) == 1
        assert page.all("html") == [{"lang": "en"}]
        assert page.all("a")[0] == {"class": "skip", "href": "#content"}
        assert all(picture.get("alt") for picture in page.all("img"))
        assert all(heading.get("scope") for heading in page.all("th")), "th without scope"
        assert all("href" in link for link in page.all("a"))
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        named = {value for _, a in page.tags for value in a.get("aria-labelledby", "").split()}
        assert named <= set(ids)


def test_no_page_needs_what_the_content_security_policy_forbids(client: TestClient, mask_id: int) -> None:
    for url in PAGES:
        got = client.get(url, headers=HTML)
        page = Page(got.text)
        assert all(urlsplit(script["src"]).netloc == "" for script in page.all("script")), "inline or foreign"
        assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
        assert "default-src 'self'" in got.headers["content-security-policy"]
        assert "script-src" not in got.headers["content-security-policy"]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_every_link_within_the_pages_leads_somewhere(client: TestClient, mask_id: int, hostile: str) -> None:
    seen: set[str] = set()
    waiting = ["/"]
    while waiting:
        url = waiting.pop()
        if url in seen:
            continue
        seen.add(url)
        got = client.get(url, headers=HTML)
        if url.startswith("/v1/") and not _is_routed(client, url):
            continue
        assert got.status_code in (200, 303), f"{url}: {got.status_code}"
        if "text/html" not in got.headers.get("content-type", ""):
            continue
        page = Page(got.text)
        anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
        for tag, name in (("a", "href"), ("link", "href"), ("script", "src"), ("img", "src")):
            for target in (attributes[name] for attributes in page.all(tag)):
                if target.startswith("data:"):
                    continue
                there = urlsplit(urljoin(url, target))
                assert there.netloc == ""
                if target.startswith("#"):
                    assert target[1:] in anchors, f"{url} links to {target}"
                waiting.append(there._replace(fragment="").geturl())
    assert {"/frames", "/docs", f"/cameras/{CAMERA}", "/masks/1", "/masks/2", "/static/map.js"} <= seen


def _is_routed(client: TestClient, url: str) -> bool:
    """Whether the service has a route for what a page links to."""
    path = urlsplit(url).path
    patterns = [re.sub(r"{[^}]+}", "[^/]+", route) for route in client.app.openapi()["paths"]]  # type: ignore[attr-defined]
    return any(re.fullmatch(pattern, path) for pattern in patterns)


def test_what_others_wrote_is_shown_as_text(client: TestClient, mask_id: int, hostile: str) -> None:
    camera = quote(hostile, safe="")
    for url in ("/", f"/cameras/{camera}", "/frames", f"/frames?camera={camera}", "/masks/3", "/masks/4"):
        page = get(client, url)
        assert hostile in page.text
        assert not [image for image in page.all("img") if image.get("src") == "x"]
    assert f"camera {hostile}" in get(client, f"/?camera={camera}&date=2021-03-05").text


def test_notes_and_reasons_are_shown_as_text(client: TestClient, mask_id: int) -> None:
    assert f"warmup: {HOSTILE}" in get(client, f"/cameras/{CAMERA}").text
    page = get(client, "/masks/2")
    assert f": {HOSTILE}" in page.text
    assert not page.all("img") or all(image["src"] != "x" for image in page.all("img"))


# --- which mask is right ------------------------------------------------------------------------------


def test_the_box_answers_a_date_with_its_explanation(client: TestClient, mask_id: int) -> None:
    page = get(client, f"/?camera={CAMERA}&date=2021-03-05&temperature=&exposure=60")
    assert f"Mask {mask_id}, version 1, certified" in page.text
    assert "How each mask was weighed" in page.text
    assert {"href": f"/v1/masks/{mask_id}/file.fits", "download": ""} in page.all("a")
    assert any(field.get("value") == "2021-03-05" for field in page.all("input"))


def test_a_date_without_a_mask_is_explained_and_the_nearest_is_offered(
    client: TestClient, mask_id: int
) -> None:
    page = get(client, f"/?camera={CAMERA}&date=2020-01-01")
    assert "No mask answers" in page.text
    assert "does not fit: ✗ date" in page.text or "does not fit:" in page.text
    (offered,) = [a["href"] for a in page.all("a") if "fallback=nearest" in a.get("href", "")]
    assert f"Mask {mask_id}, version 1" in get(client, offered).text


def test_a_revoked_mask_is_named_and_shown_only_when_asked(client: TestClient, mask_id: int) -> None:
    page = get(client, f"/?camera={CAMERA}&date=2021-07-01")
    assert "was revoked at" in page.text
    (offered,) = [a["href"] for a in page.all("a") if "allow_revoked" in a.get("href", "")]
    assert "Mask 2, version 2, revoked" in get(client, offered).text


def test_a_receipt_is_answered_again(registry: Registry, client: TestClient, mask_id: int) -> None:
    receipt = registry.mask(CAMERA, "2021-03-05").answer.receipt
    page = get(client, f"/?{urlencode({'receipt': receipt})}")
    assert f"Mask {mask_id}, version 1" in page.text


def test_a_question_that_cannot_be_understood_says_why(client: TestClient, mask_id: int) -> None:
    for asked in (
        "camera=nobody&date=2021-03-05",
        f"camera={CAMERA}&date=yesterday",
        f"camera={CAMERA}&date=2021-03-05&temperature=cold",
        f"camera={CAMERA}&date=2021-03-05&fallback=sideways",
        f"camera={CAMERA}&date=2021-03-05&colour=red",
        f"camera={CAMERA}&date=2021-03-05&release=never",
        "receipt=hp:1",
    ):
        assert "The question cannot be answered" in get(client, f"/?{asked}").text


def test_an_empty_registry_says_how_to_begin(registry: Registry, client: TestClient) -> None:
    assert "hotpix-registry ingest" in get(client, "/").text
    for url in ("/frames", "/frames?status=rejected", "/docs"):
        get(client, url)


# --- a camera -----------------------------------------------------------------------------------------


def test_the_timeline_shows_bars_events_and_what_is_revoked(client: TestClient, mask_id: int) -> None:
    page = get(client, f"/cameras/{CAMERA}")
    bars = [a for a in page.all("a") if a.get("class", "").startswith("bar ")]
    assert [(bar["href"], bar["class"].split()[-1]) for bar in bars][-1] == ("/masks/2", "revoked")
    assert any(a.get("class", "").startswith("event") for a in page.all("div"))
    shares = [float(x) for bar in bars for x in re.findall(r"([\d.]+)%", bar["style"])]
    assert all(0 <= share <= 100 for share in shares)


def test_an_earlier_state_shows_what_was_known_then(client: TestClient, mask_id: int) -> None:
    for then in ("release=2021A", "as_of=3"):
        page = get(client, f"/cameras/{CAMERA}?{then}")
        bars = [a["href"] for a in page.all("a") if a.get("class", "").startswith("bar ")]
        assert set(bars) <= {"/masks/1"}
        assert "/masks/2" not in {a.get("href") for a in page.all("a")}
    assert "release 2021A" in get(client, f"/cameras/{CAMERA}?release=2021A").text


def test_candidates_wait_with_the_gate_that_failed(client: TestClient, hostile: str) -> None:
    page = get(client, "/")
    assert "1 waiting for approval" in page.text
    (link,) = [a["href"] for a in page.all("a") if a.get("href", "").endswith("#waiting")]
    assert "flagged fraction: found 40 %, wanted at most 5 %" in get(client, link).text


def test_pixels_are_followed_through_the_campaigns(
    registry: Registry, client: TestClient, tmp_path: Path
) -> None:
    register_camera(registry, tmp_path)
    import_pixels(registry, tmp_path, "2021-03-04", [5, 70])
    import_pixels(registry, tmp_path, "2021-06-08", [5, 9, 11])
    page = get(client, f"/cameras/{CAMERA}?follow=BAD")
    assert "4 ever, 1 always" in page.text
    lines = page.all("polyline")
    assert {line["class"] for line in lines} == {"BAD", "MANUAL"}


# --- a mask -------------------------------------------------------------------------------------------


def test_the_map_is_fed_the_flags_of_every_pixel(
    registry: Registry, client: TestClient, mask_id: int
) -> None:
    got = client.get(f"/masks/{mask_id}/flags")
    dq = registry.mask_dq(mask_id)
    assert np.array_equal(np.frombuffer(got.content, "<u2").reshape(dq.shape), dq)
    assert got.headers["content-encoding"] == "gzip"
    again = client.get(f"/masks/{mask_id}/flags", headers={"If-None-Match": got.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    plain = client.get(f"/masks/{mask_id}/flags", headers={"Accept-Encoding": "identity"})
    assert plain.content == got.content


def test_the_flagged_pixels_are_a_table_as_well(client: TestClient, mask_id: int) -> None:
    page = get(client, f"/masks/{mask_id}/pixels?flag=MANUAL")
    assert "2 pixels" in page.text
    assert [a["href"] for a in page.all("a") if "x=" in a.get("href", "")] == [
        f"/masks/{mask_id}?x=5&y=0#sensor",
        f"/masks/{mask_id}?x=6&y=1#sensor",
    ]
    assert "0 pixels" in get(client, f"/masks/{mask_id}/pixels?flag=HOT&page=7").text


def test_a_mask_is_compared_with_any_other(client: TestClient, mask_id: int) -> None:
    page = get(client, f"/masks/2?against={mask_id}")
    assert "1 pixels are masked in both, 1 are new, 1 vanished" in page.text
    (sensor,) = [a for a in page.all("div") if a.get("id") == "map"]
    assert sensor["data-against"] == str(mask_id)


def test_the_buttons_name_the_state_that_was_looked_at(
    registry: Registry, client: TestClient, mask_id: int
) -> None:
    (form,) = [form for form in get(client, f"/masks/{mask_id}").all("form") if "data-decide" in form]
    assert form["data-expect"] == str(registry.state()[1])


# --- frames -------------------------------------------------------------------------------------------


def test_frames_are_filtered_and_rejected_files_have_reasons(
    registry: Registry, client: TestClient, mask_id: int, tmp_path: Path
) -> None:
    bad = tmp_path / "no.fits"
    bad.write_text("no FITS file")
    registry.ingest([bad])
    page = get(client, f"/frames?camera={CAMERA}&kind=dark&nights=2021-03-04&exposure=60&status=used")
    assert {"href": "/frames/1"} in page.all("a")
    for none in (
        "kind=bias",
        "nights=2021-03-01..2021-03-03",
        "exposure=61",
        "temperature=20",
        "status=excluded",
    ):
        assert "No frame fits" in get(client, f"/frames?{none}").text
    page = get(client, "/frames?status=rejected")
    assert f"{bad}" in page.text
    assert "it does not begin with a FITS header" in page.text


def test_a_frame_says_which_keyword_said_what(client: TestClient, mask_id: int) -> None:
    page = get(client, "/frames/1")
    assert "60 s (EXPTIME)" in page.text
    assert "INSTRUME= 'Smallcam 48'" in page.text


# --- errors -------------------------------------------------------------------------------------------


ERRORS = [
    ("/nothing", 404, "There is nothing at /nothing."),
    ("/cameras/nobody", 404, "There is no camera nobody."),
    ("/masks/99", 404, "There is no mask 99."),
    ("/masks/one", 422, "The request cannot be understood"),
    ("/masks/1?against=one", 422, "'one' is no mask."),
    ("/masks/1?against=99", 404, "There is no mask 99."),
    ("/masks/1/pixels?flag=LUKEWARM", 422, "'LUKEWARM' is no flag."),
    ("/frames/99", 404, "There is no frame 99."),
    ("/frames?exposure=long", 422, "long"),
    ("/frames?temperature=cold", 422, "'cold' is no temperature."),
    ("/frames?nights=never", 422, "never"),
    (f"/cameras/{CAMERA}?as_of=never", 422, "'never'"),
    (f"/cameras/{CAMERA}?follow=LUKEWARM", 422, "LUKEWARM"),
]


def test_errors_are_pages_in_words_for_people_and_problems_for_scripts(
    client: TestClient, mask_id: int
) -> None:
    for url, status, words in ERRORS:
        page = get(client, url, status)
        assert words in page.text
        assert len(page.all("main")) == 1
        problem = client.get(url, headers={"Accept": "application/json"})
        assert problem.headers["content-type"] == "application/problem+json"
    assert client.get("/v1/masks/99", headers=HTML).json()["code"] == "unknown-id"


def test_a_fault_of_ours_is_a_page_without_a_traceback(registry: Registry, database: str) -> None:
    from hotpix_registry.web.app import create_app
    from hotpix_registry.web.state import ServerSettings

    app = create_app(ServerSettings(database=database))

    @app.get("/fault")
    def fault() -> None:
        raise RuntimeError("the secret of the house")

    with TestClient(app, raise_server_exceptions=False) as client:
        page = get(client, "/fault", 500)
        assert "it is not yours" in page.text
        assert "secret" not in page.text
        assert client.get("/fault").json()["code"] == "bug"


# --- the API described --------------------------------------------------------------------------------


def test_every_operation_of_the_api_is_described_with_an_example(client: TestClient, mask_id: int) -> None:
    page = get(client, "/docs")
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        assert path in page.text
        for told in operations.values():
            assert told.get("summary", "") in page.text
    assert f"curl 'http://testserver/v1/cameras/{CAMERA}/mask?date=" in page.text
    assert "{" not in "".join(re.findall(r"curl [^\n]*'(http[^']*)'", page.words))


OF_A_STATE = [
    "/masks/1",
    "/masks/1?x=5&y=0",
    "/masks/1/pixels?flag=BAD",
    "/masks/1/pixel?x=5&y=0",
    "/frames",
    "/frames/1",
    "/docs",
]
OF_THE_MINUTE = ["/", f"/?camera={CAMERA}&date=2021-03-05", f"/cameras/{CAMERA}"]


def test_a_page_is_not_sent_again_until_something_is_written(
    registry: Registry, client: TestClient, mask_id: int
) -> None:
    def again(url: str) -> tuple[int, bool]:
        """What is answered to whoever has the page; asked twice, since a minute may end."""
        for _ in range(2):
            first = client.get(url, headers=HTML)
            got = client.get(url, headers=HTML | {"If-None-Match": first.headers["etag"]})
            if got.status_code == 304:
                break
        assert first.headers["cache-control"] == got.headers["cache-control"] == "no-cache"
        return got.status_code, got.content == b""

    tags = {}
    for url in (*OF_A_STATE, *OF_THE_MINUTE):
        assert again(url) == (304, True), url
        tags[url] = client.get(url, headers=HTML).headers["etag"]
    registry.revoke(mask_id, reason="streaks")
    for url, tag in tags.items():
        assert client.get(url, headers=HTML | {"If-None-Match": tag}).status_code == 200, url
        assert again(url) == (304, True), url


def test_what_went_wrong_is_told_anew_each_time(client: TestClient, mask_id: int) -> None:
    assert "etag" not in client.get("/masks/99", headers=HTML).headers


def test_the_description_is_another_where_reading_needs_a_token(
    registry: Registry, database: str, client: TestClient
) -> None:
    secret = registry.create_token("anna", ["read"]).secret
    with TestClient(create_app(ServerSettings(database=database, read_needs_token=True))) as guarded:
        other = guarded.get("/docs", headers=bearing(secret)).headers["etag"]
    assert client.get("/docs", headers={"If-None-Match": other}).status_code == 200


@pytest.fixture
def idle(registry: Registry, database: str) -> Iterator[TestClient]:
    """A service that begins no job by itself."""
    with TestClient(create_app(ServerSettings(database=database, jobs_at_once=0))) as client:
        yield client


def test_jobs_are_listed_and_each_tells_what_befell_it(
    registry: Registry, idle: TestClient, mask_id: int, hostile: str
) -> None:
    assert "None was asked for." in get(idle, "/jobs").text
    number = registry.queue_build(CAMERA, {"nights": "1999-01-01"}, most_waiting=99)
    waiting = get(idle, f"/jobs/{number}")
    assert "Look again" in waiting.text
    assert "1999-01-01" in waiting.text
    assert registry.run_next_job(roots=[], at_once=1)
    failed = get(idle, f"/jobs/{number}")
    assert "queued – " in failed.text
    assert f"running process {os.getpid()} on " in failed.text
    problem = registry.job(number).problem
    assert problem is not None
    assert problem["detail"] in failed.text
    assert "Look again" not in failed.text
    registry.queue_build(hostile, {}, most_waiting=99)
    listed = get(idle, "/jobs")
    assert not listed.all("img")
    assert [a["href"] for a in listed.all("a") if "/jobs/" in a["href"]] == [
        f"/jobs/{number + 1}",
        f"/jobs/{number}",
    ]
    get(idle, "/jobs/99", 404)


def test_jobs_come_fifty_at_a_time(registry: Registry, idle: TestClient, mask_id: int) -> None:
    numbers = [registry.queue_build(CAMERA, {}, most_waiting=99) for _ in range(51)]
    page = get(idle, "/jobs")
    assert {"href": f"/jobs?before={numbers[1]}", "rel": "next"} in page.all("a")
    last = get(idle, f"/jobs?before={numbers[1]}")
    assert [a["href"] for a in last.all("a") if "/jobs/" in a["href"]] == [f"/jobs/{numbers[0]}"]
    assert not [a for a in last.all("a") if "rel" in a]
