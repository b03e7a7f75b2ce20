"""The process that does jobs, and the task of the service that starts it when one waits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

from hotpix_registry.errors import HotpixError

if TYPE_CHECKING:
    from hotpix_registry.web.state import Service

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_TO_END_S = 10.0


async def supervise(service: Service, ending: asyncio.Event) -> None:
    """Start a process whenever a job waits and fewer run than may; end them when the service ends.

    It is told to end rather than cancelled: a look at the registry, or a start, that has begun is awaited.
    """
    settings, children = service.settings, list[subprocess.Popen[bytes]]()
    amiss = ""
    try:
        while not ending.is_set():
            children = [child for child in children if not _has_ended(child)]
            try:
                # asked also while none can be begun: a replica that knows less is then not read from
                a_job_waits = await asyncio.to_thread(
                    service.registry.a_job_waits,
                    at_once=settings.jobs_at_once,
                    heartbeat_s=settings.heartbeat_s,
                )
                if a_job_waits and len(children) < settings.jobs_at_once:
                    children.append(await asyncio.to_thread(_start, service))
                amiss = ""
            except HotpixError as error:  # jobs wait until it is over; the service goes on answering
                if amiss != str(error):
                    amiss = str(error)
                    log.warning("No job can be begun: %s", amiss)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), _LOOK_EVERY_S)
    finally:
        for child in children:
            child.terminate()
        for child in children:
            try:
                child.wait(_TO_END_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            _has_ended(child)


def _has_ended(child: subprocess.Popen[bytes]) -> bool:
    if child.poll() is None:
        return False
    if child.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
    return True


def _start(service: Service) -> subprocess.Popen[bytes]:
    settings = service.settings
    told = {
        "database": settings.database,
        "roots": settings.frames_roots,
        "at_once": settings.jobs_at_once,
        "heartbeat_s": settings.heartbeat_s,
    }
    # on standard input, which also tells the child by its end that its parent is gone
    child = subprocess.Popen(
        [sys.executable, "-m", "hotpix_registry.web.runner"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(json.dumps(told).encode() + b"\n")
        child.stdin.flush()
    return child


def main() -> None:
    """Do jobs until none waits, or until whoever started this is gone."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    if hasattr(os, "nice"):
        os.nice(5)  # whoever asks for a mask goes first
    told: dict[str, Any] = json.loads(sys.stdin.buffer.readline() or b"null") or sys.exit(0)
    alone = threading.Event()
    threading.Thread(target=_wait_for_end, args=(alone,), daemon=True).start()
    from hotpix_registry.registry import Registry

    with Registry(told.pop("database"), create=False) as registry:
        while registry.run_next_job(**told) and not alone.is_set():
            pass


def _end(*_: object) -> NoReturn:
    raise SystemExit(0)


def _wait_for_end(alone: threading.Event) -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing more is ever written
    alone.set()


if __name__ == "__main__":
    main()
