"""What is sent to the service by those who mean it no good."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from hotpix_registry import __version__
from hotpix_registry.domain import Scope
from hotpix_registry.registry import Registry
from hotpix_registry.web.app import LISTENING, create_app
from hotpix_registry.web.patience import PatientProtocol
from hotpix_registry.web.problems import SAFE_HEADERS
from hotpix_registry.web.state import ServerSettings
from tests.serving import serving
from tests.story import CAMERA, one_mask
from tests.told import Story
from tests.web.conftest import bearing


@pytest.fixture
def secret(told: Callable[[Story], Path], registry: Registry) -> str:
    """A token that may do everything, in a registry with a camera and a mask."""
    told(one_mask)
    return registry.create_token("keeper", [Scope.ADMIN]).secret


# --- who may do what --------------------------------------------------------

UNGUARDED = {"/healthz", "/readyz", "/metrics"}
OF_WRITING = {
    "/v1/frames": Scope.INGEST,
    "/v1/frames/upload": Scope.INGEST,
    "/v1/cameras/{camera}/build": Scope.BUILD,
    "/v1/recipes/diff": Scope.BUILD,
    "/v1/recipes/rollout": Scope.CERTIFY,
    "/v1/recipes/rollback": Scope.CERTIFY,
    "/v1/masks/{mask_id}/certify": Scope.CERTIFY,
    "/v1/masks/{mask_id}/revoke": Scope.CERTIFY,
    "/v1/masks/{mask_id}/decertify": Scope.CERTIFY,
    "/v1/cameras/{camera}/events": Scope.CERTIFY,
    "/v1/releases": Scope.ADMIN,
}
NOT_DESCRIBED = [("get", "/"), ("get", "/docs"), ("get", "/masks/1"), ("post", "/v1/reading/state")]
"""pages, and what the command line asks; all of them read"""


@pytest.mark.parametrize("read_needs_token", [False, True])
def test_each_operation_of_the_description_is_open_to_its_scope_and_to_no_other(
    registry: Registry, database: str, secret: str, read_needs_token: bool
) -> None:
    secrets = {scope: registry.create_token(f"for-{scope}", [scope]).secret for scope in Scope}
    app = create_app(ServerSettings(database=database, read_needs_token=read_needs_token))
    operations = [(method, path) for path, of in app.openapi()["paths"].items() for method in of]
    reads_by_post = {("post", "/v1/resolve"), ("post", "/v1/reading/state")}
    with TestClient(app, follow_redirects=False) as client:
        for method, path in operations + NOT_DESCRIBED:
            reads = method == "get" or (method, path) in reads_by_post
            scope = Scope.READ if reads else OF_WRITING[path]
            is_open = path in UNGUARDED or (reads and not read_needs_token)
            for held, sent in ((None, {}), *((held, bearing(token)) for held, token in secrets.items())):
                with client.stream(method, re.sub(r"\{[a-z_]+\}", "1", path), headers=sent) as got:
                    status = got.status_code
                refused = 0 if is_open or held in (scope, Scope.ADMIN) else 401 if held is None else 403
                assert status == refused if refused else status not in (401, 403), (
                    method,
                    path,
                    held,
                    status,
                )


def test_only_a_bearer_writes_so_that_no_other_site_can_do_so_with_a_browsers_own_credentials(
    client: TestClient, secret: str
) -> None:
    form = {"Origin": "https://evil.example", "Content-Type": "application/x-www-form-urlencoded"}
    for headers, auth in (
        (form, ("keeper", secret)),
        (form | {"Cookie": f"token={secret}"}, None),
        ({"Content-Type": "text/plain"}, ("keeper", secret)),
    ):
        got = client.post("/v1/masks/1/revoke", content="reason=x", headers=headers, auth=auth)  # type: ignore[arg-type]
        assert got.status_code == 401
    preflight = client.options("/v1/masks/1/revoke", headers=form | {"Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 405
    assert not [name for name in preflight.headers if name.startswith("access-control")]
    assert client.get(f"/v1/masks/1/revoke?token={secret}").status_code == 405


# --- what a database or a parser would choke on -----------------------------


def test_texts_that_a_database_cannot_keep_are_refused(client: TestClient, secret: str) -> None:
    texts: list[tuple[str, dict[str, Any]]] = [
        ("/v1/masks/1/revoke", {"reason": "\0"}),
        ("/v1/masks/1/decertify", {"reason": "a\0"}),
        ("/v1/masks/1/certify", {"reason": "\0", "force": True}),
        ("/v1/recipes/diff", {"old": "current", "new": "none", "cameras": ["\0"]}),
        (f"/v1/cameras/{CAMERA}/events", {"date": "2031-01-01", "kind": "anneal", "note": "\0"}),
        ("/v1/releases", {"name": "first", "note": "\0"}),
        ("/v1/releases", {"name": "a\r\nSet-Cookie: x"}),
        ("/v1/frames", {"paths": ["/\0"]}),
        ("/v1/reading/masks", {"version": __version__, "arguments": {"camera": "\0"}}),
    ]
    for path, body in texts:
        got = client.post(path, json=body, headers=bearing(secret))
        assert got.status_code in (404, 422), (path, body, got.text)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"version":"0","arguments":' + b"[" * 200_000,
        b'{"version":"0","arguments":{"camera":"\\ud800"}}',
        b'{"version":"0","arguments":' + b"9" * 5000 + b"}",
        b"\xff",
        b"",
    ],
)
@pytest.mark.parametrize("path", ["/v1/reading/masks", "/v1/resolve"])
def test_json_that_is_none_or_bottomless_is_one_sentence(
    story_client: TestClient, path: str, body: bytes
) -> None:
    body = body.replace(b'"0"', json.dumps(__version__).encode())
    got = story_client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert got.status_code in (400, 422), got.text
    assert got.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/static/../../etc/passwd",
        "/static/%2e%2e/%2e%2e/app.py",
        "/static/..%2f..%2fapp.py",
        "/static/%252e%252e%252fapp.py",
        "/static//etc/passwd",
        "/static/..%5c..%5capp.py",
        "/static/%00",
        "/static/a%00.css",
        "/static/",
        f"/static/{'a' * 5000}",
        "/v1/masks/1/plots/..%2f..%2fapp.png",
        "/v1/masks/1/file.%2e%2e%2f",
        "/%5cevil.example",
        "/%0d%0aSet-Cookie:%20a=1",
    ],
)
def test_no_path_leads_out_of_what_is_served(story_client: TestClient, path: str) -> None:
    got = story_client.get(path)
    assert (got.status_code, "location" in got.headers) == (404, False)
    assert "set-cookie" not in got.headers


@pytest.mark.parametrize("preset", ["a\r\nSet-Cookie: x=1", "(" * 3000, "' OR 1=1 --", "\0", "HOT|"])
@pytest.mark.parametrize("form", ["mask", "mask.fits"])
def test_a_preset_that_names_nothing_stands_in_no_answer_receipt_or_header(
    story_client: TestClient, preset: str, form: str
) -> None:
    got = story_client.get(f"/v1/cameras/{CAMERA}/{form}", params={"date": "2021-05-05", "preset": preset})
    assert got.status_code == 422
    assert not {"set-cookie", "location"} & set(got.headers)


def test_a_glob_cannot_go_through_an_archive_over_and_over(
    registry: Registry, database: str, secret: str, tmp_path: Path
) -> None:
    settings = ServerSettings(database=database, frames_roots=(str(tmp_path),))
    with TestClient(create_app(settings)) as client:
        body = {"paths": [f"{tmp_path}/{'**/*' * 200}"]}
        got = client.post("/v1/frames", json=body, headers=bearing(secret))
    assert (got.status_code, got.json()["code"]) == (422, "usage")
    assert "has more than 8 stars" in got.json()["detail"]


@pytest.mark.parametrize("host", ["evil.example", "a b", "[::1", '"><script>', "a:99999", "user:pw@x", ""])
def test_the_name_by_which_the_service_is_called_is_not_believed(story_client: TestClient, host: str) -> None:
    for path in ("/", "/docs", "/masks/1", "/v1/masks/1"):
        got = story_client.get(path, headers={"Host": host, "X-Forwarded-Host": "evil.example"})
        assert got.status_code == 200
        assert '"><script>' not in got.text
        if path != "/docs":  # which shows how it was called
            assert "evil.example" not in got.text


def test_no_cell_of_a_table_is_a_formula(client: TestClient, registry: Registry, secret: str) -> None:
    registry.add_event(CAMERA, "2031-01-01", "anneal", note='=HYPERLINK("https://evil.example")')
    registry.add_event(CAMERA, "2031-02-01", "anneal", note="-1+cmd|' /C calc'!A0")
    for path in (f"/v1/cameras/{CAMERA}/events", "/v1/log"):
        text = client.get(path, params={"format": "csv"}).text
        assert not re.search(r'(?:^|,)"?[=+@-](?!\d+(?:\.\d+)?(?:,|$))', text, re.MULTILINE), text
    told = client.get(f"/v1/cameras/{CAMERA}/events", params={"format": "json"}).text
    assert "'=HYPERLINK" not in told


# --- what every answer has, and none ----------------------------------------


def test_every_kind_of_answer_has_the_headers_that_keep_browsers_safe(
    registry: Registry, database: str, secret: str
) -> None:
    app = create_app(ServerSettings(database=database, most_body_bytes=1000))

    @app.get("/breaks")
    def breaks() -> None:
        raise ZeroDivisionError

    with TestClient(app, follow_redirects=False, raise_server_exceptions=False) as client:
        answers = {
            "page": client.get("/"),
            "static file": client.get("/static/style.css"),
            "data": client.get("/v1/masks"),
            "file": client.get("/v1/masks/1/file.fits"),
            "picture": client.get("/v1/masks/1/plots/map.png"),
            "redirection": client.get(f"/v1/cameras/{CAMERA}/mask.fits?date=2021-03-05"),
            "nothing there": client.get("/nothing"),
            "page of nothing": client.get("/nothing", headers={"Accept": "text/html"}),
            "no token": client.post("/v1/releases", json={}),
            "no sense": client.get("/v1/masks/x"),
            "too large": client.post("/v1/resolve", content=b"x" * 2000),
            "not possible": client.delete("/v1/masks"),
            "unchanged": client.get("/v1/masks", headers={"If-None-Match": "*"}),
            "metrics": client.get("/metrics"),
            "bug": client.get("/breaks"),
        }
    with TestClient(create_app(ServerSettings(database=database, most_in_work=0))) as client:
        answers["busy"] = client.get("/v1/masks")
    statuses = {got.status_code for got in answers.values()}
    assert statuses >= {200, 303, 304, 401, 404, 405, 413, 422, 500, 503}
    for kind, got in answers.items():
        found = {name: got.headers.get(name) for name in SAFE_HEADERS}
        assert found == SAFE_HEADERS, kind
        assert "server" not in got.headers, kind


def test_no_token_and_no_password_is_in_any_answer_or_line_of_a_log(
    registry: Registry, database: str, secret: str, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    wrong = "hp_" + "WRONG" * 8
    caplog.set_level(logging.DEBUG)
    app = create_app(ServerSettings(database=database, read_needs_token=True, most_body_bytes=1000))

    @app.get("/breaks")
    def breaks() -> None:
        raise ZeroDivisionError

    said = ""
    with TestClient(app, follow_redirects=False, raise_server_exceptions=False) as client:
        for sent in (secret, wrong):
            for headers in (bearing(sent), {"Authorization": sent}, {"Authorization": f"Basic {sent}"}):
                for path in (
                    "/",
                    "/v1/masks",
                    "/v1/masks/9",
                    "/v1/masks/x",
                    "/breaks",
                    "/metrics",
                    "/nothing",
                ):
                    said += (got := client.get(path, headers=headers)).text + str(got.headers)
                for body in (b"{", b"x" * 2000, b'{"reason": 1}'):
                    said += (got := client.post("/v1/masks/1/revoke", content=body, headers=headers)).text
    said += caplog.text + "".join(capfd.readouterr())
    assert "This token is not known here." in said
    assert secret not in said and wrong not in said


# --- slow ones --------------------------------------------------------------


def asked(app: Any, messages: list[dict[str, Any]]) -> list[MutableMapping[str, Any]]:
    """What the application sends for a POST whose body arrives so far, and no further."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else await asyncio.Event().wait() and {}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/resolve",
        "raw_path": b"/v1/resolve",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"1000")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
    }
    application: Callable[..., Awaitable[None]] = app
    asyncio.run(application(scope, receive, send))
    return sent


def test_a_body_that_does_not_arrive_gives_its_place_back(database: str, registry: Registry) -> None:
    app = create_app(ServerSettings(database=database, patience_s=0.01))
    with TestClient(app) as client:
        sent = asked(app, [{"type": "http.request", "body": b"{", "more_body": True}])
        assert sent[0]["status"] == 408
        assert b"The body did not arrive in time." in sent[1]["body"]
        assert client.app.state.service.counts.in_work == 0  # type: ignore[attr-defined]


class Impatient(PatientProtocol):
    head_s = 0.2
    reader_s = 0.2


@contextmanager
def impatient(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setitem(LISTENING, "http", Impatient)
    monkeypatch.setitem(LISTENING, "timeout_keep_alive", 1)
    with serving(database) as url:
        yield "127.0.0.1", int(url.rpartition(":")[2])


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: ",
    ],
)
def test_a_head_that_does_not_end_is_not_waited_for(
    database: str, registry: Registry, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    with impatient(database, monkeypatch) as address, socket.create_connection(address, timeout=60) as peer:
        peer.sendall(begun)
        received = b""
        try:
            while part := peer.recv(65536):
                received += part
        except ConnectionResetError:
            pass
        assert received.count(b"HTTP/1.1 200 OK") == begun.count(b"\r\n\r\n")


def test_an_answer_that_nobody_reads_is_given_up(
    database: str, registry: Registry, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    with impatient(database, monkeypatch) as address:
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(address)
        with peer:
            peer.settimeout(60)
            request = b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n"
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                while True:  # pipelined, so that more is to be sent than systems buffer
                    peer.sendall(request * 50)


SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: 4\r\nContent-Length: 60", SMUGGLED),
        (b"Content-Length: -1", SMUGGLED),
        (b"Content-Length: +4", b"abcd" + SMUGGLED),
        (b"Content-Length: 4, 4x", b"abcd" + SMUGGLED),
        (b"Transfer-Encoding: xchunked", b"0\r\n\r\n" + SMUGGLED),
        (b"Transfer-Encoding: chunked, identity", b"0\r\n\r\n" + SMUGGLED),
        (b"Transfer-Encoding : chunked", b"0\r\n\r\n" + SMUGGLED),
        (b"Transfer-Encoding: chunked", b"-1\r\nabc\r\n" + SMUGGLED),
        (b"Transfer-Encoding: chunked", b"1\r\nabc\r\n" + SMUGGLED),
        (b"X: " + b"a" * 200_000, b""),
        (b"Host: other", b""),
        (b"\x00: x", b""),
    ],
)
def test_requests_whose_length_two_readers_might_read_differently_end_the_connection(
    server: tuple[str, int], head: bytes, body: bytes
) -> None:
    with socket.create_connection(server, timeout=60) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        received = b""
        try:
            peer.sendall(
                b"POST /v1/resolve HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + head + b"\r\n\r\n" + body
            )
            while part := peer.recv(65536):
                received += part
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert received.startswith(b"HTTP/1.1 4") or not received
    assert b"hotpix_requests" not in received


@pytest.fixture(scope="module")
def server(place: tuple[Path, str]) -> Iterator[tuple[str, int]]:
    with serving(place[1]) as url:
        yield "127.0.0.1", int(url.rpartition(":")[2])
