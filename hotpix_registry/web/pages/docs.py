"""The page that describes the API, from the application's own OpenAPI."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from hotpix_registry.registry import Registry
from hotpix_registry.web.pages.described import described
from hotpix_registry.web.pages.showing import shown
from hotpix_registry.web.rendering import today
from hotpix_registry.web.state import TheService

router = APIRouter(include_in_schema=False)


@router.get("/docs")
def docs(request: Request, service: TheService) -> Response:
    """The API, described by the application itself."""
    registry = service.registry
    guarded = "-guarded" if service.settings.read_needs_token else ""
    return shown(request, registry, "docs.html", lambda: _read(request, registry), also=f"{today()}{guarded}")


def _read(request: Request, registry: Registry) -> dict[str, Any]:
    cameras, masks = registry.cameras(), registry.masks()
    newest = masks[-1] if masks else None
    examples: dict[str, Any] = {
        "camera": newest["camera"] if newest else cameras[0].name if cameras else "aspen",
        "mask_id": str(newest["mask_id"]) if newest else "1",
        "date": newest["first_night"] if newest else today(),
        "form": "fits.gz",
        "x": "17",
        "y": "4",
        "name": "histogram",
        "headers": [{"INSTRUME": "aspen", "DATE-OBS": "2018-08-23T05:00:00", "NAXIS1": 4096, "NAXIS2": 4096}],
        "reason": "looked at the plots",
    }
    base = str(request.base_url).rstrip("/")
    document = request.app.openapi()
    return {
        "document": document,
        "base": base,
        "examples": examples,
        "tags": described(document, base=base, examples=examples),
    }
