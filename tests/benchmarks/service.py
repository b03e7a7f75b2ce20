"""How many look-ups a second the service answers: `python -m tests.benchmarks.service`.

Clients on loopback ask over connections that stay open, each its next question when it has its answer;
every question has another date. What a bare Starlette route answers, with as many bytes and over the same
connections, is measured in turn with it: that is the ceiling, and the ratio to it holds on a busy machine.
The clients' own processor time stands beside, since they share the processors. `--json FILE` writes the
numbers.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import urllib3
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from hotpix_registry import Registry
from hotpix_registry.cameras import CameraProfile
from hotpix_registry.instants import US_PER_DAY, iso
from hotpix_registry.web import app
from hotpix_registry.web.state import ServerSettings
from tests.benchmarks.lookup import FIRST_US, fill
from tests.databases import running_postgresql
from tests.plain_masks import add_camera

ASSIGNMENTS = 100_000
CLIENTS = (1, 8, 64)
ROUNDS = 3
"""each in turn with the bare server; the median counts"""
TAGGED = 'W/"bare"'


# --- asking -----------------------------------------------------------------------------


@dataclass(slots=True)
class Load:
    """What became of the questions of one run."""

    statuses: Counter[int] = field(default_factory=Counter)
    took_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    without_retry_after: int = 0
    """answers of 503 that do not say when to come again"""
    broken: int = 0
    """connections that ended before the answer"""
    own_s: float = 0.0
    """processor time of those who ask"""

    @property
    def per_second(self) -> float:
        return self.statuses.total() / self.seconds

    @property
    def own_us(self) -> float:
        return self.own_s / self.statuses.total() * 1e6

    @property
    def p99_ms(self) -> float:
        return float(np.percentile(self.took_s, 99)) * 1000


_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Asker(asyncio.Protocol):
    """One client: a question, its answer, the next question, until the time is up."""

    def __init__(self, questions: Iterator[bytes], load: Load, until: float) -> None:
        self._questions, self._load, self._until = questions, load, until
        self._head = b""
        self._left = 0
        """bytes of an answer that are still to come"""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(next(self._questions))

    def data_received(self, data: bytes) -> None:
        if self._left:
            self._left -= len(data)
        else:
            self._head += data
            if not self._reads_head():
                return
        if self._left > 0:
            return
        now = time.perf_counter()
        status = int(self._head[9:12])
        self._load.statuses[status] += 1
        self._load.took_s.append(now - self._asked)
        self._load.without_retry_after += status == 503 and b"retry-after:" not in self._head.lower()
        self._head = b""
        self._left = 0
        if now < self._until:
            self._ask()
        else:
            self.done.set_result(None)
            self._transport.close()

    def _reads_head(self) -> bool:
        """Whether the head is there; then how much of the answer is not is known."""
        end = self._head.find(b"\r\n\r\n") + 4
        if end < 4:
            return False
        length = None if self._head[9:12] == b"304" else _LENGTH.search(self._head, 0, end)
        self._left = (int(length[1]) if length else 0) - (len(self._head) - end)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self._load.broken += 1
            self.done.set_result(None)


def ask(port: int, paths: Sequence[str], *, clients: int, seconds: float, headers: str = "") -> Load:
    """Let clients ask for paths, each from another place in the list, for some seconds."""
    questions = [f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode() for path in paths]
    load = Load()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        begun, begun_own = time.perf_counter(), time.process_time()
        askers = []
        for number in range(clients):
            own = itertools.cycle(questions[number * 17 % len(questions) :] + questions)
            _, asker = await loop.create_connection(
                lambda own=own: Asker(own, load, begun + seconds),  # type: ignore[misc]
                "127.0.0.1",
                port,
            )
            askers.append(asker)
        await asyncio.gather(*(asker.done for asker in askers))
        load.seconds, load.own_s = time.perf_counter() - begun, time.process_time() - begun_own

    asyncio.run(run())
    return load


# --- serving ----------------------------------------------------------------------------


def bare(body: bytes, file: Path) -> Starlette:
    """What Starlette itself needs for an answer, a 304 and a file of the same size."""

    async def answer(_: Request) -> Response:
        return Response(body, media_type="application/json", headers={"ETag": TAGGED})

    async def unchanged(_: Request) -> Response:
        return Response(status_code=304, headers={"ETag": TAGGED})

    async def served(_: Request) -> Response:
        return FileResponse(file)

    return Starlette(routes=[Route("/json", answer), Route("/same", unchanged), Route("/file", served)])


def serve(port: int, kind: str, told: dict[str, Any]) -> None:
    """The process of a server."""
    if kind == "bare":
        body = Path(told["body"]).read_bytes()
        uvicorn.run(bare(body, Path(told["file"])), port=port, **app.LISTENING)
        return
    workers = told.pop("workers")
    app.serve(ServerSettings(**told), port=port, workers=workers)


@contextmanager
def serving(kind: str, **told: Any) -> Iterator[int]:
    """A server in a process group of its own; its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "import sys, json; from tests.benchmarks import service as s; s.serve(*json.loads(sys.argv[1]))"
    arguments = [sys.executable, "-c", code, json.dumps([port, kind, told])]
    process = subprocess.Popen(arguments, start_new_session=True)
    try:
        for _ in range(600):
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
            except OSError:
                time.sleep(0.1)
        time.sleep(0.5)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def look_ups(number: int = 20_000) -> list[str]:
    draw = random.Random(1)
    instants = [iso(FIRST_US + draw.randrange(ASSIGNMENTS * US_PER_DAY)) for _ in range(number)]
    return [f"/v1/cameras/aspen/mask?date={instant}" for instant in instants]


def add_file(registry: Registry, folder: Path) -> int:
    """A mask of another camera, whose file has 3 MB; its id."""
    add_camera(registry, CameraProfile(name="birch"))
    np.save(folder / "mask.npy", np.eye(1000, dtype=bool))
    made = registry.import_mask(folder / "mask.npy", "birch", valid_from="2020-01-01", temperature_c=-10.0)
    return made.mask_id


# --- measuring --------------------------------------------------------------------------


def compared(one: Callable[[], Load], other: Callable[[], Load]) -> tuple[Load, Load, float]:
    """The runs of medium rate, and the medium ratio, of two that are taken in turn."""
    pairs = [(one(), other()) for _ in range(ROUNDS)]
    ratios = sorted(a.per_second / b.per_second for a, b in pairs)
    middle = ROUNDS // 2
    first = sorted((a for a, _ in pairs), key=lambda load: load.per_second)[middle]
    second = sorted((b for _, b in pairs), key=lambda load: load.per_second)[middle]
    return first, second, ratios[middle]


def check(load: Load, *allowed: int) -> None:
    """No load may bring an error: every question has an answer of an expected kind."""
    wrong = set(load.statuses) - set(allowed)
    if wrong or load.broken or load.without_retry_after:
        raise SystemExit(f"errors under load: {load.statuses}, {load.broken} broken connections")


def measure(
    database: str, workers: int, bare_port: int, seconds: float, mask_id: int
) -> Iterator[dict[str, Any]]:
    """Rows of the table, as they are measured."""
    kind = "postgresql" if "://" in database else "sqlite"
    paths = look_ups()
    with serving("service", database=database, workers=workers) as port:
        ask(port, paths, clients=8, seconds=1.0)
        cases: list[tuple[str, list[str], str, str, int]] = [("look-up", paths, "", "/json", 200)]
        if workers == 1:
            tag = tag_of(port, paths[0])
            same = f"If-None-Match: {tag}\r\n"
            cases += [
                ("304", paths, same, "/same", 304),
                ("3 MB file", [f"/v1/masks/{mask_id}/file.fits"], "", "/file", 200),
            ]
        for what, asked, headers, bare_path, status in cases:
            for clients in CLIENTS if what == "look-up" else CLIENTS[1:2]:

                def service(asked: list[str] = asked, clients: int = clients, headers: str = headers) -> Load:
                    return ask(port, asked, clients=clients, seconds=seconds, headers=headers)

                def plain(path: str = bare_path, clients: int = clients) -> Load:
                    return ask(bare_port, [path], clients=clients, seconds=seconds)

                found, limit, ratio = compared(service, plain)
                check(found, status)
                yield {
                    "database": kind,
                    "workers": workers,
                    "what": what,
                    "clients": clients,
                    "per_second": found.per_second,
                    "p99_ms": found.p99_ms,
                    "bare_per_second": limit.per_second,
                    "bare_p99_ms": limit.p99_ms,
                    "ratio": ratio,
                    "client_us": found.own_us,
                }


def tag_of(port: int, path: str) -> str:
    return got(port, path).headers["ETag"]


def got(port: int, path: str) -> urllib3.BaseHTTPResponse:
    return urllib3.request("GET", f"http://127.0.0.1:{port}{path}")


def overload(database: str, seconds: float) -> dict[str, Any]:
    """More clients than the service takes requests: the others are told to come again."""
    paths = ["/v1/masks?limit=5"]
    with serving("service", database=database, workers=1, most_in_work=16) as port:
        within = ask(port, paths, clients=16, seconds=seconds)
        beyond = ask(port, paths, clients=128, seconds=seconds)
        after = ask(port, paths, clients=16, seconds=seconds)
    for load in (within, beyond, after):
        check(load, 200, 503)
    return {
        "answered_within": within.statuses[200] / within.seconds,
        "answered_beyond": beyond.statuses[200] / beyond.seconds,
        "refused_beyond": beyond.statuses[503] / beyond.seconds,
        "answered_after": after.statuses[200] / after.seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here, too")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(
        f"{'database':10} {'workers':>7} {'what':9} {'clients':>7} {'answers/s':>9} {'p99':>9}   against bare"
    )
    with tempfile.TemporaryDirectory(prefix="hp") as name, running_postgresql() as server:
        folder = Path(name)
        os.environ["HOTPIX_CACHE_DIR"] = str(folder / "cache")
        databases = [str(folder / "registry.sqlite"), server.create()]
        for database in databases:
            with Registry(database) as registry:
                fill(registry, ASSIGNMENTS)
                mask_id = add_file(registry, folder)
                file = registry.mask_path(mask_id)
        with serving("service", database=databases[0], workers=1) as port:
            (folder / "body").write_bytes(got(port, look_ups(1)[0]).data)
        with serving("bare", body=str(folder / "body"), file=str(file)) as bare_port:
            for database, workers in itertools.product(databases, (1, 2)):
                for row in measure(database, workers, bare_port, options.seconds, mask_id):
                    rows.append(row)
                    print(
                        f"{row['database']:10} {row['workers']:>7} {row['what']:9} {row['clients']:>7} "
                        f"{row['per_second']:>9.0f} {row['p99_ms']:>6.1f} ms   {row['ratio']:.2f} of "
                        f"{row['bare_per_second']:.0f}/s, p99 {row['bare_p99_ms']:.1f} ms; "
                        f"clients {row['client_us']:.0f} µs",
                        flush=True,
                    )
        told = overload(databases[0], options.seconds)
        print(
            f"16 in work at most: 16 clients {told['answered_within']:.0f} answers/s; 128 clients "
            f"{told['answered_beyond']:.0f} and {told['refused_beyond']:.0f} refused with Retry-After; "
            f"then 16 clients {told['answered_after']:.0f}"
        )
    if options.json is not None:
        options.json.write_text(json.dumps({"loads": rows, "overload": told}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
