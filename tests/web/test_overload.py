"""What is told to whoever asks while the service has as much in work as it takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from hotpix_registry.registry import Registry
from hotpix_registry.web.app import create_app
from hotpix_registry.web.state import ServerSettings


@pytest.fixture
def full(registry: Registry, database: str) -> Iterator[TestClient]:
    """A service that takes no request at all."""
    with TestClient(create_app(ServerSettings(database=database, most_in_work=0))) as client:
        yield client


def test_a_script_gets_a_problem(full: TestClient) -> None:
    for url in ("/v1/masks", "/"):
        got = full.get(url)
        assert (got.status_code, got.headers["retry-after"]) == (503, "1")
        assert got.headers["content-type"] == "application/problem+json"
        assert (got.json()["code"], got.json()["status"]) == ("busy", 503)
        assert got.headers["x-content-type-options"] == "nosniff"


def test_a_browser_gets_a_page_in_words(full: TestClient) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml"}
    for url in ("/", "/masks/1", "/cameras/aspen"):
        got = full.get(url, headers=browser)
        assert (got.status_code, got.headers["retry-after"]) == (503, "1")
        assert got.headers["content-type"] == "text/html; charset=utf-8"
        assert "The service has as many requests in work as it takes." in got.text
        assert "frame-ancestors 'none'" in got.headers["content-security-policy"]
    assert full.get("/v1/masks", headers=browser).json()["code"] == "busy"


def test_who_watches_is_answered_all_the_same(full: TestClient) -> None:
    full.get("/v1/masks")
    assert full.get("/healthz").status_code == 200
    assert "hotpix_requests_refused_total 1" in full.get("/metrics").text
