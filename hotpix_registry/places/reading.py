"""The bytes of an object as those of a file, read by ranges; what is read in order is fetched ahead."""

from __future__ import annotations

import functools
import io
import os
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from hotpix_registry.places import Marks, objects

_HEAD = 8 * 2880
"""what is read when an object is opened: the header of nearly every frame"""
_FIRST_BLOCK = 64 << 10
_MOST_BLOCK = 4 << 20
_MOST_BYTES = 64 << 20
"""of the blocks of all open objects, as long as these are not smaller than the first ones"""
_FETCHERS = 32

_open: weakref.WeakSet[ObjectFile] = weakref.WeakSet()


class _Block(NamedTuple):
    start: int
    data: bytes

    def at(self, place: int, size: int) -> bytes:
        """Bytes from a place on, up to so many; none where the block does not hold it."""
        if not self.start <= place < self.start + len(self.data):
            return b""
        return self.data[place - self.start : place - self.start + size]


class ObjectFile(io.RawIOBase):
    """An object, open for reading at any place.

    A read costs one request for just its bytes. Reads that go on where the last one ended find blocks that
    grow, each fetched while the one before is used; reads at equal steps find the next one begun. Several
    threads may read. After a fork it goes on with a connection of its own.
    """

    def __init__(self, url: str, marks: Marks | None = None) -> None:
        super().__init__()
        self.url = url
        self.marks = objects.marks(url) if marks is None else marks
        self.size = self.marks.size_bytes
        self._position = 0
        self._head = _Block(0, objects.read(url, 0, min(_HEAD, self.size)))
        self._begin()
        _open.add(self)

    @property
    def head(self) -> bytes:
        return self._head.data

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._held = _Block(0, b"")
        self._coming: tuple[int, int, Future[bytes]] | None = None
        self._last = (0, 0)
        self._step = 0
        self._growing = _FIRST_BLOCK

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill the view with the bytes from `offset` on; the count is short only at the object's end.

        Raises
        ------
        UnreadableFrame, ObjectsUnavailable, UsageError
            As `objects.read` does.
        """
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            wanted = max(0, min(len(view), self.size - offset))
            in_order = offset == self._last[1]
            if not in_order:
                self._growing = _FIRST_BLOCK
            done = 0
            while done < wanted:
                piece = self._at(offset + done, wanted - done, in_order)
                view[done : done + len(piece)] = piece
                done += len(piece)
            if offset + wanted > len(self.head):
                self._look_ahead(offset, wanted, in_order)
            self._last = (offset, offset + wanted)
            return wanted

    def _at(self, place: int, size: int, in_order: bool) -> bytes:
        if piece := self._head.at(place, size) or self._held.at(place, size):
            return piece
        if self._coming is not None and self._coming[0] <= place < self._coming[1]:
            start, _, future = self._coming
            self._coming = None
            self._held = _Block(start, future.result())
        else:
            self._forget()
            stop = min(self.size, place + (max(size, self._block()) if in_order else size))
            self._held = _Block(place, objects.read(self.url, place, stop))
        return self._held.at(place, size)

    def _look_ahead(self, offset: int, size: int, in_order: bool) -> None:
        step, self._step = self._step, offset - self._last[0]
        if self._coming is not None:
            return
        start = stop = 0
        if in_order:
            start = max(self._held.start + len(self._held.data), offset + size)
            stop = start + self._block()
        elif step == self._step > size:
            start = offset + step
            stop = start + size
        if start < (stop := min(stop, self.size)):
            future = _fetchers(os.getpid()).submit(objects.read, self.url, start, stop)
            self._coming = (start, stop, future)

    def _block(self) -> int:
        """How much to fetch at once, the more the longer reads go on in order."""
        size = min(self._growing, max(_FIRST_BLOCK, _MOST_BYTES // (2 * max(1, len(_open)))))
        self._growing = min(2 * self._growing, _MOST_BLOCK)
        return size

    # --- what is asked of a file ----------------------------------------------------------

    def readinto(self, buffer: Any) -> int:
        """Some bytes at least: whoever unpacks the beginning of a stream needs no more of it."""
        most = len(self.head) - self._position
        view = memoryview(buffer).cast("B")[: most if most > 0 else self._growing]
        count = self.read_into(view, self._position)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = (
            offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        )
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        _open.discard(self)
        self._held = _Block(0, b"")
        self._forget()
        super().close()

    def _forget(self) -> None:
        """Give up what was begun ahead, and was not wanted."""
        if self._coming is not None:
            self._coming[2].cancel()
            self._coming = None


@functools.cache
def _fetchers(_: int) -> ThreadPoolExecutor:
    """The threads of a process that fetch ahead: those of another do not survive a fork."""
    return ThreadPoolExecutor(_FETCHERS, thread_name_prefix="objects")
