"""The service on loopback, for tests that ask it over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from hotpix_registry.web.app import LISTENING, create_app
from hotpix_registry.web.state import ServerSettings


@contextmanager
def serving(database: str, **settings: Any) -> Iterator[str]:
    """The service on a database, on a free port; gives its URL."""
    app = create_app(ServerSettings(database=database, **settings))
    config = uvicorn.Config(app, port=0, **LISTENING)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        for _ in range(3000):
            if server.started or not thread.is_alive():
                break
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
