"""Real servers on loopback: the service on the registry of the test, and one that says what a test wants."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hotpix_registry import Client
from hotpix_registry.registry import Registry
from tests.serving import serving
from tests.story import one_mask
from tests.told import Story


@pytest.fixture
def mask_id(told: Callable[[Story], Path]) -> int:
    """A mask of two pixels, (5, 0) and (6, 1), from 2021-03-04 on."""
    told(one_mask)
    return 1


@pytest.fixture
def url(registry: Registry, database: str, mask_id: int) -> Iterator[str]:
    with serving(database) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as opened:
        yield opened


Said = tuple[int, dict[str, str], bytes]


@dataclass(slots=True)
class Scripted:
    """A server that says what it is told to, in that order, and the last for ever."""

    says: list[Said] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    """method and path of each request"""
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def say(self, status: int, content: bytes | Any, **headers: str) -> None:
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
            headers = {"Content_Type": "application/json"} | headers
        self.says.append((status, {k.replace("_", "-"): v for k, v in headers.items()}, content))

    def next(self) -> Said:
        return self.says.pop(0) if len(self.says) > 1 else self.says[0]


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    with speaking() as script:
        yield script


@contextmanager
def speaking() -> Iterator[Scripted]:
    """A server on loopback that says what its script is told to."""
    script = Scripted()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.heard.append(f"{self.command} {self.path}")
            script.headers.append(dict(self.headers))
            status, headers, content = script.next()
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_CONNECT = answer  # noqa: N815

        log_message: Callable[..., None] = lambda *_: None

    with listening(Handler) as script.url:
        yield script


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on loopback; its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
