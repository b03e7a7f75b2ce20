"""The pages of jobs: what long work was asked for, how far it is, what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from hotpix_registry.catalogue.queries import JobEvent
from hotpix_registry.registry import Registry
from hotpix_registry.registry.jobs import FINISHED
from hotpix_registry.web.jobs import JobId
from hotpix_registry.web.pages.showing import age_of
from hotpix_registry.web.rendering import page
from hotpix_registry.web.state import TheService

router = APIRouter(include_in_schema=False)

_ROWS = 50


@router.get("/jobs")
def jobs(service: TheService, before: Annotated[int | None, Query(ge=1, lt=2**31)] = None) -> Response:
    """Jobs, the newest first."""
    registry, beat_s = service.registry, service.settings.heartbeat_s
    found = registry.jobs(before=before, limit=_ROWS + 1, heartbeat_s=beat_s)
    rows = found[:_ROWS]
    return page(
        "jobs.html",
        state=registry.state(),
        **age_of(registry),
        jobs=rows,
        first=before is not None,
        after=rows[-1].job_id if len(found) > _ROWS else None,
    )


@router.get("/jobs/{job_id}")
def job(service: TheService, job_id: JobId) -> Response:
    """A job as it stands, and what befell it."""
    registry = service.registry
    found = registry.job(job_id, heartbeat_s=service.settings.heartbeat_s)
    return page(
        "job.html",
        state=registry.state(),
        **age_of(registry),
        job=found,
        finished=found.state in FINISHED,
        events=list(_steps(registry, job_id)),
    )


def _steps(registry: Registry, job_id: int) -> Iterator[JobEvent]:
    """What befell a job; of events that only say how far one step is, or that it lives, the last."""
    waiting: JobEvent | None = None
    after = 0
    while events := registry.job_events(job_id, after=after):
        after = events[-1].id
        for event in events:
            if waiting is not None and _step(waiting) != _step(event):
                yield waiting
            waiting = event
    if waiting is not None:
        yield waiting


def _step(event: JobEvent) -> tuple[object, ...]:
    return event.state, event.body.get("runner"), event.body.get("progress", {}).get("label")
