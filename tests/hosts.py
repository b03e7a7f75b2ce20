"""Several servers on one registry, and a balancer before them that knows as much as nginx does."""

from __future__ import annotations

import itertools
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection

from tests.cli.conftest import Hotpix


class Host:
    """`hotpix-registry serve` in a process of its own."""

    def __init__(self, hotpix: Hotpix, *options: str) -> None:
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._hotpix, self._options = hotpix, options
        self.begin()

    def begin(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hotpix_registry", "serve", "--port", str(self.port), *self._options],
            cwd=self._hotpix.cwd,
            env=self._hotpix.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def is_ready(self) -> bool:
        try:
            return ask(self.port, "/readyz")[0] == 200
        except OSError:
            return False

    def wait(self) -> None:
        for _ in range(600):
            if self.is_ready():
                return
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            time.sleep(0.1)
        raise AssertionError("the server does not come up")

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)
        return self.process.returncode


@contextmanager
def hosts(hotpix: Hotpix, number: int, *options: str) -> Iterator[list[Host]]:
    started = [Host(hotpix, *options) for _ in range(number)]
    try:
        for host in started:
            host.wait()
        yield started
    finally:
        for host in started:
            if host.process.poll() is None:
                host.end()


class Balancer:
    """Sends each connection to the next server; to another one where that refuses or says nothing at all."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._turns = itertools.cycle(range(len(ports)))
        self._ports = list(ports)
        self.taken: Counter[int] = Counter()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(client, next(self._turns)), daemon=True).start()

    def _serve(self, client: socket.socket, turn: int) -> None:
        with closing(client), suppress(OSError):
            request = _request(client)
            for place in (turn, turn + 1):
                port = self._ports[place % len(self._ports)]
                if self._forward(request, client, port):
                    self.taken[port] += 1
                    return

    @staticmethod
    def _forward(request: bytes, client: socket.socket, port: int) -> bool:
        answered = False
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=60) as server:
            server.sendall(request)
            while piece := server.recv(65536):
                answered = True
                client.sendall(piece)
        return answered


def _request(client: socket.socket) -> bytes:
    taken = b""
    while b"\r\n\r\n" not in taken:
        taken += client.recv(65536)
    head, _, body = taken.partition(b"\r\n\r\n")
    length = next(
        (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        body += client.recv(65536)
    return head + b"\r\nConnection: close\r\n\r\n" + body


def ask(
    port: int, path: str, body: bytes | None = None, *, method: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one request on a connection of its own."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method or ("GET" if body is None else "POST"), path, body, sent)
        got = connection.getresponse()
        return got.status, {name.lower(): value for name, value in got.getheaders()}, got.read()
