"""What the routes share: the open registry, how the service is set up, who asks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hotpix_registry.catalogue.replicas import heard_of
from hotpix_registry.registry.facade.jobs import HEARTBEAT_S
from hotpix_registry.web.guesses import Guesses
from hotpix_registry.web.protection import Counts

if TYPE_CHECKING:
    from hotpix_registry.registry import Registry


SYNCED, WARNING = "X-Hotpix-Synced", "X-Hotpix-Warning"
"""headers of a mirror's answers"""
ENDING = "hotpix.ending"
"""in the scope of a request that is in work while the service ends"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How a service is set up; `hotpix-registry serve` fills it in."""

    database: str | None = None
    """None takes what settings say, as the command line does"""
    read_database: str | None = None
    """a replica of it, from which look-ups, lists and pages are read"""
    statement_timeout_s: float | None = 30.0
    """how long PostgreSQL may take to a statement of a request"""
    read_needs_token: bool = False
    most_in_work: int = 256
    """requests of one process; more are refused with 503 and Retry-After"""
    most_body_bytes: int = 64 << 20
    most_upload_bytes: int = 1 << 30
    patience_s: float = 20.0
    """how long a body may take, and more as it arrives: it holds a place among those in work"""
    jobs_at_once: int = 1
    """of all processes on this registry"""
    most_jobs: int = 20
    """unfinished ones; more are refused with 503 and Retry-After"""
    heartbeat_s: float = HEARTBEAT_S
    frames_roots: tuple[str, ...] = ()
    """folders of the server of which frames are taken by path"""
    uploads: str | None = None
    """where frames that are sent are kept; None: beside the registry"""


@dataclass(slots=True, kw_only=True)
class Service:
    """One process of the service."""

    settings: ServerSettings
    registry: Registry
    counts: Counts = field(default_factory=Counts)
    guesses: Guesses = field(default_factory=Guesses)
    streams: int = 0
    """how many listen to jobs"""

    @property
    def uploads(self) -> Path:
        """Where frames that are sent are kept."""
        return Path(self.settings.uploads or self.registry.data_folder / "uploads")


async def _service(request: Request) -> Service:  # async: others are sent to threads, each time
    service: Service = request.app.state.service
    return service


async def _registry(request: Request) -> Registry:
    service: Service = request.app.state.service
    return service.registry


TheService = Annotated[Service, Depends(_service)]
TheRegistry = Annotated["Registry", Depends(_registry)]


class HeardOf:
    """Lets nobody be answered from a replica that knows less than what the asker has, as its ETag says."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (known := Headers(scope=scope).get("if-none-match")):
            heard_of.set(max(map(int, _TAG.findall(known)), default=0))
        await self._app(scope, receive, send)


class CopyOf:
    """Says in each answer of a mirror when it was brought up to date, and whether that is too long ago."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        registry: Registry = scope["app"].state.service.registry
        with registry.held_age():
            also = _of_age(registry)

            async def telling(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], *also]
                await send(message)

            await self._app(scope, receive, telling if also else send)


def _of_age(registry: Registry) -> list[tuple[bytes, bytes]]:
    known, lag = registry.freshness(), registry.lag()
    told = {
        SYNCED: None if known is None else known.at,
        WARNING: None if lag is None else lag.encode("ascii", "backslashreplace").decode(),
    }
    return [(name.lower().encode(), value.encode()) for name, value in told.items() if value is not None]


_TAG = re.compile(r'"[0-9a-f]{8}-(\d{1,15})[-"]')
"""the transaction in what `tag_of` writes"""


def tag_of(state: tuple[str, int], also: str = "") -> str:
    """ETag of what hangs on the registry's state, and of what else it hangs on, such as a format."""
    registry_id, tx = state
    return f'W/"{registry_id}-{tx}{also and "-"}{also}"'


def unchanged(request: Request, tag: str) -> Response | None:
    """304 where the asker has the very state; None where it must be answered."""
    known = request.headers.get("if-none-match")
    if known is None:
        return None
    tags = {one.strip().removeprefix("W/") for one in known.split(",")}
    if tag.removeprefix("W/") in tags or "*" in tags:
        return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "no-cache"})
    return None
