"""Two hosts on one registry behind a balancer: whichever answers, it is the same service."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hotpix_registry import Registry
from hotpix_registry.domain import Scope
from tests.cli.conftest import Hotpix
from tests.databases import PostgreSQL
from tests.hosts import Balancer, Host, ask, hosts
from tests.small_camera import write_campaign
from tests.story import CAMERA, import_pixels, register_camera

NIGHT = f"/v1/cameras/{CAMERA}/mask?date=2021-05-02"


@dataclass(frozen=True)
class Place:
    folder: Path
    database: str
    first: Host
    second: Host
    balancer: Balancer
    registry: Registry
    """at the primary, as a third host has it"""

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return ask(self.balancer.port, path, sent, **{"Content_Type": "application/json"} | headers)


@pytest.fixture(scope="module")
def place(postgresql: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("hosts")
    database = postgresql.create()
    with Registry(database) as registry:
        register_camera(registry, folder)
        import_pixels(registry, folder, "2021-05-01", [5, 70])
        hotpix = Hotpix(folder, database, {"HOTPIX_CACHE_DIR": str(folder / "cache")})
        with hosts(hotpix, 2, "--uploads", str(folder / "uploads")) as (first, second):
            balancer = Balancer([first.port, second.port])
            yield Place(folder, database, first, second, balancer, registry)
            balancer.close()


def test_after_a_write_no_host_answers_as_before(place: Place) -> None:
    """What each process remembers hangs on the registry's newest transaction, for which it asks each time."""
    token = place.registry.create_token("writes", [Scope.CERTIFY]).secret
    for number in range(6):
        for _ in range(4):
            assert place.ask(NIGHT)[0] == (200 if number % 2 == 0 else 410)
        body = {"reason": "a test", "undo": number % 2 == 1}
        status, _, told = place.ask("/v1/masks/1/revoke", body, Authorization=f"Bearer {token}")
        assert status == 200, told
    assert min(place.balancer.taken.values()) > 10


def test_tags_cursors_and_files_of_one_host_are_those_of_the_other(place: Place) -> None:
    import_pixels(place.registry, place.folder, "2021-09-01", [6])
    for path in (NIGHT, "/v1/masks", "/", "/masks/1"):
        _, headers, _ = ask(place.first.port, path)
        status, again, _ = ask(place.second.port, path, If_None_Match=headers["etag"])
        assert (status, again["etag"]) == (304, headers["etag"]), path
    seen, cursor = [], ""
    for _ in range(2):
        page = json.loads(place.ask(f"/v1/masks?limit=1{cursor}")[2])
        seen += [mask["mask_id"] for mask in page["items"]]
        cursor = f"&cursor={page['next']}"
    assert seen == [1, 2]
    (_, one, whole), (_, two, same) = (
        ask(host.port, "/v1/masks/1/file.fits") for host in (place.first, place.second)
    )
    assert (one["etag"], whole) == (two["etag"], same)
    assert hashlib.sha256(whole).hexdigest() in one["etag"]


def test_a_token_opens_every_host_until_it_is_revoked(place: Place) -> None:
    token = place.registry.create_token("brief", [Scope.ADMIN]).secret
    for number in range(4):
        body = {"name": f"release-{number}"}
        assert place.ask("/v1/releases", body, Authorization=f"Bearer {token}")[0] == 201
    place.registry.revoke_token("brief", reason="done")
    for _ in range(4):
        assert place.ask("/v1/releases", {"name": "late"}, Authorization=f"Bearer {token}")[0] == 401


def test_frames_that_one_host_took_are_built_and_heard_of_at_any(
    place: Place,
) -> None:
    token = place.registry.create_token("dome", [Scope.INGEST, Scope.BUILD]).secret
    bearer = f"Bearer {token}"
    for path in write_campaign(place.folder / "sent"):
        name = f"/v1/frames/upload?name={path.name}"
        status, _, told = place.ask(name, path.read_bytes(), Authorization=bearer)
        assert (status, json.loads(told)["accepted"]) == (200, 1), told
    asked = {"rule": "limit", "limit": 4}
    status, headers, _ = place.ask(f"/v1/cameras/{CAMERA}/build", asked, Authorization=bearer)
    assert status == 202
    for host in (place.first, place.second):
        _, _, events = ask(host.port, f"{headers['location']}/events")
        assert events.rstrip().rpartition(b"\n\n")[2].split(b"\n")[1] == b"event: done", events
    mask_id = json.loads(place.ask(headers["location"])[2])["results"][0]["mask_id"]
    assert {place.ask(f"/v1/masks/{mask_id}")[0] for _ in range(4)} == {200}


def test_guesses_are_counted_by_each_process(place: Place) -> None:
    """So that N of them allow N times as many; a balancer bounds what an address may ask."""
    wrong = {"Authorization": "Bearer hp_wrong", "X_Forwarded_For": "192.0.2.7"}
    for _ in range(10):
        ask(place.first.port, "/v1/releases", b"{}", **wrong)
    assert ask(place.first.port, "/v1/releases", b"{}", **wrong)[0] == 429
    assert ask(place.second.port, "/v1/releases", b"{}", **wrong)[0] == 401
    assert ask(place.first.port, "/v1/releases", b"{}", Authorization="Bearer hp_wrong")[0] == 401


def test_a_rolling_restart_loses_no_request(place: Place) -> None:
    told: list[int] = []
    over = threading.Event()

    def pipeline() -> None:
        while not over.is_set():
            told.append(place.ask("/v1/masks/1")[0])

    pipelines = [threading.Thread(target=pipeline) for _ in range(3)]
    for one in pipelines:
        one.start()
    codes = []
    for host in (place.first, place.second):
        codes.append(host.end())
        host.begin()
        host.wait()
    over.set()
    for one in pipelines:
        one.join()
    assert set(codes) <= {0, -15}
    assert set(told) == {200}
    assert len(told) > 20


def test_while_systemd_restarts_a_service_requests_wait_at_its_socket(place: Place) -> None:
    def serve(listening: socket.socket) -> subprocess.Popen[bytes]:
        def inherit() -> None:
            os.dup2(listening.fileno(), 3)
            os.set_inheritable(3, True)

        hotpix = Hotpix(place.folder, place.database, {"LISTEN_FDS": "1"})
        command = 'LISTEN_PID=$$ exec "$0" -m hotpix_registry serve'
        return subprocess.Popen(
            ["/bin/sh", "-c", command, sys.executable],
            env=hotpix.environment,
            cwd=hotpix.cwd,
            preexec_fn=inherit,
            close_fds=False,
            stderr=subprocess.PIPE,
        )

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        port, told = listening.getsockname()[1], list[int]()
        asked = threading.Thread(target=lambda: told.append(ask(port, "/v1/masks/1")[0]))
        asked.start()  # while no service is there
        process = serve(listening)
        asked.join()
        assert told == [200]
        process.terminate()
        _, err = process.communicate(timeout=60)
        assert b"Serving at the socket that systemd opened" in err
