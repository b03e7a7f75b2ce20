"""What routes that read have in common: pages of records, their formats, answers with an ETag."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticSerializationError, to_json
from starlette.responses import Response

from hotpix_registry import tables
from hotpix_registry.registry import Registry
from hotpix_registry.registry.pages import Page
from hotpix_registry.web.schemas import answers
from hotpix_registry.web.state import tag_of, unchanged

MOST_RECORDS = 1000


class Form(StrEnum):
    """How records are written."""

    JSON = "json"
    CSV = "csv"
    ECSV = "ecsv"
    VOTABLE = "votable"


MEDIA_TYPES = {
    Form.JSON: "application/json",
    Form.CSV: "text/csv; charset=utf-8",
    Form.ECSV: "text/ecsv; charset=utf-8",
    Form.VOTABLE: "application/x-votable+xml",
}
FormGiven = Annotated[
    Form | None, Field(description="How records are written; without it, what `Accept` prefers, or JSON.")
]


class Formatted(BaseModel):
    """How a list is written that has no pages."""

    model_config = ConfigDict(extra="forbid")

    format: FormGiven = None


class Paging(Formatted):
    """Which page of a list, and how it is written."""

    limit: int = Field(100, ge=1, le=MOST_RECORDS, description="At most so many records.")
    cursor: str | None = Field(
        None, max_length=8000, description="The `next` of the page before; without it the list begins."
    )


def tabled(model: Any) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that tells JSON of a model, or a table."""
    return answers(model, *(MEDIA_TYPES[form] for form in Form if form is not Form.JSON))


def preferred(request: Request, known: Mapping[str, str]) -> str | None:
    """Which of some forms, by the media type of each, `Accept` likes best; None where it likes none."""
    best, best_quality = None, 0.0
    for part in request.headers.get("accept", "").split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        if quality <= best_quality:
            continue
        for form, own in known.items():
            plain = own.partition(";")[0]
            if media_type in (plain, f"{plain.partition('/')[0]}/*", "*/*"):
                best, best_quality = form, quality
                break
    return best


def form_of(request: Request, given: Form | None) -> Form:
    return given or Form(preferred(request, {str(form): MEDIA_TYPES[form] for form in Form}) or Form.JSON)


def json_bytes(value: object) -> bytes:
    """JSON without NaN, which has none: what is not finite is null."""
    try:
        return to_json(value, inf_nan_mode="null", fallback=str)
    except PydanticSerializationError:  # a text that is no Unicode
        plain = json.loads(json.dumps(value, default=str), parse_constant=lambda _: None)
        return json.dumps(plain).encode()


def json_response(value: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json_bytes(value), media_type="application/json", headers=headers)


def told(
    request: Request, registry: Registry, read: Callable[[], object], *, also: str = "", vary: bool = False
) -> Response:
    """What is read, as JSON, under the ETag of the state that it was read of, or 304.

    Parameters
    ----------
    also
        what else the answer hangs on
    """
    with registry.at_once() as state:
        tag = tag_of(state, also)
        if (same := unchanged(request, tag)) is not None:
            return same
        value = read()
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    return json_response(value, headers | {"Vary": "Accept"} if vary else headers)


def told_by_content(
    request: Request, content: bytes, media_type: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Bytes under the ETag of their digest, or 304: for what hangs on more than the registry's state."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    if (same := unchanged(request, tag)) is not None:
        return same
    all_headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept", **(headers or {})}
    return Response(content, media_type=media_type, headers=all_headers)


def listed(
    request: Request,
    registry: Registry,
    asked: Formatted,
    read: Callable[[], Page],
    columns: Sequence[str],
    *,
    of_state: bool = True,
) -> Response:
    """A page of a list in the form that is asked for, with an ETag, or 304.

    Parameters
    ----------
    columns
        the names in a table without records
    of_state
        whether nothing but the registry's state decides what is in the list
    """
    form = form_of(request, asked.format)
    with registry.at_once() as state:
        tag = tag_of(state, form)
        if of_state and (same := unchanged(request, tag)) is not None:
            return same
        page = read()
    headers = {"Vary": "Accept"}
    if page.next is not None:
        headers["Link"] = f'<{request.url.include_query_params(cursor=page.next)}>; rel="next"'
    content = _written(page, form, columns)
    if not of_state:
        return told_by_content(request, content, MEDIA_TYPES[form], headers)
    headers |= {"ETag": tag, "Cache-Control": "no-cache"}
    return Response(content, media_type=MEDIA_TYPES[form], headers=headers)


def _written(page: Page, form: Form, columns: Sequence[str]) -> bytes:
    match form:
        case Form.JSON:
            return json_bytes({"items": page.items, "next": page.next})
        case Form.CSV:
            return tables.csv_text(page.items, columns).encode()
        case Form.ECSV:
            return tables.ecsv_text(page.items, columns).encode()
        case Form.VOTABLE:
            return tables.votable(page.items, columns)
