"""Routes that answer which mask is right: for a date, for a receipt, for the headers of frames."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import RedirectResponse, Response

from hotpix_registry.answers import Answer
from hotpix_registry.domain import digest
from hotpix_registry.registry import Mask, Registry
from hotpix_registry.registry.masks_for import MaskFor
from hotpix_registry.registry.question import parse_configuration
from hotpix_registry.web import schemas as s
from hotpix_registry.web.lists import json_response
from hotpix_registry.web.routes import Guarded
from hotpix_registry.web.schemas import answers
from hotpix_registry.web.state import TheRegistry, tag_of, unchanged

router = APIRouter(prefix="/v1", tags=["answers"], route_class=Guarded)

MOST_HEADERS = 10_000
TO_FILE: dict[int | str, dict[str, Any]] = {
    303: {
        "description": "To the immutable file of the mask.",
        "headers": {"Location": {"schema": {"type": "string"}}},
    }
}
HeaderValue = str | bool | int | float | None


class MaskQuery(BaseModel):
    """What is asked of a camera; the terms are those of `hotpix-registry mask`."""

    model_config = ConfigDict(extra="forbid")

    date: str = Field(
        description="An observing night (2018-08-22), an instant (2018-08-22T04:00:00Z), MJD or JD."
    )
    temperature: float | None = Field(None, description="Detector temperature of the science frame, °C.")
    exposure: float | None = Field(None, description="Exposure time of the science frame, s.")
    binning: str | None = Field(None, description="Binning, such as 2x2.")
    readout_mode: str | None = None
    gain_setting: str | None = None
    offset_setting: str | None = None
    sub_frame: str | None = Field(None, description="Sub-frame x0,y0,nx,ny in unbinned pixels, from 0.")
    row_order: str | None = Field(None, description="top-down or bottom-up.")
    bayer: str | None = Field(None, description="Bayer pattern, such as RGGB.")
    preset: str = Field("default", description="Which flags mask, such as matched or HOT|UNSTABLE.")
    fallback: Literal["previous", "nearest", "warmer"] | None = None
    max_age: int | None = Field(None, ge=0, le=1_000_000, description="How many days the darks may lie away.")
    allow_revoked: bool = False
    as_of: str | None = Field(None, description="A time or a transaction number.")
    release: str | None = None
    explain: bool = False

    def arguments(self) -> dict[str, Any]:
        """What `Registry.mask` takes."""
        return {
            "temperature_c": self.temperature,
            "exposure_s": self.exposure,
            "configuration": parse_configuration(
                {
                    "binning": self.binning,
                    "readout_mode": self.readout_mode,
                    "gain_setting": self.gain_setting,
                    "offset_setting": self.offset_setting,
                    "sub_frame": self.sub_frame,
                    "row_order": self.row_order,
                    "bayer_pattern": self.bayer,
                },
                spelled=lambda name: "bayer" if name == "bayer_pattern" else name,
            ),
            "preset": self.preset,
            "fallback": self.fallback,
            "max_age_days": self.max_age,
            "allow_revoked": self.allow_revoked,
            "as_of": self.as_of,
            "release": self.release,
            "explain": self.explain,
        }


def _look_up(request: Request, camera: str) -> Mask:
    """The mask that a query asks for, which is read here, and told here of what is wrong."""
    asked = _asked(request)
    registry: Registry = request.app.state.service.registry
    return registry.mask(camera, asked.date, **asked.arguments())


def _asked(request: Request) -> MaskQuery:
    given: dict[str, str] = {}
    twice = []
    for name, value in request.query_params.multi_items():
        if name in given:
            twice.append({"type": "twice", "loc": ("query", name), "msg": "Given more than once"})
        given[name] = value
    if twice:
        raise RequestValidationError(twice)
    try:
        return MaskQuery.model_validate(given)
    except ValidationError as error:
        raise RequestValidationError(
            [one | {"loc": ("query", *one["loc"])} for one in error.errors(include_url=False)]
        ) from None


def _parameters(model: type[BaseModel]) -> dict[str, Any]:
    """How OpenAPI describes the query that a model reads."""
    schema = model.model_json_schema()
    required = schema.get("required", ())
    return {
        "parameters": [
            {"name": name, "in": "query", "required": name in required, "schema": own}
            | ({"description": own["description"]} if "description" in own else {})
            for name, own in schema["properties"].items()
        ]
    }


ASKED = _parameters(MaskQuery)


class ResolveRequest(BaseModel):
    """Headers of science frames, as a pipeline has them, and what is asked for all of them."""

    model_config = ConfigDict(extra="forbid")

    headers: list[dict[str, HeaderValue | tuple[HeaderValue, str]]] = Field(
        min_length=1,
        max_length=MOST_HEADERS,
        description="Each maps FITS keywords, NAXIS1 and NAXIS2 among them, to values or [value, comment].",
    )
    camera: str | None = Field(None, description="The camera that took them; else their headers say it.")
    adapt: Literal["bin"] | None = Field(
        None, description="bin: join blocks of an unbinned mask for a binned frame."
    )
    preset: str = "default"
    fallback: Literal["previous", "nearest", "warmer"] | None = None
    max_age: int | None = Field(None, ge=0, le=1_000_000)
    allow_revoked: bool = False
    as_of: str | None = None
    release: str | None = None
    explain: bool = False


@router.get(
    "/cameras/{camera}/mask",
    summary="The right mask for a date",
    responses=answers(s.LinkedAnswer) | TO_FILE,
    openapi_extra=ASKED,
)
async def mask(request: Request, camera: str) -> Response:
    """Answer with all that a pipeline should know before it trusts the mask, and links to its files.

    With `Accept: application/fits` a redirect (303) to the immutable file.
    """
    found = _look_up(request, camera)
    if "application/fits" in request.headers.get("accept", ""):
        return _to_file(found.answer)
    return _told(request, found)


@router.get(
    "/cameras/{camera}/mask.fits",
    summary="The file of the right mask for a date",
    responses=TO_FILE,
    openapi_extra=ASKED,
    status_code=303,
    response_class=Response,
)
async def mask_file(request: Request, camera: str) -> Response:
    """Redirect (303) to the immutable file of the mask."""
    return _to_file(_look_up(request, camera).answer)


@router.get("/receipt", summary="The mask of an earlier answer", responses=answers(s.LinkedAnswer))
async def replay(request: Request, registry: TheRegistry, receipt: str, explain: bool = False) -> Response:
    """Replay a receipt: the identical mask for ever; a warning says if it was revoked since."""
    return _told(request, registry.replay(receipt, explain=explain))


@router.post(
    "/resolve",
    summary="The masks of many frames by their headers",
    responses=answers(s.Resolved, unchanged=False),
)
def resolve(registry: TheRegistry, body: ResolveRequest) -> Response:
    """One reading of the registry for all headers, one result each, in their order."""
    found = registry.masks_for_headers(
        body.headers,
        camera=body.camera,
        allow_binning=body.adapt == "bin",
        preset=body.preset,
        fallback=body.fallback,
        max_age_days=body.max_age,
        allow_revoked=body.allow_revoked,
        as_of=body.as_of,
        release=body.release,
        explain=body.explain,
    )
    return json_response({"results": [_result(one) for one in found]})


def _result(found: MaskFor) -> dict[str, object]:
    result: dict[str, object] = {"mask": None, "steps": list(found.steps)}
    if found.answer is not None:
        result["mask"] = _with_links(found.answer)
    if found.error is not None:
        result |= found.error.as_dict()
    if found.geometry:
        result["geometry"] = [dataclasses.asdict(criterion) for criterion in found.geometry]
    if found.frame_type is not None:
        result["frame_type"] = found.frame_type
    if found.adaptation is not None and found.frame_geometry is not None and found.steps:
        # what a client needs to lay the mask over the frame itself
        result["adaptation"] = {
            "steps": [dataclasses.asdict(step) for step in found.adaptation.steps],
            "mask_shape": found.adaptation.mask_shape,
            "frame": dataclasses.asdict(found.frame_geometry),
        }
    return result


def _told(request: Request, mask: Mask) -> Response:
    """The answer under the ETag of the state that gave it, or 304; a mirror's also hangs on its age."""
    registry: Registry = request.app.state.service.registry
    lag = registry.lag()
    tag = tag_of(mask.state, "" if lag is None else digest(lag)[:16])
    if (same := unchanged(request, tag)) is not None:
        return same
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept"}
    return json_response(_with_links(mask.answer), headers)


def _with_links(answer: Answer) -> dict[str, object]:
    mask = f"/v1/masks/{answer.mask_id}"
    return answer.as_dict() | {
        "links": {
            "mask": mask,
            "file": _file(answer),
            "compressed": _file(answer, "fits.gz"),
            "provenance": f"{mask}/provenance",
            "replay": f"/v1/receipt?receipt={quote(answer.receipt, safe='')}",
            "page": f"/masks/{answer.mask_id}",
        }
    }


def _file(answer: Answer, file_format: str = "fits") -> str:
    preset = "" if answer.preset == "default" else f"?preset={quote(answer.preset, safe='')}"
    return f"/v1/masks/{answer.mask_id}/file.{file_format}{preset}"


def _to_file(answer: Answer) -> Response:
    headers = {"X-Hotpix-Receipt": answer.receipt, "Cache-Control": "no-cache"}
    return RedirectResponse(_file(answer), status_code=303, headers=headers)


often = [
    route for route in router.routes if isinstance(route, APIRoute) and route.endpoint in (mask, mask_file)
]
"""what pipelines ask for every frame"""
