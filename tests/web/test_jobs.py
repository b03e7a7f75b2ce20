"""Long work over HTTP: queued, done in a process of its own, told by events, interrupted and asked again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from starlette.testclient import TestClient

from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.errors import Busy, UnknownCamera, UsageError
from hotpix_registry.registry import Registry, jobs
from hotpix_registry.web.app import create_app
from hotpix_registry.web.state import ServerSettings
from tests.small_camera import write_campaign
from tests.web.conftest import bearing

CAMERA = "smallcam-48"
BUILD = f"/v1/cameras/{CAMERA}/build"
LIMIT = {"rule": "limit", "limit": 4}
BEAT_S = 1.5


@pytest.fixture
def darks(registry: Registry, tmp_path: Path) -> Path:
    """A folder of eleven frames, which the registry knows."""
    write_campaign(tmp_path / "darks")
    registry.ingest(str(tmp_path / "darks"))
    return tmp_path / "darks"


@pytest.fixture
def service(registry: Registry, database: str, darks: Path) -> Iterator[TestClient]:
    """Asks as dome, who may ingest and build, a service that does jobs."""
    settings = ServerSettings(
        database=database, frames_roots=(str(darks.parent),), heartbeat_s=BEAT_S, most_jobs=3
    )
    headers = bearing(registry.create_token("dome", ["ingest", "build"]).secret)
    with TestClient(create_app(settings), headers=headers) as client:
        yield client


def when(look: Callable[[], Any], *, within_s: float = 90.0) -> Any:
    """What is there after a while."""
    end = time.monotonic() + within_s
    while (found := look()) is None:
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
    return found


def finished(registry: Registry, job_id: int) -> Any:
    def look() -> Any:
        job = registry.job(job_id, heartbeat_s=BEAT_S)
        return job if job.state in jobs.FINISHED else None

    return when(look)


def runner_of(registry: Registry, job_id: int) -> int:
    """The process that does a job, as soon as one does."""
    return when(
        lambda: next(
            (e.body["runner"]["pid"] for e in registry.job_events(job_id) if "runner" in e.body), None
        )
    )


def test_a_build_is_a_job_whose_events_end_in_its_results(registry: Registry, service: TestClient) -> None:
    got = service.post(BUILD, json=LIMIT)
    assert (got.status_code, got.headers["location"]) == (202, "/v1/jobs/1")
    assert (got.json()["state"], got.json()["request"]) == ("queued", {"rule": "limit", "limit": 4.0})
    with service.stream("GET", "/v1/jobs/1/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        blocks = "".join(stream.iter_text()).strip().split("\n\n")
    events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]
    assert [events[0]["event"], events[1]["event"], events[-1]["event"]] == ["queued", "running", "done"]
    job = service.get("/v1/jobs/1").json()
    assert json.loads(events[-1]["data"])["results"] == job["results"]
    (built,) = job["results"]
    (known,) = registry.build(CAMERA, recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
    assert (known.new, known.mask_id, known.sha256) == (False, built["mask_id"], built["sha256"])
    assert [act["action"] for act in registry.log() if act["actor"] == "dome via token"] == [
        "queue build",
        "build",
    ]
    page = service.get("/jobs/1", headers={"Accept": "text/html"}).text
    assert f'<a href="/masks/{built["mask_id"]}">mask {built["mask_id"]}</a>, version 1 of' in page
    listed = service.get("/v1/jobs/1/events", headers={"Accept": "application/json"}).json()
    assert [str(event["event_id"]) for event in listed["items"]] == [event["id"] for event in events]
    after = service.get("/v1/jobs/1/events", headers={"Last-Event-ID": events[-2]["id"]}).text
    assert after.count("event: ") == 1
    assert service.get("/v1/jobs/1/events", headers={"Last-Event-ID": events[-1]["id"]}).text == ""


def test_what_cannot_be_built_is_said_at_once_or_by_the_job(registry: Registry, service: TestClient) -> None:
    for url, body, status, code in (
        ("/v1/cameras/nobody/build", {}, 404, "unknown-camera"),
        (BUILD, {"nights": "yesterday"}, 422, "usage"),
        (BUILD, {"limit": 4, "cutoff": 1}, 422, "usage"),
        (BUILD, {"limit": "high"}, 422, "usage"),
        (BUILD, {"rule": "import"}, 422, "usage"),
        (BUILD, {"night": "2021-03-04"}, 422, "usage"),
        ("/v1/jobs/9", None, 404, "unknown-id"),
        ("/v1/jobs/9/events", None, 404, "unknown-id"),
    ):
        got = service.get(url) if body is None else service.post(url, json=body)
        assert (got.status_code, got.json()["code"]) == (status, code), (url, body)
    assert service.get("/v1/jobs").json() == {"items": [], "next": None}
    job_id = service.post(BUILD, json={"nights": "1999-01-01"}).json()["job_id"]
    assert finished(registry, job_id).state == "failed"
    problem = service.get(f"/v1/jobs/{job_id}").json()["problem"]
    assert (problem["code"], problem["status"]) == ("nothing-to-build", 409)


def test_many_files_are_ingested_by_a_job(registry: Registry, service: TestClient, darks: Path) -> None:
    write_campaign(darks.parent / "more", darks={60.0: 20})
    got = service.post("/v1/frames", json={"paths": [str(darks.parent / "more")]})
    assert (got.status_code, got.json()["kind"]) == (202, "ingest")
    job = finished(registry, got.json()["job_id"])
    assert (job.state, job.results[0]["accepted"] + job.results[0]["known"]) == ("done", 23)
    page = service.get(f"/jobs/{job.job_id}", headers={"Accept": "text/html"}).text
    assert f"{job.results[0]['accepted']} accepted, {job.results[0]['known']} known" in page


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_job_whose_process_was_killed_is_interrupted_and_can_be_asked_for_again(
    registry: Registry, service: TestClient
) -> None:
    first = service.post(BUILD, json=LIMIT).json()["job_id"]
    os.kill(runner_of(registry, first), signal.SIGKILL)
    job = finished(registry, first)
    assert (job.state, job.problem["code"]) == ("interrupted", "interrupted")
    again = finished(registry, service.post(BUILD, json=LIMIT).json()["job_id"])
    assert again.state == "done"
    assert len(registry.masks()) == 1


# --- the queue --------------------------------------------------------------------------


def test_one_job_of_a_camera_runs_at_a_time_and_only_so_many_wait(registry: Registry, darks: Path) -> None:
    def claimed(at_once: int, heartbeat_s: float = 60.0) -> int | None:
        row = jobs.claim(registry._engine, at_once=at_once, heartbeat_s=heartbeat_s)
        return None if row is None else row.id

    assert not registry.a_job_waits(at_once=1)
    first, second = (registry.queue_build(CAMERA, LIMIT, most_waiting=3) for _ in range(2))
    third = registry.queue_ingest({"paths": [str(darks)]}, most_waiting=3)
    with pytest.raises(Busy, match="There are 3 unfinished jobs") as busy:
        registry.queue_build(CAMERA, LIMIT, most_waiting=3)
    assert busy.value.retry_after_s == 30
    assert claimed(1) == first
    assert claimed(1) is None
    assert not registry.a_job_waits(at_once=1)
    assert claimed(3) == third
    assert claimed(3) is None
    with closing_job(registry, first):
        assert claimed(3) == second
    assert [job.state for job in registry.jobs()] == ["running", "running", "done"]
    time.sleep(0.1)
    assert [job.state for job in registry.jobs(heartbeat_s=0.01)] == ["interrupted", "interrupted", "done"]
    assert claimed(1, heartbeat_s=0.01) is None
    assert [job.state for job in registry.jobs(limit=1, before=third)] == ["interrupted"]
    with pytest.raises(UnknownCamera):
        registry.queue_build("nobody", {}, most_waiting=3)
    with pytest.raises(UsageError):
        registry.queue_build(CAMERA, {"nights": "x"}, most_waiting=3)


@contextmanager
def closing_job(registry: Registry, job_id: int) -> Iterator[None]:
    from hotpix_registry.catalogue.engine import writing

    with writing(registry._engine) as connection:
        jobs.end(connection, job_id, "done", {"results": []})
    yield


def test_progress_is_written_once_a_second_at_most(registry: Registry, darks: Path) -> None:
    job_id = registry.queue_build(CAMERA, LIMIT, most_waiting=3)
    start = time.monotonic()
    with jobs._Pulse(registry._engine, job_id, 60.0) as pulse:
        for step in range(200):
            pulse.tell("night", step, 200)
            time.sleep(0.012)
    running = [event for event in registry.job_events(job_id) if event.state == "running"]
    assert 1 <= len(running) <= time.monotonic() - start


# --- servers ----------------------------------------------------------------------------


@contextmanager
def served(
    settings: ServerSettings, folder: Path, *, workers: int
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A real service in processes of its own, and its address."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "from hotpix_registry.web.app import serve; from hotpix_registry.web.state import ServerSettings; "
        f"import sys\nif __name__ == '__main__': serve({settings!r}, port={port}, workers={workers})"
    )
    (folder / "serve.py").write_text(code)
    with subprocess.Popen([sys.executable, str(folder / "serve.py")], start_new_session=True) as process:
        url = f"http://127.0.0.1:{port}"
        when(lambda: answers(url))
        yield process, url
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def answers(url: str) -> bool | None:
    try:
        with urlopen(f"{url}/readyz", timeout=10) as got:
            return bool(got.status == 200)
    except (URLError, OSError):
        return None


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_killed_service_loses_no_job_and_its_successor_goes_on(
    registry: Registry, database: str, darks: Path, tmp_path: Path
) -> None:
    settings = ServerSettings(database=database, heartbeat_s=BEAT_S)
    with served(settings, tmp_path, workers=2) as (process, _):
        first, second = (registry.queue_build(CAMERA, LIMIT, most_waiting=9) for _ in range(2))
        runner_of(registry, first)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert finished(registry, first).state == "interrupted"
    assert registry.job(second).state == "queued"
    with served(settings, tmp_path, workers=1) as (_, url):
        with urlopen(f"{url}/v1/jobs/{second}/events", timeout=90) as stream:
            states = [line[7:-1].decode() for line in stream if line.startswith(b"event: ")]
        assert (states[0], states[-1]) == ("queued", "done")
        assert [job.state for job in registry.jobs()] == ["done", "interrupted"]
    assert len(registry.masks()) == 1


def test_a_recipe_is_compared_and_rolled_out_by_jobs_and_taken_back(
    registry: Registry, database: str, darks: Path
) -> None:
    registry.build(CAMERA, recipe=Recipe(rule=Rule.LIMIT, limit_e_per_s=4.0))
    bearer = bearing(registry.create_token("anna", ["build", "certify"]).secret)
    asked: dict[str, Any] = {"old": "current", "new": "limit=10", "cameras": [CAMERA]}
    with TestClient(create_app(ServerSettings(database=database)), headers=bearer) as client:

        def done(path: str, **more: Any) -> dict[str, Any]:
            queued = client.post(path, json=asked | more)
            assert queued.status_code == 202, queued.text
            job = finished(registry, queued.json()["job_id"])
            assert (job.state, job.problem) == ("done", None)
            assert job.results is not None
            return job.results[0]

        compared = done("/v1/recipes/diff")
        assert (compared["built"], compared["total"]["changed"]) == (1, 1)
        rolled_out = done("/v1/recipes/rollout", expect=compared["tx"], reason="a test")
        assert registry.mask(CAMERA, "2021-03-04").answer.mask_id == 2
        back = client.post(
            "/v1/recipes/rollback", json={"tx": rolled_out["rolled_out_tx"], "reason": "a test"}
        )
        assert [(one["before"], one["after"]) for one in back.json()["changes"]] == [(2, 1)]
        for wrong, status in (({"new": "/etc/passwd.toml"}, 422), ({"cameras": ["nobody"]}, 404)):
            assert client.post("/v1/recipes/diff", json=asked | wrong).status_code == status


def test_a_service_that_is_stopped_puts_its_job_back_and_ends_its_streams(
    registry: Registry, database: str, darks: Path, tmp_path: Path
) -> None:
    with served(ServerSettings(database=database), tmp_path, workers=1) as (process, url):
        job_id = registry.queue_build(CAMERA, LIMIT, most_waiting=9)
        with urlopen(f"{url}/v1/jobs/{job_id}/events", timeout=60) as stream:
            next(line for line in stream if line == b"event: running\n")
            process.terminate()
            assert stream.read()[-1:] in (b"\n", b"")  # it ends between two events
        assert process.wait(60) in (0, -signal.SIGTERM)
    state = registry.job(job_id).state
    assert state in ("queued", "done")
    if state == "queued":
        assert registry.run_next_job(roots=(), at_once=1)
    assert registry.job(job_id).state == "done"
