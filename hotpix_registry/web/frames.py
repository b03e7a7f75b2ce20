"""Routes of frames: what is catalogued, and what was rejected and why."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from hotpix_registry.domain import Kind
from hotpix_registry.errors import UsageError
from hotpix_registry.registry.question import parse_exposures, parse_nights
from hotpix_registry.web import schemas as s
from hotpix_registry.web.lists import Paging, listed, tabled
from hotpix_registry.web.state import TheRegistry

router = APIRouter(prefix="/v1/frames", tags=["frames"])


class FrameQuery(Paging):
    camera: str | None = Field(None, description="Only this camera, by name or alias.")
    kind: Kind | None = None
    nights: str | None = Field(None, description="2018-08-20..2018-08-25, or one night.")
    exposure: str | None = Field(None, description="Only these exposure times in seconds: 90,1000.")
    temperature: float | None = Field(None, description="Only within 1 °C of this.")
    status: Literal["used", "excluded", "twin", "missing"] | None = Field(
        None, description="missing: no file of it is where it was."
    )
    rejected: bool = Field(False, description="The files that ingest rejected, and why, instead.")


@router.get("", summary="Frames", responses=tabled(s.Listed[s.FrameRecord] | s.Listed[s.RejectedFile]))
def frames(request: Request, registry: TheRegistry, asked: Annotated[FrameQuery, Query()]) -> Response:
    """Catalogued darks, biases and masters in the order of time.

    Where few frames fit, a page may have less than `limit` and still a `next`.
    """
    if asked.rejected:
        given = asked.model_dump(exclude={"rejected", "limit", "cursor", "format"}, exclude_none=True)
        if given:
            raise UsageError(
                f"Of rejected files nothing is known by which {', '.join(given)} could choose.",
                next_step="Omit it.",
            )
        return listed(
            request,
            registry,
            asked,
            lambda: registry.list_rejected(limit=asked.limit, cursor=asked.cursor),
            ("path", "reason"),
            of_state=False,
        )
    return listed(
        request,
        registry,
        asked,
        lambda: registry.list_frames(
            camera=asked.camera,
            nights=parse_nights(asked.nights),
            kind=asked.kind,
            exposures_s=parse_exposures(asked.exposure),
            temperature_c=asked.temperature,
            status=asked.status,
            limit=asked.limit,
            cursor=asked.cursor,
        ),
        ("frame_id", "camera", "kind", "night", "exptime_s", "start", "status", "sha256", "paths"),
        of_state=False,  # a file may vanish
    )
