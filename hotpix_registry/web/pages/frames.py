"""The pages of frames: what is catalogued, and what was rejected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from hotpix_registry.errors import UsageError
from hotpix_registry.registry import Registry
from hotpix_registry.registry.question import parse_exposures, parse_nights
from hotpix_registry.web.pages.showing import shown
from hotpix_registry.web.state import TheRegistry

router = APIRouter(include_in_schema=False)

_ROWS = 100
_FILTERS = ("camera", "kind", "nights", "exposure", "temperature", "status")


@router.get("/frames")
def frames(request: Request, registry: TheRegistry) -> Response:
    """Catalogued frames, filtered, a page at a time; and the files that were rejected."""
    given = {name: request.query_params.get(name, "").strip() for name in _FILTERS}
    cursor = request.query_params.get("cursor") or None
    return shown(request, registry, "frames.html", lambda: _read(registry, given, cursor))


def _read(registry: Registry, given: Mapping[str, str], cursor: str | None) -> dict[str, Any]:
    if given["status"] == "rejected":
        found = registry.list_rejected(limit=_ROWS, cursor=cursor)
    else:
        found = registry.list_frames(
            camera=given["camera"] or None,
            kind=given["kind"] or None,
            nights=parse_nights(given["nights"] or None),
            exposures_s=parse_exposures(given["exposure"] or None),
            temperature_c=_temperature(given["temperature"]),
            status=given["status"] or None,
            limit=_ROWS,
            cursor=cursor,
        )
    return {
        "cameras": registry.cameras(),
        "asked": given,
        "rows": found.items,
        "first": None if cursor is None else _url(given),
        "after": None if found.next is None else _url({**given, "cursor": found.next}),
    }


def _temperature(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise UsageError(f"'{text}' is no temperature.", next_step="Give it in °C.") from None


def _url(asked: Mapping[str, str]) -> str:
    return "/frames?" + urlencode({name: value for name, value in asked.items() if value})


@router.get("/frames/{frame_id}")
def frame(request: Request, registry: TheRegistry, frame_id: int) -> Response:
    """Everything known about one frame, and the masks that it went into."""
    return shown(request, registry, "frame.html", lambda: registry.frame(frame_id))
