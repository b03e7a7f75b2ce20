"""Which way a client takes to its server: through a proxy, or where it is sent on to."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

import pytest

from hotpix_registry import Client
from hotpix_registry.errors import NotAdmitted, ServerUnreachable, UsageError
from hotpix_registry.registry import Registry
from tests.client.conftest import Scripted, listening, speaking
from tests.story import CAMERA

FAR = "http://registry.invalid:8471"
"""a name that only the proxy knows"""


@dataclass(slots=True)
class Proxy:
    """A proxy that leads to one server, whatever name it is asked for."""

    url: str = ""
    heard: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    """A proxy before the service on the registry of the test."""
    known = Proxy()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            known.heard.append(f"{self.command} {self.path}")
            known.headers.append({name.lower(): value for name, value in self.headers.items()})
            asked, there = urlsplit(self.path), urlsplit(url)
            onward = http.client.HTTPConnection(str(there.hostname), there.port)
            headers = {k: v for k, v in self.headers.items() if not k.lower().startswith("proxy-")}
            onward.request(self.command, f"{asked.path}?{asked.query}", body, headers)
            reply = onward.getresponse()
            content = reply.read()
            self.send_response(reply.status)
            for name, value in reply.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            onward.close()

        do_GET = do_POST = forward  # noqa: N815

        log_message: Callable[..., None] = lambda *_: None

    with listening(Handler) as known.url:
        yield known


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_server_is_asked_through_the_proxy_that_is_set(
    registry: Registry, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("http://", "http://anna:p%40ss@"))
    with Client(FAR) as client:
        found = client.mask(CAMERA, "2021-03-05")
        assert found.answer.as_dict() == registry.mask(CAMERA, "2021-03-05").answer.as_dict()
        assert found.array.sum() == 2
    asked = f"GET {FAR}/v1/cameras/{CAMERA}/mask?date=2021-03-05"
    assert proxy.heard == [asked, f"GET {FAR}/v1/masks/{found.mask_id}/file.fits.gz"]
    assert [one["proxy-authorization"] for one in proxy.headers] == ["Basic YW5uYTpwQHNz"] * 2


def test_a_proxy_is_passed_by_for_those_that_need_none(
    url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    with Client(url) as client:  # on this machine
        client.mask(CAMERA, "2021-03-05")
    monkeypatch.setenv("NO_PROXY", "example.org,.invalid")
    with Client(FAR) as client, pytest.raises(ServerUnreachable, match=r"its name is not known here"):
        client.mask(CAMERA, "2021-03-06")
    assert proxy.heard == []


def test_what_is_wrong_with_a_proxy_names_it_without_its_password(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.say(403, b"no")
    monkeypatch.setenv("HTTPS_PROXY", scripted.url.replace("http://", "http://anna:secret@"))
    with Client("https://registry.invalid") as client, pytest.raises(ServerUnreachable) as refused:
        client.mask(CAMERA, "2021-03-05")
    assert scripted.heard[0] == "CONNECT registry.invalid:443"
    assert f"cannot be reached through the proxy {scripted.url}: it does not lead there" in str(refused.value)
    assert "secret" not in str(refused.value)
    monkeypatch.setenv("HTTP_PROXY", "127.0.0.1:1")
    with (
        Client(FAR) as client,
        pytest.raises(ServerUnreachable, match=r"through the proxy http://127\.0\.0\.1:1"),
    ):
        client.mask(CAMERA, "2021-03-05")


@pytest.mark.parametrize("nonsense", ["socks5://127.0.0.1:1", "http://", "http://127.0.0.1:port"])
def test_what_is_no_proxy_is_refused(nonsense: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", nonsense)
    with Client(FAR) as client, pytest.raises(UsageError, match="is no address of an HTTP proxy") as refused:
        client.mask(CAMERA, "2021-03-05")
    assert "NO_PROXY" in refused.value.next_step


@pytest.fixture
def elsewhere() -> Iterator[Scripted]:
    with speaking() as script:
        yield script


def test_a_token_is_not_sent_to_where_a_server_sends_on_and_that_is_said(
    scripted: Scripted, elsewhere: Scripted
) -> None:
    where = f"{elsewhere.url}/v1/cameras/{CAMERA}/mask?date=2021-03-05"
    scripted.say(308, b"", Location=where)
    problem = {"code": "unauthorized", "detail": "This needs a token with the scope read.", "next_step": ""}
    elsewhere.say(401, problem, Content_Type="application/problem+json")
    with Client(scripted.url, token="hp_mine") as client, pytest.raises(NotAdmitted) as refused:
        client.mask(CAMERA, "2021-03-05")
    assert scripted.headers[0]["Authorization"] == "Bearer hp_mine"
    assert "Authorization" not in elsewhere.headers[0]
    assert f"sends requests on to {elsewhere.url}, and your token was not sent along" in str(refused.value)
    assert (
        refused.value.next_step == f"Set HOTPIX_SERVER_URL to {elsewhere.url} if you trust it with the token."
    )
    with Client(scripted.url) as client, pytest.raises(NotAdmitted, match="This needs a token"):
        client.mask(CAMERA, "2021-03-05")
