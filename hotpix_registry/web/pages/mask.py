"""The pages of a mask: its sensor, what the build measured, its life, and the buttons that decide on it."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from hotpix_registry.domain import DQ
from hotpix_registry.errors import UsageError
from hotpix_registry.registry import Registry
from hotpix_registry.report.words import headline, sections
from hotpix_registry.web.masks import MaskId
from hotpix_registry.web.pages.showing import shown
from hotpix_registry.web.rendering import FLAG_VALUES
from hotpix_registry.web.state import TheRegistry, TheService

router = APIRouter(prefix="/masks", include_in_schema=False)

_ROWS = 200
_OWN_PLACE = ("Inputs", "Where the masked pixels lie")
"""sections of a report that the page shows its own way"""
_QUIET = ("WARM", "PEDESTAL")
"""flags that the map shows only when asked: they mask nothing, and are many"""

Coordinate = Annotated[int | None, Query(ge=0, lt=2**31)]


@router.get("/{mask_id}")
def mask(
    request: Request,
    registry: TheRegistry,
    mask_id: MaskId,
    against: str = "",
    x: Coordinate = None,
    y: Coordinate = None,
) -> Response:
    """Everything that is known about a mask, and its map."""
    other_id = _number(against)
    at = None if x is None or y is None else (x, y)
    return shown(request, registry, "mask.html", lambda: _read(registry, mask_id, other_id, at))


def _read(
    registry: Registry, mask_id: int, other_id: int | None, at: tuple[int, int] | None
) -> dict[str, Any]:
    report = registry.report(mask_id, against=other_id)
    facts = report.facts
    siblings = [m for m in registry.masks(camera=facts["camera"]) if m["series"] == facts["series"]]
    details = registry.show(mask_id)
    return {
        "facts": facts,
        "headline": headline(facts),
        "sections": [section for section in sections(facts) if section.title not in _OWN_PLACE],
        "place": next(s for s in sections(facts) if s.title == _OWN_PLACE[1]) if facts["flagged"] else None,
        "siblings": sorted(siblings, key=lambda m: m["version"]),
        "history": registry.history(mask_id=mask_id),
        "needs_rebuild": details["needs_rebuild"],
        "revocation": details.get("revocation"),
        "flags": _legend(facts["flags"]),
        "pictures": report.picture_names,
        "size": details["shape"],
        "against": other_id,
        "pixel": None if at is None else registry.pixel(mask_id, *at),
    }


def _number(text: str) -> int | None:
    text = text.strip()
    if text and not (text.isdecimal() and len(text) < 10):
        raise UsageError(f"'{text}' is no mask.", next_step="Give its number.")
    return int(text) if text else None


def _legend(flags: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The flags that some pixel has, the first to name a pixel first."""
    order = [str(flag.name) for flag in _RANK]
    present = [flag for flag in flags if flag["pixels"] and flag["flag"] in order]
    return [
        flag | {"shown": flag["flag"] not in _QUIET}
        for flag in sorted(present, key=lambda f: order.index(f["flag"]))
    ]


_RANK = (
    *(DQ.MANUAL, DQ.COLUMN, DQ.STUCK, DQ.DARK_SATURATED, DQ.UNSTABLE, DQ.DARK_NONLINEAR),
    *(DQ.HOT, DQ.PEDESTAL, DQ.WARM),
)


# --- the sensor -------------------------------------------------------------------------


@router.get("/{mask_id}/flags")
def flags(request: Request, service: TheService, mask_id: MaskId) -> Response:
    """The DQ plane as little-endian uint16, row 0 first; what the map draws."""
    registry = service.registry
    tag = f'"{registry.show(mask_id)["sha256"]}-flags"'
    sharing = "private" if service.settings.read_needs_token else "public"
    headers = {
        "ETag": tag,
        "Cache-Control": f"{sharing}, max-age=31536000, immutable",
        "Vary": "Accept-Encoding",
    }
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    plane = registry.mask_dq(mask_id)
    content = plane.astype("<u2", copy=False).tobytes()
    headers |= {"X-Shape": f"{plane.shape[0]},{plane.shape[1]}"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        content, headers["Content-Encoding"] = gzip.compress(content, 1, mtime=0), "gzip"
    return Response(content, headers=headers, media_type="application/octet-stream")


@router.get("/{mask_id}/pixel")
def pixel(
    request: Request,
    registry: TheRegistry,
    mask_id: MaskId,
    x: Annotated[int, Query(ge=0, lt=2**31)],
    y: Annotated[int, Query(ge=0, lt=2**31)],
) -> Response:
    """What is known of one pixel, as the part of a page that the map shows."""
    return shown(
        request,
        registry,
        "pixel.html",
        lambda: {"mask_id": mask_id, "pixel": registry.pixel(mask_id, x, y)},
    )


@router.get("/{mask_id}/pixels")
def pixels(
    request: Request,
    registry: TheRegistry,
    mask_id: MaskId,
    flag: str = "BAD",
    number: Annotated[int, Query(alias="page", ge=1, lt=2**31)] = 1,
) -> Response:
    """The flagged pixels as a table, for whoever cannot use the map."""
    if flag not in FLAG_VALUES:
        raise UsageError(f"'{flag}' is no flag.", next_step=f"There are {', '.join(FLAG_VALUES)}.")
    return shown(request, registry, "pixels.html", lambda: _read_pixels(registry, mask_id, flag, number))


def _read_pixels(registry: Registry, mask_id: int, flag: str, number: int) -> dict[str, Any]:
    import numpy as np

    dq = registry.mask_dq(mask_id)
    found = np.flatnonzero(dq & FLAG_VALUES[flag])
    rows, columns = np.divmod(found[(number - 1) * _ROWS : number * _ROWS], dq.shape[1])
    return {
        "mask_id": mask_id,
        "flag": flag,
        "total": int(found.size),
        "number": number,
        "pages": max(-(-found.size // _ROWS), 1),
        "rows": [
            {"x": int(x), "y": int(y), "flags": list(_names(int(dq[y, x])))}
            for y, x in zip(rows, columns, strict=True)
        ],
    }


def _names(value: int) -> Iterator[str]:
    return (name for name, bit in FLAG_VALUES.items() if value & bit)
