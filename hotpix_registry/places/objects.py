"""Objects at URLs, by way of fsspec: what marks them, what lies below a prefix, and their bytes by ranges.

The libraries' own retries are off, since http has none: `_asked` tries again for both, six times in about
eight seconds, where a store is busy or a connection breaks.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from hotpix_registry.errors import HotpixError, NoObject, ObjectsUnavailable, UnreadableFrame, UsageError
from hotpix_registry.places import Marks, store_of

Result = TypeVar("Result")

_WAITS_S = (0.25, 0.5, 1.0, 2.0, 4.0)
_CONNECT_S, _READ_S = 10, 30
_CONNECTIONS = 32
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""statuses of a store that is busy, or stumbled"""
_AGAIN_CODES = ("SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling")
_NOT_LET_IN = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
)


def marks(url: str) -> Marks:
    """What marks an object now.

    Raises
    ------
    NoObject, UnreadableFrame
        It is not there, or may not be read.
    ObjectsUnavailable, UsageError
        Its store does not answer or lets nobody in; there is no such bucket; a library is missing.
    """
    store = _store_of(url)
    found = _asked(url, lambda: store.info(url))
    if found["type"] == "directory":
        raise NoObject("There is no such object, only some below it.", next_step="Give -r to read them.")
    return _marks(found)


Listed = list[tuple[str, Marks | None]]
"""URLs in their order, with the marks where the list tells them"""


def listed(url: str, *, recursive: bool) -> Listed:
    """Objects below a prefix, or the files below a web server's folder to which its pages link.

    Raises as `marks` does.
    """
    store = _store_of(url)
    if url.startswith("s3://") and recursive:
        return _objects(_asked(url, lambda: store.find(url, detail=True)).values())
    return sorted(_files_in(store, url, recursive))


def matching(pattern: str) -> Listed:
    """As `listed`, the objects whose URLs match a glob."""
    from fsspec.utils import glob_translate

    begin = re.split(r"[*?[]", pattern)[0]
    root, _, first = begin.rpartition("/")
    if pattern.startswith("s3://"):
        store = _store_of(pattern)
        found = _objects(_asked(pattern, lambda: store.find(root, prefix=first, detail=True)).values())
    else:
        found = listed(f"{root}/", recursive="/" in pattern[len(root) + 1 :])
    matches = re.compile(glob_translate(pattern)).match
    return [one for one in found if matches(one[0])]


def _objects(found: Iterable[dict[str, Any]]) -> Listed:
    return sorted((f"s3://{one['name']}", _marks(one)) for one in found if one["name"][-1:] != "/")


def _files_in(store: Any, url: str, recursive: bool) -> Iterator[tuple[str, Marks | None]]:
    folder = url.rstrip("/") + "/"
    entries: list[dict[str, Any]] = _asked(url, lambda: store.ls(folder, detail=True))
    if url.startswith("s3://"):
        yield from _objects(one for one in entries if one["type"] != "directory")
        return
    for one in entries:
        # a page links to more than its files: to itself in another order, and to what lies above
        name = one["name"]
        if not name.startswith(folder) or name == folder or re.search(r"[?#]|/\.\.?(/|$)", name):
            continue
        if one["type"] != "directory":
            yield name, None
        elif recursive:
            yield from _files_in(store, name, recursive)


def read(url: str, start: int, stop: int) -> bytes:
    """Bytes `start` to `stop` (exclusive) of an object, none of them beyond its end; one request.

    Raises
    ------
    UnreadableFrame
        It is shorter than that by now, or its server gives no parts of files; and as `marks` does.
    """
    if start >= stop:
        return b""
    store = _store_of(url)
    data: bytes = _asked(url, lambda: _range(store, url, start, stop))
    if len(data) != stop - start:
        raise UnreadableFrame(
            f"The file has changed while it was read: it gave {len(data)} of {stop - start} bytes.",
            next_step="Try again when it is complete.",
        )
    return data


def _range(store: Any, url: str, start: int, stop: int) -> Any:
    if url.startswith("s3://"):
        return store.cat_file(url, start=start, end=stop)
    # reads no more than what was asked for, whatever the server sends
    with store.open(url, size=stop, block_size=stop - start, cache_type="none") as file:
        file.seek(start)
        try:
            return file.read(stop - start)
        except ValueError:
            raise UnreadableFrame(
                "The file can be had as a whole only: its server gives no parts of files (no ranges).",
                next_step="Copy it to this machine, or serve it by a server that does, such as nginx.",
            ) from None


# --- stores -----------------------------------------------------------------------------


def _store_of(url: str) -> Any:
    # neither sessions nor threads survive a fork
    return _store(url.partition("://")[0], os.getpid())


@functools.cache
def _store(scheme: str, _: int) -> Any:
    """The file system of fsspec for a scheme, one for all threads of a process."""
    try:
        import fsspec

        if scheme == "s3":
            return _s3_store(fsspec)
        import aiohttp
    except ImportError as error:
        raise UsageError(
            f"Frames at {scheme}:// are read by libraries that are not installed ({error.name}).",
            next_step="Install them with `pip install 'hotpix-registry[s3]'`.",
        ) from None
    client = {
        "timeout": aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_READ_S),
        "trust_env": True,  # proxies, and ~/.netrc
        "auto_decompress": False,  # frames are hashed as they are stored
        "headers": {"Accept-Encoding": "identity"},
    }
    return fsspec.filesystem(scheme, simple_links=False, client_kwargs=client)


def _s3_store(fsspec: Any) -> Any:
    import s3fs  # noqa: F401 - that it is there

    config = {
        "connect_timeout": _CONNECT_S,
        "read_timeout": _READ_S,
        "max_pool_connections": _CONNECTIONS,
        "retries": {"total_max_attempts": 1, "mode": "standard"},
    }
    store = fsspec.filesystem("s3", use_listings_cache=False, config_kwargs=config)
    store.retries = 1
    return store


def _marks(found: dict[str, Any]) -> Marks:
    size = found.get("size")
    if size is None:
        raise UnreadableFrame(
            "Its server does not say how long the file is.", next_step="Copy it to this machine."
        )
    tag, when = str(found.get("ETag") or ""), found.get("LastModified") or found.get("Last-Modified")
    if isinstance(when, str):
        try:
            when = parsedate_to_datetime(when)
        except ValueError:
            when = None
    second = int(when.timestamp()) if isinstance(when, datetime) else 0
    weak, value = tag.startswith("W/"), tag.removeprefix("W/").strip('"')
    below_second = int.from_bytes(hashlib.sha256(value.encode()).digest()[:8]) % 10**9 if value else 0
    return Marks(size, second * 10**9 + below_second, certain=bool(value) and not weak)


# --- what goes wrong --------------------------------------------------------------------


def _asked(url: str, ask: Callable[[], Result]) -> Result:
    """What a store answers, asked again where that may help."""
    for wait_s in (*_WAITS_S, None):
        try:
            return ask()
        except HotpixError:
            raise
        except _failures(url) as error:
            cause = _cause(error)
            if wait_s is None or not _passes(cause):
                raise _told(url, cause) from error
        time.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - so that many do not ask at once
    raise AssertionError("the last try returns or raises")


def _failures(url: str) -> tuple[type[Exception], ...]:
    """What the libraries raise where a store or the way to it fails."""
    from aiohttp import ClientError, InvalidURL

    if not url.startswith("s3://"):
        return OSError, ClientError, InvalidURL
    from botocore.exceptions import BotoCoreError

    return OSError, ClientError, BotoCoreError


def _cause(error: BaseException) -> BaseException:
    """The error of the library below, where fsspec made another one of it."""
    while isinstance(error, OSError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _status(error: BaseException) -> tuple[int, str]:
    """Status and code of a store's answer; 0 and nothing where there was none."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return int(status), str(response.get("Error", {}).get("Code", ""))
    status = getattr(error, "status", 0)
    return (status if isinstance(status, int) else 0), ""


def _passes(error: BaseException) -> bool:
    """Whether the same request may succeed in a moment."""
    status, code = _status(error)
    if status or code:
        return status in _AGAIN or code.startswith(_AGAIN_CODES)
    return _is_lost_connection(error)


def _is_lost_connection(error: BaseException) -> bool:
    import aiohttp

    if isinstance(error, aiohttp.ClientSSLError):
        return False
    lost = (ConnectionError, TimeoutError, aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)
    return isinstance(error, lost) or _is_botocores(error, "ConnectionError", "HTTPClientError")


def _is_botocores(error: BaseException, *names: str) -> bool:
    return any(
        kind.__module__ == "botocore.exceptions" and kind.__name__ in names for kind in type(error).__mro__
    ) and not any(kind.__name__ == "SSLError" for kind in type(error).__mro__)


def _told(url: str, error: BaseException) -> HotpixError:
    """What went wrong in a sentence; it names nothing that the URL does not."""
    status, code = _status(error)
    store = store_of(url)
    if code == "NoSuchBucket":
        return UsageError(
            f"There is no bucket {store}.", next_step="Check its name, the account, and AWS_ENDPOINT_URL."
        )
    if code in _NOT_LET_IN:
        return ObjectsUnavailable(
            f"{url} cannot be read: the store does not accept these credentials ({code}).",
            next_step="Renew them; they are looked for where AWS's own tools do.",
        )
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return NoObject("There is no such object.", next_step="Check the URL.")
    if code == "InvalidObjectState":
        return UnreadableFrame(
            "The file lies in an archive class of its store.", next_step="Restore it there first."
        )
    if isinstance(error, PermissionError) or status in (401, 403):
        return UnreadableFrame(
            "The file may not be read: access is denied.",
            next_step="Ask for s3:GetObject and s3:ListBucket, or use other credentials."
            if store.startswith("s3:")
            else "Put user and password for its server into ~/.netrc.",
        )
    if _is_botocores(error, "NoCredentialsError", "PartialCredentialsError"):
        return ObjectsUnavailable(
            f"{url} cannot be read: there are no credentials for S3.",
            next_step="Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for a public bucket "
            "set FSSPEC_S3_ANON=true.",
        )
    if status or code:
        return UnreadableFrame(
            f"The file cannot be read: its store answered {' '.join(filter(None, (str(status or ''), code)))}"
            f"{f', {len(_WAITS_S) + 1} times' if _passes(error) else ''}.",
            next_step="Try again later.",
        )
    if _is_lost_connection(error):
        return ObjectsUnavailable(
            f"{url} cannot be read: its store does not answer ({_how(error)}).",
            next_step="Check the network, the URL and AWS_ENDPOINT_URL; what was done is kept."
            if store.startswith("s3:")
            else "Check the network and the URL; what was done is kept.",
        )
    return ObjectsUnavailable(
        f"{url} cannot be read: {_how(error)}.", next_step="Check the URL and the settings of its store."
    )


def _how(error: BaseException) -> str:
    """The error's kind in words; its text may hold signed URLs."""
    name = type(error).__name__
    if "Cert" in name or "SSL" in name:
        return "its certificate is not accepted"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower().removesuffix(" error")
