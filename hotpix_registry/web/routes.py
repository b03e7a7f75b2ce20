"""How a request comes to its route: the token before the body, and the shortest way to what is asked most."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope as Connection

from hotpix_registry.domain import Scope
from hotpix_registry.web.access import admit, scopes_of
from hotpix_registry.web.state import Service


class Guarded(APIRoute):
    """A route that looks at the token first: FastAPI would take in the whole body before it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        own = scopes_of(self.dependant)

        async def guarded(request: Request) -> Response:
            for scope in own or _to_read(request):
                admit(request, scope)
            return await handle(request)

        return guarded


class Direct(Route):
    """A route that FastAPI describes, called as Starlette calls its own: with the request and its path.

    It stands before all others, and its function reads the query itself. FastAPI's way from a request to a
    function costs more than the answer to a look-up.
    """

    def __init__(self, described: APIRoute) -> None:
        answer: Callable[..., Awaitable[Response]] = described.endpoint

        async def answered(request: Request) -> Response:
            for scope in _to_read(request):
                admit(request, scope)
            return await answer(request, **request.path_params)

        super().__init__(described.path, answered, methods=["GET"], name=described.name)
        self.methods = described.methods  # HEAD has become GET

    def matches(self, scope: Connection) -> tuple[Match, Connection]:
        match, child_scope = super().matches(scope)
        child_scope["route"] = self
        return match, child_scope


def _to_read(request: Request) -> tuple[Scope, ...]:
    service: Service = request.app.state.service
    return (Scope.READ,) if service.settings.read_needs_token else ()
