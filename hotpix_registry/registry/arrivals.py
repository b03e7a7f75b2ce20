"""Frames that reach a service: paths that it may read, and files that were sent to it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hotpix_registry.errors import Forbidden, StorageError, UnreadableFrame, UsageError
from hotpix_registry.files import make_folder, storage_error
from hotpix_registry.places import is_url, resolved
from hotpix_registry.registry.batch import IngestReport
from hotpix_registry.registry.ingest import Found, find_files

_ENDING = re.compile(r"\.(?:fits|fit|fts|fz)(?:\.(?:fz|gz|bz2))?$", re.IGNORECASE)
_NAME = re.compile(r"[^/\\\x00-\x1f\x7f]{1,200}")
_ABANDONED_AFTER_S = 86_400


# --- paths ------------------------------------------------------------------------------


def found_below(roots: Sequence[str | Path], paths: Sequence[str], *, recursive: bool) -> list[Found]:
    """Files behind absolute paths, folders and globs, all of which lie below some folders.

    URLs are taken below roots that are URLs of the same store: a service fetches nothing from elsewhere.

    Raises
    ------
    Forbidden
        One lies elsewhere, or is a link to elsewhere; nothing is told of whether it exists.
    UsageError
        One names nothing.
    """
    urls = [str(root).rstrip("/") + "/" for root in roots if is_url(str(root))]
    folders = [Path(os.path.realpath(root)) for root in roots if not is_url(str(root))]
    for path in paths:
        # looked at before anything is looked for: what is elsewhere stays unknown
        if not (is_url(path) or os.path.isabs(path)) or not _is_below(urls, folders, path):
            raise _elsewhere(path)
    found = find_files(paths, recursive=recursive)
    for one in found:
        if not _is_below(urls, folders, one.path):
            raise _elsewhere(one.path)
    return found


def _is_below(urls: Sequence[str], folders: Sequence[Path], path: str) -> bool:
    if is_url(path):
        return path.startswith(tuple(urls)) and path == resolved(path)
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(folder) for folder in folders)


def _elsewhere(path: str) -> Forbidden:
    return Forbidden(
        f"{path} is not in a folder of which this service takes frames.",
        next_step="Send the file itself, or ask whoever runs the service for --frames-root.",
    )


# --- files that were sent ---------------------------------------------------------------


def ending_of(name: str) -> str:
    """How the name of a FITS file ends, in small letters.

    Raises
    ------
    UsageError
        It is no name of a FITS file, or more than a name.
    """
    ending = _ENDING.search(name)
    if ending is None or not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name[:200]}' is no name of a FITS file.",
            next_step="Use one such as dark_001.fits or dark.fit.gz.",
        )
    return ending[0].lower()


@contextmanager
def quarantined(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file beside those that were taken in; it is gone at the end, unless it was moved.

    Raises
    ------
    StorageError
    """
    quarantine = make_folder(folder / "quarantine")
    path = quarantine / secrets.token_hex(16)
    try:
        stream = path.open("xb")
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        with stream:
            yield path, stream
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what a service that was killed had begun to receive."""
    with contextlib.suppress(OSError):
        for path in (folder / "quarantine").iterdir():
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                path.unlink(missing_ok=True)


def take_in(
    path: Path, folder: Path, name: str, sha256: str, ingest: Callable[[Found, bool], IngestReport]
) -> IngestReport:
    """Ingest a file that was sent, from where its digest says that it belongs; else nothing is left of it.

    Parameters
    ----------
    ingest
        takes the file, and whether it is only to be looked at

    Raises
    ------
    UnreadableFrame
        Ingest rejects it.
    """

    def ingested(file: Path, only_look: bool) -> IngestReport:
        report = ingest(Found(str(file), True), only_look)
        if report.rejected:
            raise UnreadableFrame(report.rejected[0][1].replace(str(file), name))
        return report

    looked_at = ingested(path, True)
    if not looked_at.accepted + looked_at.known:
        return looked_at
    place = folder / sha256[:2] / f"{sha256}{ending_of(name)}"
    was_there = place.exists()
    try:
        make_folder(place.parent)
        os.replace(path, place)
        return ingested(place, False)
    except BaseException:
        if not was_there:
            with contextlib.suppress(OSError):
                place.unlink()
        raise
