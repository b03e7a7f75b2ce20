"""The page of a camera: its dates, its hot pixels over the years, its campaigns, what waits."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from hotpix_registry.errors import NoMask
from hotpix_registry.registry import Registry
from hotpix_registry.web.pages import charts
from hotpix_registry.web.pages.showing import shown, this_minute
from hotpix_registry.web.rendering import today
from hotpix_registry.web.state import TheRegistry

router = APIRouter(include_in_schema=False)


@router.get("/cameras/{camera}")
def camera(
    request: Request,
    registry: TheRegistry,
    camera: str,
    as_of: str | None = None,
    release: str | None = None,
    follow: str | None = None,
) -> Response:
    """A camera's dates, its hot pixels over the years, its campaigns, and what waits for approval."""
    as_of, release = (as_of or "").strip() or None, (release or "").strip() or None

    def read() -> dict[str, Any]:
        return _read(registry, camera, as_of=as_of, release=release, follow=follow)

    return shown(request, registry, "camera.html", read, also=this_minute())


def _read(
    registry: Registry, camera: str, *, as_of: str | None, release: str | None, follow: str | None
) -> dict[str, Any]:
    row = registry.camera(camera)
    coverage = registry.coverage(camera, as_of=as_of, release=release)
    masks = registry.masks(camera=camera, as_of=as_of, release=release)
    plan = registry.plan(camera)
    return {
        "camera": row,
        "as_of": as_of,
        "release": release,
        "releases": registry.releases(),
        "today": today(),
        "coverage": coverage,
        "timeline": charts.timeline(coverage),
        "masks": masks,
        "growth": _growth(masks, row.name),
        "temperatures": _temperatures(masks),
        "follow": follow,
        "trends": _trends(registry, row.name, follow),
        "waiting": [registry.show(m["mask_id"]) for m in masks if m["status"] == "candidate"],
        "plan": plan,
        "mask_of": {
            (m["series"], m["first_night"]): m["mask_id"] for m in masks if m["status"] != "superseded"
        },
    }


def _growth(masks: list[dict[str, Any]], camera: str) -> list[dict[str, Any]]:
    """Of each series with several campaigns, the pixels of each flag over time."""
    told = []
    for series in dict.fromkeys(mask["series"] for mask in masks):
        own = charts.speaking([one for one in masks if one["series"] == series])
        if own:
            told.append(
                {
                    "series": series.removeprefix(f"{camera} at "),
                    "masks": own,
                    "flags": [f for f in own[0]["counts"] if any(mask["counts"].get(f) for mask in own)],
                    "chart": charts.over_time(own) if len(own) > 1 else None,
                }
            )
    return told


def _temperatures(masks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of masks made alike at several set points, the pixels of each flag; the newest mask of each."""
    alike: dict[str, dict[float, charts.Summary]] = {}
    for mask in charts.speaking(masks):
        set_point_c = mask["set_point_c"]
        if set_point_c is not None and mask["exposures_tested_s"] is not None:
            times = " and ".join(f"{s:g}" for s in dict.fromkeys(mask["exposures_tested_s"]))
            made = f"{mask['series'].partition(', ')[2]}, rule {mask['rule']}, {times} s"
            alike.setdefault(made, {})[set_point_c] = mask
    return [
        {
            "made": made,
            "points": sorted(points.items()),
            "chart": charts.over_temperature(list(points.items())),
        }
        for made, points in alike.items()
        if len(points) > 1
    ]


def _trends(registry: Registry, camera: str, flag: str | None) -> Any:
    if not flag:
        return None
    try:
        return registry.trend(camera, flag=flag)
    except NoMask:
        return []
