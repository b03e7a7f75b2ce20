"""The mask of a date over HTTP: the answer, its file, its errors."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from starlette.testclient import TestClient

from hotpix_registry.registry import Registry
from tests.story import CAMERA, import_pixels, one_mask
from tests.told import Story

URL = f"/v1/cameras/{CAMERA}/mask"


@pytest.fixture
def mask_id(told: Callable[[Story], Path]) -> int:
    told(one_mask)
    return 1


def test_a_date_is_answered_as_the_registry_answers_it(
    registry: Registry, client: TestClient, mask_id: int
) -> None:
    got = client.get(URL, params={"date": "2021-03-05"})
    assert got.status_code == 200
    links = got.json().pop("links")
    known = registry.mask(CAMERA, "2021-03-05").answer.as_dict()
    assert {name: got.json()[name] for name in known} == {
        name: list(value) if isinstance(value, tuple) else value for name, value in known.items()
    }
    assert links["file"] == f"/v1/masks/{mask_id}/file.fits"


def test_a_pipeline_that_wants_fits_is_sent_to_the_immutable_file(client: TestClient, mask_id: int) -> None:
    for url, accept in ((URL, "application/fits"), (f"{URL}.fits", "*/*")):
        sent = client.get(url, params={"date": "2021-03-05"}, headers={"Accept": accept})
        assert (sent.status_code, sent.headers["location"]) == (303, f"/v1/masks/{mask_id}/file.fits")
        got = client.get(sent.headers["location"])
        assert got.headers["etag"] == f'"{hashlib.sha256(got.content).hexdigest()}"'
        assert got.headers["cache-control"] == "public, max-age=31536000, immutable"
        bad = fits.HDUList.fromstring(got.content)[0].data
        assert np.flatnonzero(bad).tolist() == [5, 70]


def test_an_answer_is_not_sent_again_until_something_is_written(
    registry: Registry, client: TestClient, mask_id: int
) -> None:
    asked = {"date": "2021-03-05"}
    tag = client.get(URL, params=asked).headers["etag"]
    assert client.get(URL, params=asked, headers={"If-None-Match": tag}).status_code == 304
    registry.revoke(mask_id, reason="streaks")
    assert client.get(URL, params=asked, headers={"If-None-Match": tag}).status_code == 410


def test_a_file_can_be_asked_for_in_ranges_and_by_its_digest(client: TestClient, mask_id: int) -> None:
    url = f"/v1/masks/{mask_id}/file.fits"
    whole = client.get(url)
    part = client.get(url, headers={"Range": "bytes=0-79"})
    assert (part.status_code, part.content) == (206, whole.content[:80])
    assert client.head(url).headers["content-length"] == str(len(whole.content))
    assert client.get(url, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    assert gzip.decompress(client.get(f"{url}.gz").content) == whole.content


def test_a_miss_is_a_problem_with_its_explanation(client: TestClient, mask_id: int) -> None:
    got = client.get(URL, params={"date": "2001-01-01"})
    assert (got.status_code, got.headers["content-type"]) == (404, "application/problem+json")
    problem = got.json()
    assert (problem["code"], problem["exit_code"]) == ("no-mask", 3)
    assert problem["next_step"] == "`--fallback nearest` takes the nearest one."
    assert problem["explanation"][0]["mask_id"] == mask_id


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("/v1/cameras/nobody/mask?date=2021-03-05", 404, "unknown-camera"),
        (f"{URL}?date=yesterday", 422, "usage"),
        (URL, 422, "usage"),
        (f"{URL}?date=2021-03-05&dait=2", 422, "usage"),
        (f"{URL}?date=2021-03-05&binning=0x0", 422, "usage"),
        ("/v1/masks/99", 404, "unknown-id"),
        ("/v1/masks/99/file.fits", 404, "unknown-id"),
        ("/v1/masks/1/file.exe", 422, "usage"),
        ("/v1/receipt?receipt=hp:1", 422, "usage"),
        ("/v1/nothing", 404, "not-found"),
    ],
)
def test_what_is_wrong_is_a_problem_of_one_sentence(
    client: TestClient, mask_id: int, url: str, status: int, code: str
) -> None:
    got = client.get(url)
    assert (got.status_code, got.json()["code"]) == (status, code)
    assert got.headers["content-type"] == "application/problem+json"
    assert got.json()["detail"].endswith(".")


def test_a_receipt_gives_the_same_mask_after_another_took_its_dates(
    registry: Registry, client: TestClient, tmp_path: Path, mask_id: int
) -> None:
    receipt = client.get(URL, params={"date": "2021-03-10"}).json()["receipt"]
    import_pixels(registry, tmp_path, "2021-03-08", [9])
    assert client.get(URL, params={"date": "2021-03-10"}).json()["mask_id"] != mask_id
    assert client.get("/v1/receipt", params={"receipt": receipt}).json()["mask_id"] == mask_id


def test_headers_are_answered_in_their_order_each_with_its_mask_or_its_error(
    client: TestClient, mask_id: int
) -> None:
    header = {
        "NAXIS": 2,
        "NAXIS1": 64,
        "NAXIS2": 48,
        "BITPIX": 16,
        "INSTRUME": "Smallcam 48",
        "IMAGETYP": "Light Frame",
        "EXPTIME": 120.0,
        "DATE-OBS": "2021-03-05T22:00:00",
        "SET-TEMP": -10.0,
        "XBINNING": 1,
        "YBINNING": [1, "binning along y"],
    }
    got = client.post(
        "/v1/resolve", json={"headers": [header, header | {"INSTRUME": "other"}, header | {"NAXIS1": 60}]}
    )
    assert got.status_code == 200, got.text
    good, unknown, misfit = got.json()["results"]
    assert good["mask"]["mask_id"] == mask_id
    assert unknown["error"]["code"] == "unreadable-frame"
    assert misfit["error"]["code"] == "geometry"


def test_whoever_watches_learns_whether_it_lives_and_how_much_it_does(
    registry: Registry, client: TestClient, mask_id: int
) -> None:
    client.get(URL, params={"date": "2021-03-05"})
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.get("/readyz").json()["tx"] == registry.state()[1]
    counted = client.get("/metrics").text
    assert 'hotpix_requests_total{method="GET",route="/v1/cameras/{camera}/mask",status="200"} 1' in counted


@pytest.mark.parametrize("accept", ["*/*", "application/fits", "text/html"])
@pytest.mark.parametrize(
    "query",
    [
        *("?date=2021-03-05", "?date=2021-03-05&explain=true", "?date=2001-01-01", "?date=yesterday", ""),
        *("?date=2021-03-05&date=2021-03-06", "?date=2021-03-05&max_age=-1", "?date=2021-03-05&x=%00"),
    ],
)
def test_the_short_way_to_a_look_up_leads_where_the_long_one_does(
    story_client: TestClient, query: str, accept: str
) -> None:
    for url in (URL, f"{URL}.fits", "/v1/cameras/nobody/mask", "/v1/cameras/no%20body/mask.fits"):
        short = story_client.get(url + query, headers={"Accept": accept})
        long = story_client.head(url + query, headers={"Accept": accept})  # by way of FastAPI
        assert (short.status_code, dict(short.headers)) == (long.status_code, dict(long.headers))
        assert int(short.headers["content-length"]) == len(short.content)
        assert long.content == b""


def test_a_look_up_admits_no_other_method(client: TestClient) -> None:
    got = client.post(URL, params={"date": "2021-03-05"})
    assert (got.status_code, got.json()["code"], got.headers["allow"]) == (405, "method-not-allowed", "GET")
