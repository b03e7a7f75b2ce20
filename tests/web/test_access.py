"""Who may do what: every route, every scope; and what becomes of wrong tokens."""

from __future__ import annotations

import logging
import re
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from hotpix_registry.domain import Scope
from hotpix_registry.registry import Registry
from hotpix_registry.web.app import create_app
from hotpix_registry.web.guesses import MOST_ADDRESSES, Guesses, address_of
from hotpix_registry.web.state import ServerSettings
from tests.story import CAMERA, import_pixels, register_camera
from tests.web.conftest import bearing

OPEN = {"/healthz", "/readyz", "/metrics"}
READS_BY_POST = {"/v1/resolve", "/v1/reading/{method}"}
WRITES = {
    ("POST", "/v1/frames"): Scope.INGEST,
    ("POST", "/v1/frames/upload"): Scope.INGEST,
    ("POST", "/v1/cameras/{camera}/build"): Scope.BUILD,
    ("POST", "/v1/recipes/diff"): Scope.BUILD,
    ("POST", "/v1/recipes/rollout"): Scope.CERTIFY,
    ("POST", "/v1/recipes/rollback"): Scope.CERTIFY,
    ("POST", "/v1/masks/{mask_id}/certify"): Scope.CERTIFY,
    ("POST", "/v1/masks/{mask_id}/revoke"): Scope.CERTIFY,
    ("POST", "/v1/masks/{mask_id}/decertify"): Scope.CERTIFY,
    ("POST", "/v1/cameras/{camera}/events"): Scope.CERTIFY,
    ("POST", "/v1/releases"): Scope.ADMIN,
}


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """(method, path) of everything that the application answers."""
    for part in app.routes:
        for route in getattr(getattr(part, "original_router", None), "routes", [part]):
            if isinstance(route, APIRoute):
                yield from ((method, route.path) for method in sorted(route.methods))


def url(path: str) -> str:
    return re.sub(r"\{[a-z_]+\}", "1", path)


@pytest.fixture
def tokens(registry: Registry) -> dict[Scope, str]:
    """A token of each scope."""
    return {scope: registry.create_token(f"for-{scope}", [scope]).secret for scope in Scope}


@pytest.fixture
def guarded(registry: Registry, database: str) -> Iterator[TestClient]:
    """A service that asks for a token also where one reads."""
    settings = ServerSettings(database=database, read_needs_token=True)
    with TestClient(create_app(settings), follow_redirects=False) as client:
        yield client


def test_every_route_needs_a_token_with_its_scope_and_reading_only_where_it_is_told_to(
    client: TestClient, guarded: TestClient, tokens: dict[Scope, str]
) -> None:
    unasked = (401, 403)
    found = dict.fromkeys(routes(client.app))  # type: ignore[arg-type]
    assert set(WRITES) == {
        (method, path)
        for method, path in found
        if method not in ("GET", "HEAD") and path not in READS_BY_POST
    }
    for method, path in found:
        for service in (client, guarded):
            scope = WRITES.get((method, path), Scope.READ)
            needed = path not in OPEN and (service is guarded or scope is not Scope.READ)
            status, headers = asked(service, method, path)
            assert (status == 401) == needed, (method, path, status)
            assert (headers.get("www-authenticate") == 'Bearer realm="hotpix-registry"') == needed
            for held, secret in tokens.items():
                status, _ = asked(service, method, path, secret)
                enough = not needed or held in (scope, Scope.ADMIN)
                assert status not in unasked if enough else status == 403, (method, path, held, status)


def asked(service: TestClient, method: str, path: str, secret: str | None = None) -> tuple[int, Any]:
    headers = {} if secret is None else bearing(secret)
    with service.stream(method, url(path), headers=headers) as got:
        return got.status_code, got.headers


def test_wrong_expired_and_revoked_tokens_are_refused_and_say_which(
    registry: Registry, guarded: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = registry.create_token("short", ["read"], expires="2999-01-01T00:00:00Z")
    gone = registry.create_token("gone", ["read"])
    registry.revoke_token("gone", reason="lost")
    monkeypatch.setattr("hotpix_registry.registry.facade.access.now_us", lambda: 2**56)
    for secret, why in (
        ("hp_guess", "This token is not known here."),
        ("hp_\u00e9", "This token is not known here."),
        (short.secret, "The token short is expired (since 2999-01-01T00:00:00"),
        (gone.secret, "The token gone is revoked (since 20"),
    ):
        got = guarded.get("/v1/masks/1", headers={b"Authorization": f"Bearer {secret}".encode("latin-1")})
        assert (got.status_code, got.json()["code"]) == (401, "unauthorized")
        assert got.json()["detail"].startswith(why)
        assert got.headers["content-type"] == "application/problem+json"


def test_a_name_is_free_again_when_its_token_is_revoked(registry: Registry) -> None:
    old = registry.create_token("dome", ["ingest"])
    registry.revoke_token("1", reason="moved")
    new = registry.create_token("dome", ["ingest", "build", "build"])
    assert old.secret != new.secret
    assert [(t.name, t.status, t.scopes, t.reason) for t in registry.tokens()] == [
        ("dome", "revoked", ("ingest",), "moved"),
        ("dome", "valid", ("ingest", "build"), None),
    ]


def test_whoever_guesses_has_to_wait_and_others_do_not(registry: Registry, guarded: TestClient) -> None:
    secret = registry.create_token("anna", ["read"]).secret
    assert guarded.get("/v1/masks/1", headers=bearing(secret)).status_code == 404
    for _ in range(10):
        assert guarded.get("/v1/masks/1", headers=bearing("hp_guess")).status_code == 401
    for guess in ("hp_guess", secret):
        got = guarded.get("/v1/masks/1", headers=bearing(guess))
        assert (got.status_code, got.json()["code"]) == (429, "too-many-requests")
        assert 1 <= int(got.headers["retry-after"]) <= 6
    assert guarded.get("/healthz").status_code == 200
    guarded._transport.client = ("192.0.2.7", 1)  # type: ignore[attr-defined]
    assert guarded.get("/v1/masks/1", headers=bearing(secret)).status_code == 404


def test_guesses_take_a_bounded_memory() -> None:
    guesses = Guesses()
    for number in range(MOST_ADDRESSES + 5):
        guesses.wrong(f"address {number}")
    assert len(guesses._free_at) == MOST_ADDRESSES
    assert address_of("2001:db8:1:2:3:4:5:6") == address_of("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert address_of("192.0.2.7") == "192.0.2.7"


def test_a_browser_asks_for_the_token_itself_but_only_for_reading(
    registry: Registry, guarded: TestClient
) -> None:
    secret = registry.create_token("anna", ["admin"]).secret
    basic = {"Authorization": "Basic " + b64encode(f"anna:{secret}".encode()).decode()}
    asked = guarded.get("/v1/masks/1", headers={"Accept": "text/html"})
    assert (asked.status_code, asked.headers["www-authenticate"]) == (401, 'Basic realm="hotpix-registry"')
    assert guarded.get("/v1/masks/1", headers=basic).status_code == 404
    assert guarded.post("/v1/resolve", headers=basic, json={"headers": [{}]}).status_code == 401


def test_a_secret_is_in_nothing_that_is_kept_or_said(
    registry: Registry, guarded: TestClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register_camera(registry, tmp_path)
    import_pixels(registry, tmp_path, "2021-03-04", [5])
    made = registry.create_token("anna", ["read"])
    with caplog.at_level(logging.DEBUG):
        said = repr(made) + str(registry.tokens()) + str(registry.log())
        for headers in (bearing(made.secret), bearing(made.secret + "x"), {"Authorization": made.secret}):
            said += guarded.get(f"/v1/cameras/{CAMERA}/mask?date=never", headers=headers).text
        said += guarded.get("/metrics").text
    assert made.secret not in said + caplog.text
    registry.export(tmp_path / "export.sqlite")
    exported = (tmp_path / "export.sqlite").read_bytes()
    assert made.secret.encode() not in exported
    with Registry(str(tmp_path / "export.sqlite")) as copy:
        assert copy.tokens() == []
    registry.backup(tmp_path / "backup.sqlite")
    assert made.secret.encode() not in (tmp_path / "backup.sqlite").read_bytes()
