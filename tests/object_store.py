"""Stores on loopback: moto's S3 server and a plain web server, which note what is asked of them."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

BUCKET = "observatory"


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of a store, and how much it answered."""

    method: str
    path: str
    range: str
    status: int
    n_bytes: int


@dataclass(slots=True)
class Store:
    """A running S3 server."""

    url: str
    requests: list[Asked] = field(default_factory=list)
    failures: list[tuple[str, int | None, str]] = field(default_factory=list)
    """(part of a path, status or None for a line that breaks, S3's code) of requests that fail, each once"""

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "observer",
            "AWS_SECRET_ACCESS_KEY": "not-to-be-told",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def put(self, path: Path, key: str) -> str:
        """Upload a file; the URL of the object."""
        self._ask("PUT", f"/{BUCKET}/{quote(key)}", path.read_bytes())
        return f"s3://{BUCKET}/{key}"

    def put_folder(self, folder: Path, prefix: str) -> str:
        for path in sorted(folder.rglob("*.*")):
            self.put(path, f"{prefix}/{path.relative_to(folder).as_posix()}")
        return f"s3://{BUCKET}/{prefix}/"

    def delete(self, url: str) -> None:
        self._ask("DELETE", f"/{quote(url.removeprefix('s3://'))}")

    def _ask(self, method: str, path: str, body: bytes | None = None) -> None:
        # moto looks at who signs, and not at the signature
        signed = "AWS4-HMAC-SHA256 Credential=observer/20210304/us-east-1/s3/aws4_request, SignedHeaders=host"
        headers = {"Content-Type": "application/octet-stream", "Authorization": f"{signed}, Signature=0"}
        with urlopen(Request(self.url + path, body, headers, method=method), timeout=30):
            pass

    @contextmanager
    def watched(self) -> Iterator[list[Asked]]:
        """The requests that are made meanwhile."""
        before, seen = len(self.requests), list[Asked]()
        yield seen
        seen += self.requests[before:]


class _Watching:
    """A WSGI application that notes requests, and lets some of them fail."""

    def __init__(self, application: Callable[..., Any], store: Store) -> None:
        self._application, self._store = application, store

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        path = environ["PATH_INFO"]
        for failure in self._store.failures:
            if failure[0] in path:
                self._store.failures.remove(failure)
                _, code, name = failure
                if code is None:
                    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                    code = 500
                body = f"<Error><Code>{name}</Code><Message>{name}</Message></Error>".encode()
                start_response(f"{code} {name}", [("Content-Length", str(len(body)))])
                self._note(environ, code, 0)
                return [body] if environ["REQUEST_METHOD"] != "HEAD" else []
        status = []

        def begin(line: str, headers: Any, *others: Any) -> Any:
            status.append(int(line.split()[0]))
            return start_response(line, headers, *others)

        body = b"".join(self._application(environ, begin))
        self._note(environ, status[0], len(body) if environ["REQUEST_METHOD"] != "HEAD" else 0)
        return [body]

    def _note(self, environ: dict[str, Any], status: int, n_bytes: int) -> None:
        self._store.requests.append(
            Asked(
                environ["REQUEST_METHOD"],
                environ["PATH_INFO"],
                environ.get("HTTP_RANGE", ""),
                status,
                n_bytes,
            )
        )


@contextmanager
def running_store() -> Iterator[Store]:
    """An S3 server with an empty bucket."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: Any) -> None:
            pass

    store = Store("")
    application = _Watching(DomainDispatcherApplication(create_backend_app), store)
    server: Any = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    store.url = f"http://127.0.0.1:{server.server_port}"
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        store._ask("PUT", f"/{BUCKET}")
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# --- a plain web server -----------------------------------------------------------------


@dataclass(slots=True)
class Web:
    """A running web server of a folder."""

    url: str
    requests: list[Asked] = field(default_factory=list)


@contextmanager
def running_web(
    folder: Path, *, ranges: bool = True, tags: bool = True, delay_s: float = 0.0
) -> Iterator[Web]:
    """A web server of a folder, with or without ranges and ETags, that waits before each answer."""
    web = Web("")

    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_: Any) -> None:
            pass

        def end_headers(self) -> None:
            path = Path(self.translate_path(getattr(self, "path", "")))
            if tags and path.is_file():
                stat = path.stat()
                self.send_header("ETag", f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"')
            super().end_headers()

        def do_GET(self) -> None:
            time.sleep(delay_s)
            asked, path = self.headers.get("Range", ""), Path(self.translate_path(self.path))
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", asked)
            if not (ranges and found and path.is_file()):
                web.requests.append(Asked("GET", self.path, asked, 200, 0))
                super().do_GET()
                return
            size = path.stat().st_size
            start, stop = int(found[1]), min(int(found[2]) + 1, size)
            with path.open("rb") as file:
                data = os.pread(file.fileno(), stop - start, start)
            web.requests.append(Asked("GET", self.path, asked, 206, len(data)))
            self.send_response(206)
            self.send_header("Content-Type", "application/fits")
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.url = f"http://127.0.0.1:{server.server_port}"
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
