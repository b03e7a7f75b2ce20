"""What a real connection brings: heads without an end, bodies that nobody may send."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import uvicorn

from hotpix_registry.domain import Scope
from hotpix_registry.registry import Registry
from hotpix_registry.web.app import LISTENING, create_app
from hotpix_registry.web.state import ServerSettings
from tests.serving import serving
from tests.web.conftest import bearing


@pytest.fixture
def url(registry: Registry, database: str) -> Iterator[str]:
    with serving(database) as address:
        yield address


@pytest.fixture
def guarded_url(registry: Registry, database: str) -> Iterator[str]:
    with serving(database, read_needs_token=True) as address:
        yield address


def said(url: str, *pieces: bytes) -> bytes:
    """What a server says to pieces of a request that are sent until it has enough."""
    place = urlsplit(url)
    with socket.create_connection((str(place.hostname), place.port or 80), timeout=20) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            return connection.recv(65536)
        except ConnectionError:
            return b"ended"


def without_its_body(method_and_path: str, **headers: str) -> bytes:
    """The head of a request whose body of 50 MB is announced, and never comes."""
    lines = [f"{method_and_path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in ({"Content-Length": "50000000"} | headers).items()]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize(
    "route",
    [
        "/v1/frames",
        "/v1/frames/upload?name=dark.fits",
        "/v1/cameras/aspen/build",
        "/v1/cameras/aspen/events",
        "/v1/masks/1/certify",
        "/v1/masks/1/revoke",
        "/v1/masks/1/decertify",
        "/v1/recipes/diff",
        "/v1/recipes/rollout",
        "/v1/recipes/rollback",
        "/v1/releases",
    ],
)
def test_who_has_no_token_is_told_so_before_a_body_is_read(registry: Registry, url: str, route: str) -> None:
    assert said(url, without_its_body(f"POST {route}")).startswith(b"HTTP/1.1 401 ")
    wrong = registry.create_token("reads", [Scope.READ]).secret
    assert said(url, without_its_body(f"POST {route}", **bearing(wrong))).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("route", ["/v1/resolve", "/v1/reading/state"])
def test_where_reading_needs_a_token_it_is_looked_at_before_a_body_too(guarded_url: str, route: str) -> None:
    assert said(guarded_url, without_its_body(f"POST {route}")).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("head", [b"GET /healthz HTTP/1.1\r\nX: ", b"GET /"])
def test_a_head_without_an_end_is_refused(url: str, head: bytes) -> None:
    answer = said(url, head, *[b"x" * 10_000] * 100)
    assert answer == b"ended" or answer.startswith(b"HTTP/1.1 400 ")


def test_a_head_that_comes_in_pieces_is_answered(url: str) -> None:
    pieces = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert said(url, *(bytes([byte]) for byte in pieces)).startswith(b"HTTP/1.1 200 ")


def test_where_workers_share_a_socket_an_answer_is_sent_at_once(registry: Registry, database: str) -> None:
    """The system would hold the body back until the head is acknowledged, which takes 40 ms."""
    server = uvicorn.Server(uvicorn.Config(create_app(ServerSettings(database=database)), **LISTENING))
    with socket.create_server(("127.0.0.1", 0)) as shared:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [shared]})
        thread.start()
        try:
            with socket.create_connection(shared.getsockname(), timeout=20) as peer:
                peer.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert peer.recv(65536).startswith(b"HTTP/1.1 200")
                (connection,) = server.server_state.connections
                accepted = connection.transport.get_extra_info("socket")
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        finally:
            server.should_exit = True
            thread.join(timeout=30)
