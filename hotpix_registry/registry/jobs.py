"""Jobs: work that outlives a request, done in a process of its own and told by events.

What is true of a job is its newest event. Whoever runs one writes an event at least every
`heartbeat_s`; after four of them without any the job counts as interrupted. The same request may then
be made again: a build that was stored is found by its key, a frame by its digest. A job whose runner is
stopped goes back to the queue.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection, Engine

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import writing
from hotpix_registry.catalogue.queries import JobEvent, JobRow
from hotpix_registry.domain import Kind, Rule
from hotpix_registry.errors import HotpixError, UnknownId
from hotpix_registry.instants import iso
from hotpix_registry.registry.question import parse_exposures, parse_nights, parse_recipe

if TYPE_CHECKING:
    from hotpix_registry.registry import Registry

FINISHED = ("done", "failed", "interrupted")
_MISSED_BEATS = 4
_BETWEEN_EVENTS_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it stands."""

    job_id: int
    kind: str
    camera: str | None
    state: str
    """queued, running, done, failed or interrupted"""
    created: str
    started: str | None
    ended: str | None
    actor: str
    request: dict[str, Any]
    progress: dict[str, Any] | None
    """label, done, total"""
    results: list[dict[str, Any]] | None
    problem: dict[str, Any] | None
    """the first of what went wrong"""

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def described(connection: Connection, rows: Sequence[JobRow], heartbeat_s: float) -> list[Job]:
    """Jobs with what became of them."""
    ids = [row.id for row in rows]
    newest = queries.last_job_events(connection, ids)
    started = queries.last_job_events(connection, ids, state="running", first=True)
    now_us = queries.database_now_us(connection)
    return [_described(row, newest[row.id], started.get(row.id), now_us, heartbeat_s) for row in rows]


def _described(
    row: JobRow, event: JobEvent, started: JobEvent | None, now_us: int, heartbeat_s: float
) -> Job:
    state, body = event.state, event.body
    if is_lost(event, now_us, heartbeat_s):
        state, body = "interrupted", {"problem": LOST}
    return Job(
        job_id=row.id,
        kind=row.kind,
        camera=row.camera,
        state=state,
        created=iso(row.created_us) or "",
        started=None if started is None else iso(started.at_us),
        ended=iso(event.at_us) if state in FINISHED else None,
        actor=row.actor,
        request=row.request,
        progress=body.get("progress"),
        results=body.get("results"),
        problem=body.get("problem"),
    )


LOST = {
    "code": "interrupted",
    "status": 503,
    "detail": "Whoever ran this job has not been heard of since, and has been killed perhaps.",
    "next_step": "Make the same request again; what it had stored is found and kept.",
}


def is_lost(event: JobEvent, now_us: int, heartbeat_s: float) -> bool:
    return event.state == "running" and now_us - event.at_us > _MISSED_BEATS * heartbeat_s * 1_000_000


def find(connection: Connection, job_id: int) -> JobRow:
    """A job by its number.

    Raises
    ------
    UnknownId
    """
    for row in queries.jobs(connection, job_id=job_id):
        return row
    raise UnknownId(f"There is no job {job_id}.", next_step="GET /v1/jobs lists them.")


# --- which job is next ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is unfinished."""

    next_up: JobRow | None
    """the oldest that may run now: others of its camera do not, and not too many run"""
    lost: tuple[int, ...]
    """jobs whose runner is not heard of"""


def waiting(connection: Connection, *, at_once: int, heartbeat_s: float) -> Waiting:
    rows = queries.jobs(connection, unfinished=True)[::-1]
    if not rows:
        return Waiting(None, ())
    events = queries.last_job_events(connection, [row.id for row in rows])
    now_us = queries.database_now_us(connection)
    running = [row for row in rows if events[row.id].state == "running"]
    lost = {row.id for row in running if is_lost(events[row.id], now_us, heartbeat_s)}
    alive = [row for row in running if row.id not in lost]
    taken = {row.camera_id for row in alive} - {None}
    free = [row for row in rows if events[row.id].state == "queued" and row.camera_id not in taken]
    return Waiting(free[0] if free and len(alive) < at_once else None, tuple(sorted(lost)))


def give_up(connection: Connection, lost: Sequence[int]) -> None:
    for job_id in lost:
        end(connection, job_id, "interrupted", {"problem": LOST})


def end(connection: Connection, job_id: int, state: str, body: Mapping[str, Any]) -> None:
    queries.add_job_event(connection, job_id, state, body)
    queries.close_job(connection, job_id)


def claim(engine: Engine, *, at_once: int, heartbeat_s: float) -> JobRow | None:
    """Take the next job for this process; None where there is none, or enough are running."""
    with writing(engine) as connection:
        found = waiting(connection, at_once=at_once, heartbeat_s=heartbeat_s)
        give_up(connection, found.lost)
        if found.next_up is not None:
            runner = {"host": socket.gethostname(), "pid": os.getpid()}
            queries.add_job_event(connection, found.next_up.id, "running", {"runner": runner})
        return found.next_up


# --- doing it ---------------------------------------------------------------------------

Progress = Callable[[str, int, int], None]


def run(registry: Registry, engine: Engine, row: JobRow, roots: Sequence[str], heartbeat_s: float) -> None:
    """Do what was asked, as the one who asked, and write down what became of it."""
    asked = registry.acting_for(row.actor, row.host, row.software)
    state, body = "queued", dict[str, Any]()  # if the service is stopped meanwhile: the next one does it
    with _Pulse(engine, row.id, heartbeat_s) as pulse:
        try:
            match row.kind:
                case "build":
                    body = _build(asked, row, pulse.tell)
                case "ingest":
                    body = _ingest(asked, row.request, roots, pulse.tell)
                case _:
                    body = _recipe(asked, row, pulse.tell)
            state = "failed" if "problem" in body else "done"
        except HotpixError as error:
            state, body = "failed", {"problem": _problem(error)}
        except Exception:
            detail = "A mistake in the program ended it; the service's messages have the details."
            state, body = "failed", {"problem": {"code": "failure", "status": 500, "detail": detail}}
            raise
        finally:
            pulse.stop()
            with writing(engine) as connection:
                if state in FINISHED:
                    end(connection, row.id, state, body)
                else:
                    queries.add_job_event(connection, row.id, state, body)


def build_arguments(request: Mapping[str, Any]) -> dict[str, Any]:
    """What `Registry.build` takes, of the options of `hotpix-registry build`.

    Raises
    ------
    UsageError
    """
    rule, limit, exposures = request.get("rule"), request.get("limit"), request.get("exposures")
    if isinstance(exposures, list):
        exposures = ",".join(map(str, exposures))
    return {
        "nights": parse_nights(request.get("nights")),
        "exposures_s": parse_exposures(exposures),
        "recipe": parse_recipe(
            None if rule is None else Rule(rule), None if limit is None else str(limit), request.get("cutoff")
        ),
    }


def recipe_arguments(request: Mapping[str, Any]) -> dict[str, Any]:
    """What `Registry.compare_recipes` or `roll_out` takes, of the options of `hotpix-registry recipe`.

    Raises
    ------
    UsageError
        Files are none of them.
    """
    from hotpix_registry.registry.recipes import named_recipe

    for name in (request["old"], request["new"]):
        named_recipe(name, files=False)
    return {**request, "nights": parse_nights(request.get("nights")), "files": False}


def _build(registry: Registry, row: JobRow, progress: Progress) -> dict[str, Any]:
    problems: list[dict[str, Any]] = []
    results = registry.build(
        row.camera or "",
        **build_arguments(row.request),
        progress=progress,
        failed=lambda _, error: problems.append(_problem(error)),
    )
    body: dict[str, Any] = {"results": [result.as_dict() for result in results]}
    return body | ({"problem": problems[0], "problems": problems} if problems else {})


def _recipe(registry: Registry, row: JobRow, progress: Progress) -> dict[str, Any]:
    """Compare two recipes, or roll one out."""
    act = registry.roll_out if row.kind == "rollout" else registry.compare_recipes
    return {"results": [act(**recipe_arguments(row.request), progress=progress).as_dict()]}


def _ingest(
    registry: Registry, request: Mapping[str, Any], roots: Sequence[str], progress: Progress
) -> dict[str, Any]:
    kind = request.get("type")
    report = registry.ingest_below(
        roots,
        request["paths"],
        recursive=request.get("recursive", False),
        camera=request.get("camera"),
        kind=None if kind is None else Kind(kind),
        n_combined=request.get("ncombine"),
        dry_run=request.get("dry_run", False),
        progress=lambda done, total: progress("Ingesting", done, total),
    )
    return {"results": [report.as_dict()]}


def _problem(error: HotpixError) -> dict[str, Any]:
    return {
        "code": error.code,
        "status": error.http_status,
        "detail": error.message,
        "next_step": error.next_step,
        "exit_code": error.exit_code,
    }


class _Pulse:
    """Writes how far a job is, at most once a second, and that it lives, at least every heartbeat."""

    def __init__(self, engine: Engine, job_id: int, heartbeat_s: float) -> None:
        self._engine, self._job_id, self._heartbeat_s = engine, job_id, heartbeat_s
        self._told: dict[str, Any] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> _Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def tell(self, label: str, done: int, total: int) -> None:
        self._told = {"progress": {"label": label, "done": done, "total": total}}

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _beat(self) -> None:
        every_s = min(_BETWEEN_EVENTS_S, self._heartbeat_s)
        written, waited_s = self._told, 0.0
        while not self._stopped.wait(every_s):
            told, waited_s = self._told, waited_s + every_s
            if told == written and waited_s < self._heartbeat_s:
                continue
            try:
                with writing(self._engine) as connection:
                    queries.add_job_event(connection, self._job_id, "running", told)
            except HotpixError:  # the database is away: the next beat says the same
                continue
            written, waited_s = told, 0.0
