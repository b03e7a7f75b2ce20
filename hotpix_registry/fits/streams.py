"""Bytes of plain, gzip and bzip2 files and objects at any place, with bounded memory.

Whatever goes wrong is an `UnreadableFrame` whose sentence begins with "The file"; `naming` puts its name
there, where callers do not name it themselves.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import os
import stat
import threading
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self, cast

from hotpix_registry.errors import UnreadableFrame
from hotpix_registry.places import Marks, is_url, resolved

if TYPE_CHECKING:
    from hotpix_registry.places.reading import ObjectFile

COPY_AGAIN = "Copy it again from the camera or the archive, or leave it out."

MOST_UNPACKED = 4 << 30
"""bytes that a compressed file may unpack to; a bomb is given up there"""

_CHUNK = 1 << 20
_HEAD = 8 * 2880
"""what is read when a file is opened: the header of nearly every frame"""
_GZIP, _BZIP2 = b"\x1f\x8b", b"BZh"

_Opener = Callable[[RawIOBase], IO[bytes]]


class Bytes(ABC):
    """The decompressed bytes of a file; close it, or use it in a `with`."""

    compression: str = ""
    """'', gz or bz2"""
    at_hand: bool = True
    """False: reading waits for a network"""

    @abstractmethod
    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill the view with the bytes from `offset` on; the count is short only at the end of the file.

        Raises
        ------
        UnreadableFrame
            When the disk fails, or the compressed data are damaged or end too early.
        """

    @abstractmethod
    def sha256(self) -> str:
        """Digest of the file as it is stored, read to its end.

        Raises
        ------
        UnreadableFrame
            When the disk fails.
        """

    @abstractmethod
    def close(self) -> None: ...

    def read_at(self, offset: int, size: int) -> bytes:
        """Bytes from `offset` on; fewer than `size` only at the end of the file."""
        buffer = bytearray(size)
        count = self.read_into(memoryview(buffer), offset)
        return bytes(buffer) if count == size else bytes(buffer[:count])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_bytes(path: Path | str, marks: Marks | None = None) -> PlainBytes | StreamBytes:
    """Open a file, or an object at a URL, for reading at any place; gzip and bzip2 are known by their first
    bytes.

    Parameters
    ----------
    marks
        those of an object, where they are known: its store is not asked again

    Raises
    ------
    UnreadableFrame
        When it cannot be opened.
    ObjectsUnavailable, UsageError
        The store of an object does not answer, or a library for it is missing.
    """
    if isinstance(path, str) and is_url(url := path):
        path = resolved(url)
        if is_url(path):
            return _open_object(path, marks)
    try:
        about = os.stat(path)
        if stat.S_ISDIR(about.st_mode):
            raise IsADirectoryError
        if not stat.S_ISREG(about.st_mode):
            # Opening a pipe would wait for somebody to write into it.
            raise UnreadableFrame(
                "This is a device or a pipe, not a file.", next_step="Give files and folders."
            )
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - it is closed with the Bytes
        try:
            head = file.read(_HEAD)
        except OSError:
            file.close()
            raise
    except OSError as error:
        raise _unreadable(error) from None
    if not head.startswith((_GZIP, _BZIP2)):
        return PlainBytes(file, about.st_size, head)
    return StreamBytes(file, "gz" if head.startswith(_GZIP) else "bz2")


def _open_object(url: str, marks: Marks | None) -> PlainBytes | StreamBytes:
    from hotpix_registry.places.reading import ObjectFile

    file = ObjectFile(url, marks)
    if not file.head.startswith((_GZIP, _BZIP2)):
        return ObjectBytes(file, file.size, file.head)
    source = StreamBytes(file, "gz" if file.head.startswith(_GZIP) else "bz2")
    source.at_hand = False
    return source


class PlainBytes(Bytes):
    """Bytes of a file as they are; several threads may read at once."""

    def __init__(self, file: RawIOBase, size: int, head: bytes) -> None:
        self.file = file
        self._head = head
        self._lock = threading.Lock()
        self.size = size

    def read_into(self, view: memoryview, offset: int) -> int:
        end = offset + len(view)
        if end <= len(self._head):
            view[:] = self._head[offset:end]
            return len(view)
        if offset >= self.size:  # a damaged header may ask for more than the system can count
            return 0
        done = 0
        try:
            while done < len(view) and (count := self._read_some(view[done:], offset + done)):
                done += count
        except OSError as error:
            raise _unreadable(error) from None
        return done

    def sha256(self) -> str:
        digest = hashlib.sha256(self._head)
        offset, view = len(self._head), memoryview(bytearray(min(_CHUNK, max(1, self.size))))
        try:
            while count := self._read_some(view, offset):
                digest.update(view[:count])
                offset += count
        except OSError as error:
            raise _unreadable(error) from None
        return digest.hexdigest()

    def _read_some(self, view: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self.file.fileno(), [view], offset)
        with self._lock:  # Windows has one position per open file
            self.file.seek(offset)
            return self.file.readinto(view) or 0

    def close(self) -> None:
        self.file.close()


class ObjectBytes(PlainBytes):
    """Bytes of an object as they are; several threads may read, one after the other."""

    at_hand = False

    def __init__(self, file: ObjectFile, size: int, head: bytes) -> None:
        super().__init__(file, size, head)
        self._object = file

    def _read_some(self, view: memoryview, offset: int) -> int:
        return self._object.read_into(view, offset)


class StreamBytes(Bytes):
    """Decompressed bytes of a stream that only runs forward; going back opens it again."""

    def __init__(self, file: RawIOBase, compression: str) -> None:
        self.compression = compression
        self._file = file
        self._opener = _gzip_opener() if compression == "gz" else cast(_Opener, bz2.open)
        self._open()

    def _open(self) -> None:
        try:
            self._file.seek(0)
            self._stream = self._opener(self._file)
        except OSError as error:
            raise _unreadable(error) from None
        self._position = 0

    @property
    def stated_size(self) -> int | None:
        """Size modulo 2**32 that the last member of a gzip file says it unpacks to; bzip2 says nothing."""
        if self.compression != "gz":
            return None
        place = self._file.tell()
        try:
            self._file.seek(-4, os.SEEK_END)
            return int.from_bytes(self._file.read(4) or b"", "little")
        except OSError as error:
            raise _unreadable(error) from None
        finally:
            self._file.seek(place)

    def sha256(self) -> str:
        try:
            self._file.seek(0)
            digest = hashlib.file_digest(self._file, "sha256").hexdigest()
        except OSError as error:
            raise _unreadable(error) from None
        self._open()
        return digest

    def read_into(self, view: memoryview, offset: int) -> int:
        if offset < self._position:
            self._open()
        while self._position < offset:
            step = min(_CHUNK, offset - self._position)
            if not self._take(memoryview(bytearray(step))):
                return 0
        return self._take(view)

    def drain(self) -> int:
        """Read to the end, where the checksum of the stream is checked; returns the size of it all."""
        view = memoryview(bytearray(_CHUNK))
        while self._take(view):
            pass
        return self._position

    def _take(self, view: memoryview) -> int:
        done = 0
        try:
            while done < len(view) and (count := self._stream.readinto(view[done:])):  # type: ignore[attr-defined]
                done += count
        except _corruptions() as error:
            raise _unreadable(error) from None
        self._position += done
        if self._position > MOST_UNPACKED:
            raise UnreadableFrame(
                f"The file unpacks to more than {MOST_UNPACKED >> 30} GiB, which no camera's frame has.",
                next_step="Leave it out, or unpack it yourself if you trust it.",
            )
        return done

    def close(self) -> None:
        self._stream.close()
        self._file.close()


def _gzip_opener() -> _Opener:
    with suppress(ImportError):
        from isal import igzip  # type: ignore[import-not-found, import-untyped, unused-ignore]

        return cast(_Opener, igzip.open)
    return cast(_Opener, gzip.open)


def _corruptions() -> tuple[type[Exception], ...]:
    """What the decompressors raise over bytes that are damaged or missing."""
    with suppress(ImportError):
        from isal import isal_zlib  # type: ignore[import-not-found, import-untyped, unused-ignore]

        return (OSError, EOFError, zlib.error, cast(type[Exception], isal_zlib.error))
    return (OSError, EOFError, zlib.error)


# --- sentences --------------------------------------------------------------


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Let sentences about an unreadable file say which one."""
    try:
        yield
    except UnreadableFrame as error:
        begin, rest = error.message[:8], error.message[8:]
        message = f"{path}{rest}" if begin == "The file" else f"{path}: {error.message}"
        raise type(error)(message, next_step=error.next_step) from error.__cause__


def truncated(how: str) -> UnreadableFrame:
    """The error of a file that ends too early."""
    return UnreadableFrame(f"The file is truncated: {how}.", next_step=COPY_AGAIN)


def _unreadable(error: Exception) -> UnreadableFrame:
    if isinstance(error, FileNotFoundError):
        return UnreadableFrame("There is no such file.", next_step="Check the path.")
    if isinstance(error, IsADirectoryError):
        return UnreadableFrame("This is a folder, not a file.", next_step="Give -r to read a folder.")
    if isinstance(error, PermissionError):
        return UnreadableFrame(
            "The file may not be read by this user.", next_step="Change its permissions or run as its owner."
        )
    if isinstance(error, OSError) and error.errno is not None:
        return UnreadableFrame(
            f"The file cannot be read: {error.strerror}.", next_step="Check the disk it is on."
        )
    return UnreadableFrame("The file is truncated or damaged: it cannot be unpacked.", next_step=COPY_AGAIN)
