"""Who may do what: each route declares a scope, and a token must have it.

Reading is open unless the service is set up otherwise; then a browser's own dialogue will do for pages:
HTTP Basic with the token as the password, which is taken for reading alone, since a browser would send
it along with whatever another site's form posts.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from hotpix_registry import __version__
from hotpix_registry.domain import Scope
from hotpix_registry.errors import NotAdmitted, TooMany
from hotpix_registry.web.guesses import address_of
from hotpix_registry.web.state import Service

if TYPE_CHECKING:
    from hotpix_registry.registry import Registry

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="A token, as `hotpix-registry token create` prints it once.",
)


async def _admitted(
    request: Request,
    needed: SecurityScopes,
    _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],  # which describes it
) -> Registry:
    (scope,) = map(Scope, needed.scopes)
    return admit(request, scope)


def admit(request: Request, scope: Scope) -> Registry:
    """The registry, acting for the holder of the token that came with the request; looked at once.

    Raises
    ------
    NotAdmitted, Forbidden, TooMany
        There is no token, or none that is good for this.
    """
    known: dict[Scope, Registry] = request.scope.setdefault("hotpix.admitted", {})
    if scope not in known:
        known[scope] = _looked_at(request, scope)
    return known[scope]


def scopes_of(dependant: Dependant) -> tuple[Scope, ...]:
    """What `needs` has declared for a route."""
    return tuple(
        Scope(name)
        for part in dependant.dependencies
        if part.call is _admitted
        for name in part.own_oauth_scopes or ()
    )


def _looked_at(request: Request, scope: Scope) -> Registry:
    service: Service = request.app.state.service
    secret = _secret(request, scope)
    if secret is None:
        raise NotAdmitted(
            f"This needs a token with the scope {scope}.", next_step="Send it as Authorization: Bearer hp_…"
        )
    host = request.client.host if request.client else ""
    address = address_of(host)
    if wait_s := service.guesses.wait_s(address):
        refused = TooMany("Too many wrong tokens came from this address.", next_step="Wait, then try again.")
        refused.retry_after_s = wait_s
        raise refused
    try:
        token = service.registry.admit(secret, scope)
    except NotAdmitted:
        service.guesses.wrong(address)
        raise
    return _acting_for(request, service, token.name)


def _acting_for(request: Request, service: Service, name: str) -> Registry:
    host = request.client.host if request.client else "unknown"
    agent = "".join(c for c in request.headers.get("user-agent", "") if c.isprintable())[:80]
    software = f"hotpix-registry {__version__}" + (f", asked by {agent}" if agent else "")
    return service.registry.acting_for(f"{name} via token", host, software)


def _secret(request: Request, scope: Scope) -> str | None:
    kind, _, sent = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return sent.strip() or None
    may_browse = scope is Scope.READ and request.method in ("GET", "HEAD")
    return _password(sent) if may_browse and kind.lower() == "basic" else None


def _password(encoded: str) -> str | None:
    try:
        _, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return password


def needs(scope: Scope) -> Any:
    """What a route declares: the registry, for whoever has a token with this scope."""
    return Security(_admitted, scopes=[scope])


reading = [needs(Scope.READ)]
"""The dependencies of routes that read, where reading needs a token"""
