"""Routes of mask versions: what is known of each, and its files, which never change."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi import Path as InPath
from starlette.responses import FileResponse, Response

from hotpix_registry.files import cache_file
from hotpix_registry.web.state import TheRegistry, TheService

router = APIRouter(prefix="/v1/masks", tags=["masks"])

MaskId = Annotated[int, InPath(ge=1, lt=2**31, description="The mask, as an answer names it.")]
Preset = Annotated[str, Query(max_length=200, description="Which flags mask, such as HOT|UNSTABLE.")]


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


@router.get("/{mask_id}", summary="Everything known about a mask version")
def show(registry: TheRegistry, mask_id: MaskId) -> dict[str, Any]:
    """Recipe, inputs by digest, report, software, who made it and when."""
    return registry.show(mask_id)


@router.api_route("/{mask_id}/file.{form}", methods=["GET", "HEAD"], summary="The file of a mask")
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
    return FileResponse(
        path,
        headers=headers,
        media_type=_MEDIA_TYPES.get(form, "application/octet-stream"),
        filename=f"mask-{mask_id}.{form}",
    )


def _kept(make: Callable[[], bytes]) -> Path:
    content = make()
    return cache_file(hashlib.sha256(content).hexdigest(), lambda: content)
