"""Connections that are closed when their other end is too slow: uvicorn itself waits for ever for both.

A head that does not end holds a file handle, and an answer that nobody reads a place among those in work.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

from hotpix_registry.web.heads import BoundedHeads
from hotpix_registry.web.protection import SLOWEST_BYTES_PER_S
from hotpix_registry.web.state import ENDING

HEAD_S = 15.0
"""from its first byte, or from the beginning of the connection, until a request's head is complete"""
READER_S = 30.0
"""how often it is looked at whether an answer is read"""


class PatientProtocol(BoundedHeads):
    head_s = HEAD_S
    reader_s = READER_S
    _head: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does this for the sockets that it opened itself, and not where workers share one: without
        # it head and body of an answer lie 40 ms apart
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = self.loop.call_later(self.head_s, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # uvicorn has made a cycle as soon as it knows a request's head
        if self.cycle is not None and not self.cycle.response_complete:
            self._head = _cancel(self._head)
        elif self._head is None:
            self._head = self.loop.call_later(self.head_s, self.transport.abort)

    def shutdown(self) -> None:
        """The service ends; what streams until something happens is told by its request's scope."""
        if self.cycle is not None:
            cast("dict[str, Any]", self.cycle.scope)[ENDING] = True
        super().shutdown()

    def pause_writing(self) -> None:
        """More waits to be sent than the other end takes at once."""
        super().pause_writing()
        self._look_at_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reader = _cancel(self._reader)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head, self._reader = _cancel(self._head), _cancel(self._reader)
        super().connection_lost(exc)

    def _look_at_reader(self, waiting: int) -> None:
        def look() -> None:
            now = self.transport.get_write_buffer_size()
            if waiting - now < SLOWEST_BYTES_PER_S * self.reader_s:
                self.transport.abort()
            else:
                self._look_at_reader(now)

        self._reader = self.loop.call_later(self.reader_s, look)


def _cancel(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """End a timer; what is left of it, which is none."""
    if timer is not None:
        timer.cancel()
    return None
