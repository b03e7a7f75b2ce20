"""Which proxy leads to a server, as HTTP_PROXY, HTTPS_PROXY and NO_PROXY say."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from hotpix_registry.errors import UsageError

if TYPE_CHECKING:
    from urllib3 import PoolManager

_CONNECTIONS = 8


def proxy_for(url: str) -> str | None:
    """The proxy for a server by the environment, else by the system; none leads to this machine itself."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _is_loopback(host) or proxy_bypass(f"{host}:{parts.port}" if parts.port else host):
        return None
    known = getproxies()
    proxy = known.get(parts.scheme) or known.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def without_password(url: str) -> str:
    """Where a proxy or a server is, as it may be said."""
    parts = urlsplit(url.strip())
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))


def manager(proxy: str | None) -> PoolManager:
    """What connects, through a proxy or straight.

    Raises
    ------
    UsageError
        The proxy is no address of one.
    """
    import urllib3

    if proxy is None:
        return urllib3.PoolManager(maxsize=_CONNECTIONS)
    try:
        parts = urlsplit(proxy)
        user = (
            None if parts.username is None else f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        )
        if not parts.hostname:
            raise ValueError("no host")
        return urllib3.ProxyManager(
            without_password(proxy),
            proxy_headers=urllib3.make_headers(proxy_basic_auth=user),
            maxsize=_CONNECTIONS,
        )
    except (ValueError, urllib3.exceptions.HTTPError):
        raise UsageError(
            f"'{without_password(proxy)}' is no address of an HTTP proxy.",
            next_step="Write http://HOST:PORT in HTTP_PROXY or HTTPS_PROXY, or the server in NO_PROXY.",
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
