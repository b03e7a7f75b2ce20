"""What every request passes: bounds on how many are in work and on their bodies, safe headers, counting."""

from __future__ import annotations

import asyncio
import functools
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hotpix_registry.web.problems import SAFE_HEADERS, problem
from hotpix_registry.web.rendering import error_page, wants_page

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

_HEADERS = tuple((name.encode(), value.encode()) for name, value in SAFE_HEADERS.items())
SLOWEST_BYTES_PER_S = 10_000
"""at which a body or an answer may trickle, beyond the first seconds"""
_UNCOUNTED = ("/healthz", "/readyz", "/metrics")


@dataclass(slots=True)
class Counts:
    """What `/metrics` tells of one process."""

    in_work: int = 0
    refused: int = 0
    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    """by method, route and status"""
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """time spent, by route"""
    buckets: Counter[tuple[str, int]] = field(default_factory=Counter)
    """by route and place in `BUCKETS_S`"""


class HeadAsGet:
    """Answers HEAD as GET without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message["body"] = b""
            await send(message)

        scope["method"] = "GET"
        await self._app(scope, receive, without_body)


class Protection:
    """Refuses what is more than the process can hold, with 503 and Retry-After, instead of queueing it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        counts: Counts,
        most_in_work: int,
        most_body_bytes: int,
        most_at: Mapping[str, int],
        patience_s: float,
    ) -> None:
        self._app = app
        self._counts = counts
        self._most_in_work = most_in_work
        self._most_body_bytes = most_body_bytes
        self._most_at = most_at
        self._patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        counts = self._counts
        if counts.in_work >= self._most_in_work and scope["path"] not in _UNCOUNTED:
            counts.refused += 1
            refusal = _busy(in_words=wants_page(Request(scope)))
            await refusal(scope, receive, _safely(send))
            return
        start = time.perf_counter()
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await safely(message)

        safely = _safely(send)
        counts.in_work += 1
        try:
            await self._app(scope, self._bounded(scope, receive), sending)
        finally:
            counts.in_work -= 1
            route = getattr(scope.get("route"), "path", "other")
            taken_s = time.perf_counter() - start
            counts.requests[scope["method"], route, status] += 1
            counts.seconds[route] += taken_s
            counts.buckets[route, bisect_left(BUCKETS_S, taken_s)] += 1

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        most = self._most_at.get(scope["path"], self._most_body_bytes)
        ends = asyncio.get_running_loop().time() + self._patience_s
        taken, is_whole = 0, False

        async def bounded() -> Message:
            nonlocal taken, is_whole
            if is_whole:  # what is waited for now is that the asker goes away
                return await receive()
            announced = "" if taken else Headers(scope=scope).get("content-length", "")
            if announced.isdecimal() and int(announced) > most:  # refused before any of it is read
                raise HTTPException(413, f"The body has more than {most} bytes.")
            try:
                async with asyncio.timeout_at(ends + taken / SLOWEST_BYTES_PER_S):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "The body did not arrive in time.") from None
            is_whole = not message.get("more_body", False)
            taken += len(message.get("body", b""))
            if taken > most:
                raise HTTPException(413, f"The body has more than {most} bytes.")
            return message

        return bounded


def _safely(send: Send) -> Send:
    """Send with the headers that every answer has, unless it has its own."""

    async def safely(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = message["headers"]
            names = {name for name, _ in own}
            message["headers"] = [*own, *(pair for pair in _HEADERS if pair[0] not in names)]
        await send(message)

    return safely


@functools.cache  # to refuse must cost less than to answer
def _busy(*, in_words: bool) -> Response:
    answer = error_page if in_words else functools.partial(problem, code="busy")
    return answer(
        HTTPStatus.SERVICE_UNAVAILABLE,
        detail="The service has as many requests in work as it takes.",
        next_step="Try again in a moment.",
        headers={"Retry-After": "1"},
    )
