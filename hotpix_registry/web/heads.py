"""How requests are read off a connection: as uvicorn does with httptools, but no head without an end."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 << 10


class BoundedHeads(HttpToolsProtocol):
    """Refuses a request whose line and headers go on and on; httptools would keep them all."""

    _taken = 0
    """bytes of an unfinished head"""
    _in_head = True

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._taken += len(data)
        if self._taken > MOST_HEAD_BYTES:
            self.send_400_response(f"The head of the request has more than {MOST_HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        self._in_head, self._taken = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()
