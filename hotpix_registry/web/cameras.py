"""Routes of cameras: what is known of each, its series, events, dates, hot pixels through the years."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from hotpix_registry.registry.pages import Page
from hotpix_registry.registry.question import parse_exposures, parse_nights
from hotpix_registry.web import schemas as s
from hotpix_registry.web.lists import (
    Form,
    Formatted,
    Paging,
    form_of,
    json_bytes,
    listed,
    tabled,
    told,
    told_by_content,
)
from hotpix_registry.web.schemas import answers
from hotpix_registry.web.state import TheRegistry

router = APIRouter(prefix="/v1/cameras", tags=["cameras"])

Paged = Annotated[Paging, Query()]


@router.get("", summary="Cameras", responses=tabled(s.Listed[s.CameraRecord]))
def cameras(request: Request, registry: TheRegistry, asked: Paged) -> Response:
    """Registered cameras by name, with how many frames and masks each has."""
    columns = ("name", "aliases", "status", "frames", "masks")
    return listed(
        request,
        registry,
        asked,
        lambda: registry.list_cameras(limit=asked.limit, cursor=asked.cursor),
        columns,
    )


@router.get("/{camera}", summary="The profile of a camera", responses=answers(s.CameraProfileRecord))
def camera(request: Request, registry: TheRegistry, camera: str) -> Response:
    """How it is recognised, its detector, site and policies, as `cameras show` prints them."""

    def read() -> object:
        row = registry.camera(camera)
        return {"name": row.name, "aliases": list(row.aliases)} | row.profile.as_dict()

    return told(request, registry, read)


@router.get("/{camera}/series", summary="The series of a camera", responses=tabled(s.Listed[s.SeriesRecord]))
def series(request: Request, registry: TheRegistry, camera: str, asked: Paged) -> Response:
    """Configurations and set points that the camera's darks were taken with."""
    columns = ("series_id", "camera", "series", "configuration", "set_point_c", "frames", "masks")
    return listed(
        request,
        registry,
        asked,
        lambda: registry.list_series(camera, limit=asked.limit, cursor=asked.cursor),
        columns,
    )


@router.get(
    "/{camera}/events", summary="The epoch events of a camera", responses=tabled(s.Listed[s.EventRecord])
)
def camera_events(request: Request, registry: TheRegistry, camera: str, asked: Paged) -> Response:
    """What ended the life of earlier masks, in the order of time."""
    return listed(
        request,
        registry,
        asked,
        lambda: registry.list_events(camera, limit=asked.limit, cursor=asked.cursor),
        ("event_id", "at", "kind", "note", "tx"),
    )


@router.get(
    "/{camera}/defects", summary="The static defects of a camera", responses=tabled(s.Listed[s.DefectRecord])
)
def defects(request: Request, registry: TheRegistry, camera: str, asked: Paged) -> Response:
    """Boxes of pixels, 0-based, that every later build takes in as MANUAL."""
    return listed(
        request,
        registry,
        asked,
        lambda: registry.list_defects(camera, limit=asked.limit, cursor=asked.cursor),
        ("x0", "y0", "width", "height", "reason", "first_night", "last_night", "defect_id"),
    )


class CoverageQuery(Formatted):
    as_of: str | None = Field(None, description="A time or a transaction number.")
    release: str | None = None


@router.get(
    "/{camera}/coverage", summary="Which dates of a camera have a mask", responses=tabled(s.CoverageRecord)
)
def coverage(
    request: Request, registry: TheRegistry, camera: str, asked: Annotated[CoverageQuery, Query()]
) -> Response:
    """Timelines of the series: which mask answers when, how old its darks are, what closes the gaps.

    As a table, the stretches of all series.
    """
    found = registry.coverage(camera, as_of=asked.as_of, release=asked.release)
    if form_of(request, asked.format) is Form.JSON:
        return told_by_content(request, json_bytes(found.as_dict()), "application/json")
    rows = [{"series": one.series} | s.as_dict() for one in found.series for s in one.stretches]
    columns = ("series", "valid_from", "valid_to", "mask_id", "version", "status")
    return listed(request, registry, asked, lambda: Page(rows), columns, of_state=False)


class TrendQuery(Formatted):
    flag: str = Field("HOT", max_length=200, description="A flag, a preset, or an expression of them.")
    temperature: float | None = Field(None, description="Only series at this set point, °C.")


@router.get(
    "/{camera}/trend", summary="Hot pixels through the years", responses=tabled(s.Listed[s.TrendRecord])
)
def trend(
    request: Request, registry: TheRegistry, camera: str, asked: Annotated[TrendQuery, Query()]
) -> Response:
    """Counts, births and deaths of flagged pixels through the campaigns of each series.

    As a table, the campaigns of all series.
    """

    def read() -> Page:
        found = registry.trend(camera, flag=asked.flag, temperature_c=asked.temperature)
        if form_of(request, asked.format) is Form.JSON:
            return Page([one.as_dict() for one in found])
        return Page(
            [
                {"series": one.series, "made": one.made, "flag": one.flag} | campaign.as_dict()
                for one in found
                for campaign in one.campaigns
            ]
        )

    return listed(request, registry, asked, read, ("series", "made", "flag"))


class PlanQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    nights: str | None = Field(None, description="2018-08-20..2018-08-25, or one night.")
    exposures: str | None = Field(None, description="Exposure times in seconds: 90,1000.")


@router.get("/{camera}/plan", summary="What a build would take in", responses=answers(s.PlanRecord))
def plan(
    request: Request, registry: TheRegistry, camera: str, asked: Annotated[PlanQuery, Query()]
) -> Response:
    """Campaigns with their frames, and why others stay out, as `build --dry-run` prints it."""
    return told(
        request,
        registry,
        lambda: registry.plan(
            camera, nights=parse_nights(asked.nights), exposures_s=parse_exposures(asked.exposures)
        ).as_dict(),
    )
