"""The facade on jobs: long work that is asked for now and done elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading, writing
from hotpix_registry.catalogue.queries import JobEvent
from hotpix_registry.errors import Busy
from hotpix_registry.registry.facade.opened import Opened, named_camera

if TYPE_CHECKING:
    from hotpix_registry.registry import Registry
    from hotpix_registry.registry.jobs import Job

HEARTBEAT_S = 5.0
_RETRY_AFTER_S = 30


class JobMethods(Opened):
    """Jobs: queue, look at, run."""

    def queue_build(self, camera: str, request: Mapping[str, Any], *, most_waiting: int) -> int:
        """Ask for a build with the options of `hotpix-registry build`; returns the job's number.

        Raises
        ------
        UnknownCamera, UsageError
            What is asked cannot be done.
        Busy
            As many jobs wait as may.
        """
        from hotpix_registry.registry import jobs

        jobs.build_arguments(request)
        return self._queue("build", request, [camera], most_waiting)

    def queue_ingest(self, request: Mapping[str, Any], *, most_waiting: int) -> int:
        """Ask for what `ingest_below` does; returns the job's number.

        Raises
        ------
        Busy
            As many jobs wait as may.
        """
        return self._queue("ingest", request, [], most_waiting)

    def queue_recipe(self, kind: str, request: Mapping[str, Any], *, most_waiting: int) -> int:
        """Ask for what `compare_recipes` (kind `compare`) or `roll_out` (kind `rollout`) does, by name alone.

        Raises
        ------
        UnknownCamera, UsageError
            What is asked cannot be done.
        Busy
            As many jobs wait as may.
        """
        from hotpix_registry.registry import jobs

        jobs.recipe_arguments(request)
        return self._queue(kind, request, request.get("cameras") or (), most_waiting)

    def _queue(self, kind: str, request: Mapping[str, Any], cameras: Sequence[str], most_waiting: int) -> int:
        with self._writing(f"queue {kind}") as (connection, tx):
            found = [named_camera(connection, name).camera_id for name in cameras]
            camera_id = found[0] if kind == "build" else None
            if len(queries.jobs(connection, unfinished=True)) >= most_waiting:
                busy = Busy(
                    f"There are {most_waiting} unfinished jobs, as many as this service takes.",
                    next_step="Try again when some of them are done.",
                )
                busy.retry_after_s = _RETRY_AFTER_S
                raise busy
            job_id = queries.add_job(connection, kind, camera_id, request, tx)
            queries.add_job_event(connection, job_id, "queued", {})
            return job_id

    def job(self, job_id: int, *, heartbeat_s: float = HEARTBEAT_S) -> Job:
        """A job as it stands.

        Raises
        ------
        UnknownId
        """
        from hotpix_registry.registry import jobs

        with reading(self._engine) as connection:
            return jobs.described(connection, [jobs.find(connection, job_id)], heartbeat_s)[0]

    def jobs(
        self, *, before: int | None = None, limit: int = 100, heartbeat_s: float = HEARTBEAT_S
    ) -> list[Job]:
        """Jobs, the newest first, those before a number."""
        from hotpix_registry.registry import jobs

        with reading(self._engine) as connection:
            rows = queries.jobs(connection, before=before, limit=limit)
            return jobs.described(connection, rows, heartbeat_s)

    def job_events(self, job_id: int, *, after: int = 0, limit: int = 1000) -> list[JobEvent]:
        """What befell a job after an event.

        Raises
        ------
        UnknownId
        """
        from hotpix_registry.registry import jobs

        with reading(self._engine) as connection:
            jobs.find(connection, job_id)
            return queries.job_events(connection, job_id, after=after, limit=limit)

    def a_job_waits(self, *, at_once: int, heartbeat_s: float = HEARTBEAT_S) -> bool:
        """Whether a job could be begun now; those whose runner was killed are noted as interrupted."""
        from hotpix_registry.registry import jobs

        with reading(self._engine) as connection:
            found = jobs.waiting(connection, at_once=at_once, heartbeat_s=heartbeat_s)
        if found.lost:
            with writing(self._engine) as connection:
                found = jobs.waiting(connection, at_once=at_once, heartbeat_s=heartbeat_s)
                jobs.give_up(connection, found.lost)
        return found.next_up is not None

    def run_next_job(self, *, roots: Sequence[str], at_once: int, heartbeat_s: float = HEARTBEAT_S) -> bool:
        """Do the next job here and now; False where there is none to be done."""
        from hotpix_registry.registry import jobs

        row = jobs.claim(self._engine, at_once=at_once, heartbeat_s=heartbeat_s)
        if row is not None:
            jobs.run(cast("Registry", self), self._engine, row, roots, heartbeat_s)
        return row is not None
