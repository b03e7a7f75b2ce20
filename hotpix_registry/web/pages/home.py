"""The pages for people: which mask is right, cameras, masks, frames, and the API described."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from hotpix_registry.answers import Answer
from hotpix_registry.errors import HotpixError, NoMask, RevokedMask, UsageError
from hotpix_registry.registry import Registry
from hotpix_registry.registry.coverage import SeriesCoverage, Stretch
from hotpix_registry.web.answers import MaskQuery
from hotpix_registry.web.pages import charts
from hotpix_registry.web.pages.showing import shown, this_minute
from hotpix_registry.web.rendering import today
from hotpix_registry.web.state import TheRegistry

router = APIRouter(include_in_schema=False)

_FIELDS = ("camera", "receipt", *MaskQuery.model_fields)
_PLAIN_FIELDS = {"camera", "date", "temperature", "receipt", "explain"}


# --- home -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesLine:
    """How one series of a camera stands today."""

    series: str
    stretch: Stretch | None
    covered: float
    flagged: int | None
    share: float
    spark: charts.Spark | None

    @property
    def stale(self) -> bool:
        return self.stretch is not None and self.stretch.stale_from is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraCard:
    """A camera at a glance."""

    name: str
    provisional: bool
    summary: str
    lines: tuple[SeriesLine, ...]
    waiting: int
    gaps: tuple[tuple[str, Stretch], ...]


@router.get("/")
def home(request: Request, registry: TheRegistry) -> Response:
    """Cameras, and the mask of a date; a question that cannot be answered is an answer, too."""
    given = {name: value.strip() for name, value in request.query_params.items() if value.strip()}
    return shown(request, registry, "home.html", lambda: _read(registry, given), also=this_minute())


def _read(registry: Registry, given: Mapping[str, str]) -> dict[str, Any]:
    answer, error = None, None
    try:
        answer = _answered(registry, given)
    except HotpixError as told:
        error = told
    cameras = registry.cameras()
    return {
        "cameras": cameras,
        "cards": [_card(registry, row.name) for row in cameras],
        "releases": registry.releases(),
        "today": today(),
        "asked": _asked(given),
        "answer": answer,
        "api_url": _api_url(given),
        "error": error,
        "again": _again(given, error),
    }


def _answered(registry: Registry, given: Mapping[str, str]) -> Answer | None:
    if "receipt" in given:
        return registry.replay(given["receipt"], explain=True).answer
    if "camera" not in given or "date" not in given:
        return None
    try:
        query = MaskQuery(**{k: v for k, v in given.items() if k != "camera"} | {"explain": True})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"{str(first['loc'][0]).replace('_', ' ')}: {first['msg'][0].lower()}{first['msg'][1:]}."
        ) from None
    return registry.mask(given["camera"], query.date, **query.arguments()).answer


def _again(given: Mapping[str, str], error: HotpixError | None) -> list[tuple[str, str]]:
    """Questions that may be answered where this one was not: words and where."""
    if isinstance(error, NoMask) and "--fallback nearest" in error.next_step:
        return [("Ask for the nearest mask instead", f"/?{urlencode({**given, 'fallback': 'nearest'})}")]
    if isinstance(error, RevokedMask) and "receipt" not in given:
        return [("Show the revoked mask all the same", f"/?{urlencode({**given, 'allow_revoked': 'true'})}")]
    return []


def _asked(given: Mapping[str, str]) -> dict[str, Any]:
    """What the form shows again."""
    shown: dict[str, Any] = {name: given.get(name, "") for name in _FIELDS}
    return shown | {"more": any(name in given for name in _FIELDS if name not in _PLAIN_FIELDS)}


def _api_url(given: Mapping[str, str]) -> str:
    if "receipt" in given:
        return f"/v1/receipt?{urlencode({'receipt': given['receipt']})}"
    asked = {name: value for name, value in given.items() if name != "camera"}
    return f"/v1/cameras/{quote(given.get('camera', ''), safe='')}/mask?{urlencode(asked)}"


def _card(registry: Registry, name: str) -> CameraCard:
    row = registry.camera(name)
    coverage, masks = registry.coverage(name), registry.masks(camera=name)
    lines = tuple(
        _line(one, [m for m in masks if m["series"] == one.series], name) for one in coverage.series
    )
    return CameraCard(
        name=row.name,
        provisional=row.profile.provisional,
        summary=row.profile.summary,
        lines=lines,
        waiting=sum(mask["status"] == "candidate" for mask in masks),
        gaps=tuple(
            (one.series.removeprefix(f"{row.name} at "), stretch)
            for one in coverage.series
            for stretch in one.stretches
            if stretch.status != "certified"
        ),
    )


def _line(one: SeriesCoverage, masks: list[dict[str, Any]], camera: str) -> SeriesLine:
    now = one.stretches[-1] if one.stretches else None
    serving = next((m for m in masks if now is not None and m["mask_id"] == now.mask_id), None)
    return SeriesLine(
        series=one.series.removeprefix(f"{camera} at "),
        stretch=now,
        covered=one.covered,
        flagged=None if serving is None else serving["flagged"],
        share=0.0 if serving is None else serving["flagged"] / serving["pixels"],
        spark=charts.spark(charts.speaking(masks)),
    )
