"""A server that is asked over HTTP: retries, and problem documents as the errors that they tell of."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit

from hotpix_registry import __version__
from hotpix_registry.answers import Weighed
from hotpix_registry.client.proxy import manager, proxy_for, without_password
from hotpix_registry.domain import content_digest
from hotpix_registry.errors import (
    HotpixError,
    IntegrityError,
    NotAdmitted,
    ServerUnreachable,
    UsageError,
    error_named,
)

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager
    from urllib3.util.retry import Retry

RETRIES = 4
LONGEST_WAIT_S = 30.0
"""between two attempts, whatever Retry-After says"""
_BACK_OFF_S = 0.2
_AWAY = (502, 503, 504)
"""what a server, or a proxy before it, says when it cannot answer now"""
_TOO_MANY = 429
_DOWN_FOR_S = 20.0


class Reply(NamedTuple):
    """What a server sent."""

    status: int
    etag: str | None
    content: bytes
    warning: str | None = None
    """that it is a mirror, and older than it may be"""


class Server:
    """One server; any number of threads may ask it.

    Parameters
    ----------
    timeout_s
        how long it may be silent
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 30.0) -> None:
        self.url = _checked(url)
        self._timeout_s = timeout_s
        self._headers = {"User-Agent": f"hotpix-registry/{__version__}"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._proxy = proxy_for(self.url)
        self._made: PoolManager | None = None
        self._down_until = 0.0

    def get(self, path: str, asked: Mapping[str, Any] | None = None, *, etag: str | None = None) -> Reply:
        """Ask for what is at a path; with `etag` the reply may have status 304 and no content.

        Raises
        ------
        ServerUnreachable
            Nothing answers, or what answers is no registry.
        HotpixError
            What the server says is wrong.
        """
        query = f"?{urlencode(asked)}" if asked else ""
        return self._ask("GET", path + query, {"If-None-Match": etag} if etag else {}, None)

    def post(self, path: str, value: Any) -> Reply:
        """Ask with a body of JSON; as such requests change nothing, they are repeated like others."""
        body = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        return self._ask("POST", path, {"Content-Type": "application/json"}, body)

    @property
    def is_down(self) -> bool:
        """Whether it could not be reached a moment ago."""
        return time.monotonic() < self._down_until

    def nonsense(self, what: str) -> ServerUnreachable:
        """The error of an answer that no registry gives."""
        return ServerUnreachable(
            f"What answers at {self.url} is no hotpix-registry that this version understands: {what}.",
            next_step="Check HOTPIX_SERVER_URL, and which version the server runs.",
        )

    def close(self) -> None:
        if self._made is not None:
            self._made.clear()

    def _ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        from urllib3.exceptions import HTTPError

        try:
            reply = self._pool.request(
                method,
                self.url + path,
                headers=self._headers | {"Accept": "application/json"} | dict(headers),
                body=body,
                retries=_retries(),
                timeout=self._timeout_s,
            )
        except HTTPError as error:
            self._down_until = time.monotonic() + _DOWN_FOR_S
            raise self._unreachable(_reason(error, self._timeout_s)) from error
        if reply.status in _AWAY:
            self._down_until = time.monotonic() + _DOWN_FOR_S
            told = _problem(reply) or {}
            raise self._unreachable(f"{reply.status}, {told.get('detail') or reply.reason}".rstrip("."))
        self._check_token_came(reply, self.url + path)
        self._check_whole(reply)
        if reply.status >= 400:
            raise self._refusal(reply)
        self._down_until = 0.0
        sent = reply.headers
        return Reply(reply.status, sent.get("ETag"), reply.data, sent.get("X-Hotpix-Warning"))

    @property
    def _pool(self) -> PoolManager:
        if self._made is None:
            self._made = manager(self._proxy)
        return self._made

    def _unreachable(self, reason: str) -> ServerUnreachable:
        way, check = "", "the network"
        if self._proxy is not None:
            way, check = f" through the proxy {without_password(self._proxy)}", "HTTP_PROXY and NO_PROXY"
        return ServerUnreachable(
            f"The server {self.url} cannot be reached{way}: {reason}.",
            next_step=f"Check HOTPIX_SERVER_URL, {check}, and whether `hotpix-registry serve` runs there.",
        )

    def _check_token_came(self, reply: BaseHTTPResponse, asked: str) -> None:
        """Refuse to take it for a wrong token when none was sent, since it was sent on to another address."""
        sent_on = [step.redirect_location for step in reply.retries.history] if reply.retries else []
        for location in filter(None, sent_on):
            asked = urljoin(asked, location)
        if reply.status != HTTPStatus.UNAUTHORIZED or "Authorization" not in self._headers:
            return
        begins, ends = urlsplit(self.url), urlsplit(asked)
        if (ends.scheme, ends.netloc) != (begins.scheme, begins.netloc):
            raise NotAdmitted(
                f"The server {self.url} sends requests on to {ends.scheme}://{ends.netloc}, "
                "and your token was not sent along to another address than the one that it was given for.",
                next_step=f"Set HOTPIX_SERVER_URL to {ends.scheme}://{ends.netloc}{begins.path} "
                "if you trust it with the token.",
            )

    def _check_whole(self, reply: BaseHTTPResponse) -> None:
        announced = reply.headers.get("Content-Digest")
        if announced is not None and announced != content_digest(reply.data):
            raise IntegrityError(
                f"What {self.url} answered was changed on its way: it does not have the digest that was sent"
                " along.",
                next_step="Ask again; if it stays so, look for what stands between and rewrites answers.",
            )

    def _refusal(self, reply: BaseHTTPResponse) -> HotpixError:
        told = _problem(reply)
        if told is None:
            kind = reply.headers.get("Content-Type", "no content type")
            return self.nonsense(f"{reply.status} and {kind}")
        try:
            return error_of(
                {
                    "error": {
                        "code": told["code"],
                        "message": told["detail"],
                        "next_step": told.get("next_step", ""),
                    },
                    "exit_code": told.get("exit_code", 1),
                    "explanation": told.get("explanation", ()),
                }
            )
        except (KeyError, TypeError, ValueError):
            return self.nonsense(f"{reply.status} and a problem without a code")


def error_of(told: Mapping[str, Any]) -> HotpixError:
    """The error that `HotpixError.as_dict` told, its explanation included.

    Raises
    ------
    KeyError, TypeError, ValueError
        It tells none.
    """
    error = error_named(
        str(told["error"]["code"]),
        str(told["error"]["message"]),
        next_step=str(told["error"]["next_step"]),
        exit_code=int(told.get("exit_code", 1)),
    )
    error.explanation = tuple(map(Weighed.from_dict, told.get("explanation", ())))
    return error


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        is_one = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one or parts.query or parts.fragment:
        raise UsageError(
            f"'{url}' is no address of a server.", next_step="Write http://HOST:8471 (HOTPIX_SERVER_URL)."
        )
    if "@" in parts.netloc:
        raise UsageError(
            f"'{without_password(url)}' was given with a user or a password.",
            next_step="A token goes into HOTPIX_SERVER_TOKEN; give the plain address.",
        )
    return url.strip().rstrip("/")


def _problem(reply: BaseHTTPResponse) -> dict[str, Any] | None:
    if not reply.headers.get("Content-Type", "").startswith("application/problem+json"):
        return None
    try:
        told = json.loads(reply.data)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def _retries() -> Retry:
    from urllib3.util.retry import Retry

    class Bounded(Retry):
        def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
            wait_s = super().get_retry_after(response)
            return None if wait_s is None else min(wait_s, LONGEST_WAIT_S)

    return Bounded(
        total=RETRIES,
        connect=2,
        backoff_factor=_BACK_OFF_S,
        backoff_jitter=_BACK_OFF_S,
        status_forcelist=(*_AWAY, _TOO_MANY),
        allowed_methods=None,  # what is posted here asks, and changes nothing
        raise_on_status=False,
    )


def _reason(error: Exception, timeout_s: float) -> str:
    from urllib3 import exceptions

    cause = error.reason if isinstance(error, exceptions.MaxRetryError) and error.reason else error
    if isinstance(cause, exceptions.ProxyError):
        return f"it does not lead there ({_reason(cause.original_error, timeout_s)})"
    if isinstance(cause, exceptions.NameResolutionError):
        return "its name is not known here"
    if isinstance(cause, exceptions.NewConnectionError):
        system = cause.__cause__
        return (system.strerror or str(system)).lower() if isinstance(system, OSError) else "no connection"
    if isinstance(cause, exceptions.TimeoutError):
        return f"it was silent for {timeout_s:g} s"
    if isinstance(cause, exceptions.SSLError):
        return f"its certificate is not accepted ({cause})"
    if isinstance(cause, exceptions.ProtocolError):
        return "what answers breaks off, or does not speak HTTP"
    return str(cause).rstrip(".")
