"""Bytes of plain and compressed files at any place, with bounded memory."""

from __future__ import annotations

import bz2
import gzip
import os
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.errors import UnreadableFrame

COPY_AGAIN = "Copy the file again from where it was taken, or leave it out."

_CHUNK = 1 << 20
_GZIP, _BZIP2 = b"\x1f\x8b", b"BZh"


_Opener = Callable[[Path], IO[bytes]]


class Bytes(Protocol):
    def read_at(self, offset: int, size: int) -> NDArray[np.uint8]:
        """A new writable array; shorter than `size` only at the end of the file."""
        ...

    def close(self) -> None: ...


def open_bytes(path: Path) -> PlainBytes | StreamBytes:
    """Open a file for reading at any place; gzip and bzip2 are known by their first bytes.

    Raises
    ------
    UnreadableFrame
        When it cannot be opened or is empty.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if not magic:
            raise UnreadableFrame(f"{path} is empty.", next_step=COPY_AGAIN)
        if magic.startswith(_GZIP):
            return StreamBytes(path, _gzip_opener())
        if magic.startswith(_BZIP2):
            return StreamBytes(path, cast(_Opener, bz2.open))
        return PlainBytes(path)
    except OSError as error:
        raise UnreadableFrame(f"{path} cannot be opened: {error.strerror}.") from error


class PlainBytes:
    """Bytes of a file as they are; several threads may read at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        self.size = os.fstat(self._file.fileno()).st_size

    def read_at(self, offset: int, size: int) -> NDArray[np.uint8]:
        buffer = np.empty(size, np.uint8)
        view = buffer.data
        done = 0
        while done < size:
            count = self._read_into(view[done:], offset + done)
            if not count:
                return buffer[:done]
            done += count
        return buffer

    def _read_into(self, view: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [view], offset)
        with self._lock:  # Windows has one position per open file
            self._file.seek(offset)
            return self._file.readinto(view)

    def close(self) -> None:
        self._file.close()


class StreamBytes:
    """Decompressed bytes of a stream that only runs forward; going back opens it again."""

    def __init__(self, path: Path, opener: _Opener) -> None:
        self._path = path
        self._opener = opener
        self._stream = opener(path)
        self._position = 0

    def read_at(self, offset: int, size: int) -> NDArray[np.uint8]:
        if offset < self._position:
            self._stream.close()
            self._stream = self._opener(self._path)
            self._position = 0
        while self._position < offset:
            if not self._take(min(_CHUNK, offset - self._position)).size:
                return np.empty(0, np.uint8)
        return self._take(size)

    def drain(self) -> None:
        """Read to the end, where the checksum of the compressed stream is checked."""
        while self._take(_CHUNK).size:
            pass

    def _take(self, size: int) -> NDArray[np.uint8]:
        buffer = np.empty(size, np.uint8)
        view = buffer.data
        done = 0
        try:
            while done < size and (count := self._stream.readinto(view[done:])):  # type: ignore[attr-defined]
                done += count
        except _corruptions() as error:
            raise UnreadableFrame(
                f"{self._path} is truncated or corrupt: its compressed data cannot be read ({error}).",
                next_step=COPY_AGAIN,
            ) from error
        self._position += done
        return buffer[:done]

    def close(self) -> None:
        self._stream.close()


def _gzip_opener() -> _Opener:
    with suppress(ImportError):
        from isal import igzip  # type: ignore[import-not-found, import-untyped, unused-ignore]

        return cast(_Opener, igzip.open)
    return cast(_Opener, gzip.open)


def _corruptions() -> tuple[type[Exception], ...]:
    """What the decompressors raise over bytes that are damaged or missing."""
    with suppress(ImportError):
        from isal import isal_zlib  # type: ignore[import-not-found, import-untyped, unused-ignore]

        return (OSError, EOFError, zlib.error, isal_zlib.error)
    return (OSError, EOFError, zlib.error)
