"""Lines between a client and a server on which something happens to what is sent."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from urllib.parse import urlsplit


class Line:
    """A line between client and server that passes on what the server sends as a test wants it.

    Unless it is told otherwise it changes nothing.
    """

    def __init__(self, url: str) -> None:
        self._far = urlsplit(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent = 0
        self._flip_at: int | None = None
        self._bit = 0
        self._most_each: int | None = None
        self._left: int | None = None
        self._open: list[socket.socket] = [self._listener]

    def cut_each(self, n_bytes: int) -> None:
        """Break each connection after so many bytes."""
        self._most_each = n_bytes

    def go_down_after(self, n_bytes: int) -> None:
        """Break after so many bytes, whatever the number of connections, and let nobody connect then."""
        self._left = n_bytes

    def flip(self, at: int, draw: random.Random) -> None:
        self._flip_at, self._bit = at, 1 << draw.randrange(8)

    def __enter__(self) -> Line:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection((str(self._far.hostname), self._far.port or 80))
                self._open += [near, far]
                for source, sink, changes in ((near, far, False), (far, near, True)):
                    threading.Thread(target=self._pass, args=(source, sink, changes), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, changes: bool) -> None:
        most = self._most_each
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                if changes:
                    content = self._changed(content)
                    whole = len(content)
                    content = content[: whole if most is None else most][: self._left]
                    most = None if most is None else most - len(content)
                    self._left = None if self._left is None else self._left - len(content)
                    if len(content) < whole:
                        if self._left == 0:
                            self._listener.shutdown(socket.SHUT_RDWR)
                            self._listener.close()
                        sink.sendall(content)
                        source.shutdown(socket.SHUT_RDWR)
                        break
                sink.sendall(content)
            sink.shutdown(socket.SHUT_WR)

    def _changed(self, content: bytes) -> bytes:
        start, self.sent = self.sent, self.sent + len(content)
        if self._flip_at is not None and start <= self._flip_at < self.sent:
            at, self._flip_at = self._flip_at - start, None
            return content[:at] + bytes([content[at] ^ self._bit]) + content[at + 1 :]
        return content
