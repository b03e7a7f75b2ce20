"""Routes of mask versions: what is known of each, and its files, which never change."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import FileResponse, Response

from hotpix_registry import __version__
from hotpix_registry.files import cache_file
from hotpix_registry.web import schemas as s
from hotpix_registry.web.lists import Paging, listed, preferred, tabled, told, told_by_content
from hotpix_registry.web.schemas import answers, of_files
from hotpix_registry.web.state import TheRegistry, TheService, unchanged

router = APIRouter(prefix="/v1/masks", tags=["masks"])

MaskId = Annotated[int, InPath(ge=1, lt=2**31, description="The mask, as an answer names it.")]
Preset = Annotated[str, Query(max_length=200, description="Which flags mask, such as HOT|UNSTABLE.")]


_DRAWING = threading.Lock()
"""matplotlib draws one picture at a time"""


class PlotName(StrEnum):
    """Pictures of a build; `plots.PICTURES` is the same, and loads matplotlib."""

    HISTOGRAM = "histogram"
    THRESHOLD = "threshold"
    SCATTER = "scatter"
    LIMIT = "limit"
    DEPARTURE = "departure"
    Z = "z"
    MAP = "map"


class FileFormat(StrEnum):
    """Forms in which a mask is served."""

    FITS = "fits"
    COMPRESSED = "fits.gz"
    NPY = "npy"
    ECSV = "ecsv"
    DS9 = "reg"
    LSST = "lsst.ecsv"
    SIRIL = "lst"


_MEDIA_TYPES = {
    FileFormat.FITS: "application/fits",
    FileFormat.COMPRESSED: "application/gzip",
    FileFormat.ECSV: "text/plain; charset=utf-8",
    FileFormat.DS9: "text/plain; charset=utf-8",
    FileFormat.LSST: "text/plain; charset=utf-8",
    FileFormat.SIRIL: "text/plain; charset=utf-8",
}
_EXPORTS = {
    FileFormat.NPY: "npy",
    FileFormat.ECSV: "ecsv",
    FileFormat.DS9: "ds9",
    FileFormat.LSST: "lsst",
    FileFormat.SIRIL: "siril",
}


class MaskFile(FileResponse):
    """A file in large pieces: each is a visit to a thread."""

    chunk_size = 1 << 20


class MasksQuery(Paging):
    camera: str | None = Field(None, description="Only this camera, by name or alias.")
    as_of: str | None = Field(None, description="A time or a transaction number.")
    release: str | None = None


@router.get("", summary="Mask versions", responses=tabled(s.Listed[s.MaskRecord]))
def masks(request: Request, registry: TheRegistry, asked: Annotated[MasksQuery, Query()]) -> Response:
    """Mask versions, series by series, each with its status and the dates that it holds."""
    columns = ("mask_id", "version", "camera", "series", "status", "needs_rebuild", "valid")
    return listed(
        request,
        registry,
        asked,
        lambda: registry.list_masks(
            camera=asked.camera,
            as_of=asked.as_of,
            release=asked.release,
            limit=asked.limit,
            cursor=asked.cursor,
        ),
        columns,
    )


@router.get("/{mask_id}", summary="Everything known about a mask version", responses=answers(s.MaskDetails))
def show(request: Request, registry: TheRegistry, mask_id: MaskId) -> Response:
    """Recipe, inputs by digest, report, software, who made it and when."""
    return told(request, registry, lambda: registry.show(mask_id))


@router.get(
    "/{mask_id}/provenance",
    summary="The provenance of a mask as W3C PROV-JSON",
    responses=answers(s.Provenance),
)
def provenance(request: Request, registry: TheRegistry, mask_id: MaskId) -> Response:
    """Mask, frames by sha256, recipe and profile; build, certifications, revocations; people, software."""
    return told(request, registry, lambda: registry.provenance(mask_id))


class ReportForm(StrEnum):
    """Forms of a report."""

    JSON = "json"
    HTML = "html"
    TEXT = "text"


_REPORT_TYPES = {
    ReportForm.JSON: "application/json",
    ReportForm.HTML: "text/html; charset=utf-8",
    ReportForm.TEXT: "text/plain; charset=utf-8",
}


class ReportQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: ReportForm | None = Field(
        None, description="HTML is one page with its pictures inside; without it, what `Accept` prefers."
    )
    against: int | None = Field(
        None, ge=1, lt=2**31, description="The mask to compare with; without it, the version before."
    )


@router.get(
    "/{mask_id}/report",
    summary="Whether to trust a mask, and why",
    responses=answers(s.ReportRecord, "text/html", "text/plain"),
)
def report(
    request: Request, registry: TheRegistry, mask_id: MaskId, asked: Annotated[ReportQuery, Query()]
) -> Response:
    """What was found, how sure it is, and what changed against another version."""
    form = asked.format or ReportForm(
        preferred(request, {str(form): name for form, name in _REPORT_TYPES.items()}) or ReportForm.JSON
    )
    found = registry.report(mask_id, against=asked.against)
    with _DRAWING:
        content = {"json": found.json, "html": found.html, "text": found.text}[form]()
    headers = {}
    if form is ReportForm.HTML:  # its pictures are in the page, and it has no script
        headers["Content-Security-Policy"] = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return told_by_content(request, content.encode(), _REPORT_TYPES[form], headers)


@router.get(
    "/{mask_id}/plots/{name}.png",
    summary="A picture of a build",
    responses=of_files("image/png"),
    response_class=Response,
)
def plot(request: Request, registry: TheRegistry, mask_id: MaskId, name: PlotName) -> Response:
    """Of a mask that no build made, there is the map only."""
    details = registry.show(mask_id)
    tag = f'W/"{details["sha256"][:32]}-{name}-{__version__}"'
    if (same := unchanged(request, tag)) is not None:
        return same
    with _DRAWING:
        picture = registry.draw(mask_id, name)
    return Response(picture, media_type="image/png", headers={"ETag": tag, "Cache-Control": "no-cache"})


class PixelQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    x: int = Field(ge=0, lt=2**31, description="Column, 0-based.")
    y: int = Field(ge=0, lt=2**31, description="Row, 0-based.")


@router.get("/{mask_id}/pixel", summary="One pixel of a mask", responses=answers(s.PixelRecord))
def pixel(
    request: Request, registry: TheRegistry, mask_id: MaskId, asked: Annotated[PixelQuery, Query()]
) -> Response:
    """Its dark current at each exposure time, its flags, and its flags in all versions of the series.

    Of normal pixels, and of masks that no build made, no dark current is kept.
    """
    return told(request, registry, lambda: registry.pixel(mask_id, asked.x, asked.y))


@router.get(
    "/{mask_id}/file.{form}",
    summary="The file of a mask",
    responses=of_files(*_MEDIA_TYPES.values(), "application/octet-stream")
    | {206: {"description": "The range that was asked for."}},
    response_class=Response,
)
def file(
    request: Request, service: TheService, mask_id: MaskId, form: FileFormat, preset: Preset = "default"
) -> Response:
    """An immutable file: its ETag is the sha256 of its bytes. Ranges are served."""
    registry = service.registry
    match form:
        case FileFormat.FITS:
            path = registry.mask_path(mask_id, preset=preset)
        case FileFormat.COMPRESSED:
            # a date or a name in the header would give equal masks different digests
            path = _kept(lambda: gzip.compress(registry.mask_file(mask_id, preset=preset), mtime=0))
        case _:
            path = _kept(lambda: registry.mask_as(mask_id, _EXPORTS[form], preset=preset))
    tag = f'"{path.stem}"'
    sharing = "private" if service.settings.read_needs_token else "public"
    headers = {"ETag": tag, "Cache-Control": f"{sharing}, max-age=31536000, immutable"}
    known = {one.strip() for one in request.headers.get("if-none-match", "").split(",")}
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return MaskFile(
        path,
        headers=headers,
        stat_result=path.stat(),
        media_type=_MEDIA_TYPES.get(form, "application/octet-stream"),
        filename=f"mask-{mask_id}.{form}",
    )


def _kept(make: Callable[[], bytes]) -> Path:
    content = make()
    return cache_file(hashlib.sha256(content).hexdigest(), lambda: content)
