"""Errors as RFC 9457 problem documents, with the codes of the command line."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from hotpix_registry.domain import content_digest
from hotpix_registry.errors import HotpixError, StorageError, UsageError
from hotpix_registry.web.rendering import error_page, wants_page

log = logging.getLogger(__name__)

SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "content-security-policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
}
"""what every answer has"""

MEDIA_TYPE = "application/problem+json"
_CODES = {413: "too-large"}  # Python has renamed this status


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    next_step: str = "",
    headers: Mapping[str, str] | None = None,
    request: Request | None = None,
    **more: Any,
) -> Response:
    """A problem document: `code` is what scripts compare, `detail` and `next_step` what people read.

    Whoever asks with a browser for what is no part of the API gets a page in words.
    """
    if request is not None and wants_page(request):
        return error_page(status, detail, next_step, explanation=more.get("explanation", ()), headers=headers)
    document = {
        "type": f"urn:hotpix-registry:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "next_step": next_step,
    } | more
    content = json.dumps(document, ensure_ascii=False, default=str).encode()
    all_headers = {"Content-Digest": content_digest(content), **(headers or {})}
    return Response(content, status_code=status, media_type=MEDIA_TYPE, headers=all_headers)


def of_error(error: HotpixError, request: Request | None = None) -> Response:
    """What a user did wrong, with the explanation of a miss; a browser asks people for their token."""
    if isinstance(error, StorageError):
        log.error("%s", error)
        error = _without_place(error)
    browses = (
        request is not None and request.method == "GET" and "text/html" in request.headers.get("accept", "")
    )
    more: dict[str, Any] = {"exit_code": error.exit_code}
    if error.explanation:
        more["explanation"] = [weighed.as_dict() for weighed in error.explanation]
    headers: dict[str, str] = {}
    if error.retry_after_s or error.http_status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(error.retry_after_s or 5)
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = f'{"Basic" if browses else "Bearer"} realm="hotpix-registry"'
    return problem(
        error.http_status,
        error.code,
        error.message,
        next_step=error.next_step,
        headers=headers,
        request=request,
        **more,
    )


def _without_place(error: StorageError) -> StorageError:
    """What those who ask are told of the server's disk; where on it is for the log."""
    return StorageError(
        f"The server's disk cannot be written{error.reason and ': '}{error.reason}.",
        next_step="Try again once whoever runs it has freed some space or let it write; its log says where.",
    )


def of_exception(error: HotpixError | RequestValidationError, request: Request) -> Response:
    """What is wrong with what was asked."""
    if isinstance(error, HotpixError):
        return of_error(error, request)
    told = "; ".join(
        f"{'.'.join(str(part) for part in one['loc'][1:]) or one['loc'][0]}: {one['msg']}"
        for one in error.errors()
    )
    return problem(
        422,
        UsageError.code,
        f"The request cannot be understood: {told}.",
        next_step="/docs says what each request takes.",
        request=request,
        exit_code=UsageError.exit_code,
    )


async def _wrong(request: Request, error: Exception) -> Response:
    assert isinstance(error, HotpixError | RequestValidationError)
    return of_exception(error, request)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code) or HTTPStatus(error.status_code).name.lower().replace("_", "-")
    detail = error.detail if error.detail != HTTPStatus(error.status_code).phrase else ""
    if error.status_code == HTTPStatus.NOT_FOUND and not detail:
        detail = f"There is nothing at {request.url.path}."
    if detail and not detail.endswith("."):
        detail += "."
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.method} is not possible at {request.url.path}."
    return problem(
        error.status_code,
        code,
        detail,
        next_step="/docs lists what there is.",
        headers=error.headers,
        request=request,
    )


async def _bug(request: Request, _: Exception) -> Response:
    return problem(
        500,
        "bug",
        "The service made a mistake; it is not yours.",
        next_step="Its log has the traceback for whoever runs it.",
        headers=SAFE_HEADERS,  # it is sent from outside of what adds them
        request=request,
    )


def add_handlers(app: FastAPI) -> None:
    app.add_exception_handler(Exception, _bug)  # which is raised again, for the log
    app.add_exception_handler(HotpixError, _wrong)
    app.add_exception_handler(RequestValidationError, _wrong)
    app.add_exception_handler(HTTPException, _http_error)
