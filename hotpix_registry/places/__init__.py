"""Where frames lie: files of this machine by their paths, objects elsewhere by their URLs.

A path costs what it did without URLs; whatever needs a network or fsspec is in `objects`, and imported
only for a URL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote

from hotpix_registry.errors import UsageError

SCHEMES = ("s3", "https", "http")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
"""of two letters or more, since one is a drive"""
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,4}|:[1-5]\d{4})?")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


class Marks(NamedTuple):
    """What tells a file or an object from what lay at its place before."""

    size_bytes: int
    mtime_ns: int
    """of an object the second in which it was written, and below it a fingerprint of its ETag"""
    certain: bool = True
    """False: an object whose store names no ETag of its bytes, so that others may bear the same marks"""


def is_url(path: str) -> bool:
    return _SCHEME.match(path) is not None


def store_of(path: str) -> str:
    """The bucket or the server of an object; `''` for a file."""
    return "/".join(path.split("/", 3)[:3]) if is_url(path) else ""


def resolved(path: str) -> str:
    """The absolute path of a file, or the URL of an object, as the catalogue has it; `file://` is a path.

    Raises
    ------
    UsageError
        A URL of a kind that is not read, or with what may be a secret in it.
    """
    match = _SCHEME.match(path)
    if match is None:
        return os.path.abspath(path)
    scheme, rest = match[1].lower(), path[match.end() :]
    if scheme == "file":
        return _path_of(path)
    if scheme not in SCHEMES:
        raise UsageError(
            f"{_harmless(path)} cannot be read: frames are read at s3://, https://, http:// and file://.",
            next_step="Copy them to one of these, or to this machine.",
        )
    authority, _, name = rest.partition("/")
    if "@" in authority:
        raise _secret(path, "a user or a password", "in ~/.netrc for https, in AWS's own settings for S3")
    if scheme == "s3":
        if re.search(r"\?[\w.-]+=", name):
            raise _secret(path, "a query, which may be a signature", "in AWS's own settings")
    elif "?" in rest or "#" in rest:
        raise _secret(path, "a query, which may be a signature", "in ~/.netrc")
    elif ".." in unquote(name).replace("\\", "/").split("/") or _CONTROL.search(name):
        raise UsageError(f"{_harmless(path)} is no plain URL.", next_step="Write it without .. and blanks.")
    what, named = ("bucket", _BUCKET) if scheme == "s3" else ("host", _HOST)
    if not named.fullmatch(authority) or not _is_text(name):
        raise UsageError(
            f"{path!a} names no {what}, or is no text.", next_step=f"Write {scheme}://{what.upper()}/…"
        )
    return f"{scheme}://{authority if scheme == 's3' else authority.lower()}/{name}"


def _path_of(url: str) -> str:
    from urllib.request import url2pathname  # which brings all of http along

    machine, _, name = url.partition("://")[2].partition("/")
    if machine not in ("", "localhost"):
        raise UsageError(f"{url} lies on another machine.", next_step="Write file:///PATH, or the path.")
    return os.path.abspath(url2pathname(f"/{name}"))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _harmless(url: str) -> str:
    """A URL without what may be secret in it."""
    return re.sub(r"//[^/@]*@", "//", re.split(r"[?#]", url)[0])


def _secret(url: str, what: str, where: str) -> UsageError:
    return UsageError(
        f"{_harmless(url)} was given with {what}; the catalogue would keep it for all to read.",
        next_step=f"Give the plain URL, and what opens it {where}.",
    )


def marks(path: str) -> Marks:
    """Size and time of what lies at a place now.

    Raises
    ------
    OSError
        Of a file.
    UnreadableFrame, ObjectsUnavailable
        Of an object.
    """
    if is_url(path):
        from hotpix_registry.places import objects

        return objects.marks(path)
    stat = os.stat(path)
    return Marks(stat.st_size, stat.st_mtime_ns)


def is_there(path: str) -> bool:
    """Whether a file is there; an object is taken to be, since asking would take a network."""
    return is_url(path) or os.path.isfile(path)


def joined(folder: str, parts: Sequence[str]) -> str:
    """The place of a file below a folder, or below a prefix of objects."""
    if not is_url(folder):
        return os.path.join(folder, *parts)
    names = parts if folder.startswith("s3://") else [quote(part) for part in parts]
    return "/".join((folder.rstrip("/"), *names))


def below(path: str, folder: str) -> list[str]:
    """The parts of a place below a folder, in either system's writing; none when it is not below it."""
    folder = folder.rstrip("/\\")
    if not path.startswith(folder) or path[len(folder) : len(folder) + 1] not in ("/", "\\"):
        return []
    rest = path[len(folder) :]
    parts = [part for part in (rest.split("/") if rest[0] == "/" else rest.split("\\")) if part]
    return [unquote(part) for part in parts] if path.startswith(("http://", "https://")) else parts
