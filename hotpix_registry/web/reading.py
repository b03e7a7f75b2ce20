"""What the command line asks when it works against a server: the registry's own values, method by method."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from hotpix_registry.remote import protocol
from hotpix_registry.web.state import TheRegistry

router = APIRouter(prefix=protocol.PATH, include_in_schema=False)


@router.post("/{method}")
async def read(request: Request, registry: TheRegistry, method: str) -> Response:
    """Call a reading method; it changes with every version, and is no part of the described API."""
    body = await request.body()
    content = await run_in_threadpool(protocol.answered, registry, method, body)
    return Response(content, media_type="application/json")
