"""Routes of jobs: what long work was asked for, how far it is, what came of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi import Path as InPath
from starlette.responses import JSONResponse, Response, StreamingResponse

from hotpix_registry.catalogue.queries import JobEvent
from hotpix_registry.errors import Busy
from hotpix_registry.instants import iso
from hotpix_registry.registry.jobs import FINISHED, Job
from hotpix_registry.web.state import ENDING, Service, TheRegistry, TheService

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

JobId = Annotated[int, InPath(ge=1, lt=2**31, description="The job, as the answer that queued it names it.")]
MOST_STREAMS = 64
"""of one process"""
_LOOK_EVERY_S = 0.5
_STILL_HERE_S = 15.0


def told(job: Job) -> dict[str, Any]:
    """A job with its links."""
    url = f"/v1/jobs/{job.job_id}"
    return job.as_dict() | {"links": {"job": url, "events": f"{url}/events"}}


def accepted(service: Service, job_id: int) -> Response:
    """202 with the job, and where to look at it."""
    job = told(service.registry.job(job_id, heartbeat_s=service.settings.heartbeat_s))
    return JSONResponse(job, status_code=202, headers={"Location": job["links"]["job"], "Retry-After": "1"})


@router.get("", summary="Jobs, the newest first")
def jobs(
    service: TheService,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
) -> dict[str, Any]:
    found = service.registry.jobs(before=cursor, limit=limit, heartbeat_s=service.settings.heartbeat_s)
    return {
        "items": [told(job) for job in found],
        "next": str(found[-1].job_id) if len(found) == limit else None,
    }


@router.get("/{job_id}", summary="A job as it stands")
def job(service: TheService, job_id: JobId) -> dict[str, Any]:
    """Its state is queued, running, done, failed or interrupted; then its results, or the problem."""
    return told(service.registry.job(job_id, heartbeat_s=service.settings.heartbeat_s))


@router.get("/{job_id}/events", summary="What befalls a job", response_class=Response)
def events(
    request: Request,
    service: TheService,
    registry: TheRegistry,
    job_id: JobId,
    after: Annotated[int, Query(ge=0, lt=2**62, description="Only those after this event.")] = 0,
) -> Response:
    """Server-sent events until the job has ended; with `Accept: application/json` a list of those so far."""
    if "application/json" in request.headers.get("accept", ""):
        found = registry.job_events(job_id, after=after)
        return JSONResponse({"items": [_event(event) for event in found], "next": None})
    registry.job(job_id)
    if service.streams >= MOST_STREAMS:
        raise Busy("As many listen to jobs as this service can serve.", next_step="Ask for the job instead.")
    last = request.headers.get("last-event-id", "")
    return StreamingResponse(
        _stream(request, service, job_id, int(last) if last.isdecimal() and len(last) < 19 else after),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


def _event(event: JobEvent) -> dict[str, Any]:
    return {"event_id": event.id, "at": iso(event.at_us), "state": event.state} | event.body


async def _stream(request: Request, service: Service, job_id: int, after: int) -> AsyncIterator[str]:
    service.streams += 1
    try:
        state, spoken = "", time.monotonic()
        while True:
            for event in await asyncio.to_thread(service.registry.job_events, job_id, after=after):
                after, state, spoken = event.id, event.state, time.monotonic()
                data = json.dumps(_event(event), ensure_ascii=False)
                yield f"id: {event.id}\nevent: {event.state}\ndata: {data}\n\n"
            if not state:  # whoever comes back after the end has heard all
                state = (await asyncio.to_thread(service.registry.job, job_id)).state
            if state in FINISHED or ENDING in request.scope:  # whoever listens comes back, and goes on
                return
            if time.monotonic() - spoken > _STILL_HERE_S:
                spoken = time.monotonic()
                yield ": still here\n\n"
            await asyncio.sleep(_LOOK_EVERY_S)
    finally:
        service.streams -= 1
