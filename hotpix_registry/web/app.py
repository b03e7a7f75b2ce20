"""The application: routes, errors, protection, one open registry for each process."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.types import Lifespan

from hotpix_registry import __version__
from hotpix_registry.errors import CannotListen, UsageError
from hotpix_registry.web import (
    access,
    answers,
    cameras,
    changes,
    frames,
    health,
    history,
    jobs,
    masks,
    pages,
    problems,
    reading,
    runner,
    writes,
)
from hotpix_registry.web.protection import Counts, HeadAsGet, Protection
from hotpix_registry.web.routes import Shortcut
from hotpix_registry.web.schemas import PROBLEMS, Problem
from hotpix_registry.web.state import CopyOf, HeardOf, ServerSettings, Service

ENVIRONMENT = "HOTPIX_SERVER_SETTINGS"
"""how a parent process hands its settings to those that serve"""
LISTENING: dict[str, Any] = {
    "loop": "asyncio",  # uvloop saves 5 %, and lets one new connection in between two rounds of all others
    "http": "hotpix_registry.web.patience:PatientProtocol",
    "ws": "none",
    "log_level": "warning",
    "access_log": False,
    "server_header": False,
    "timeout_keep_alive": 15,
}
"""how uvicorn listens"""
_GARBAGE = 2000
"""objects after which cycles of them are looked for: thousands of requests would leave megabytes"""
_FIRST_INHERITED = 3
"""the file descriptor; see sd_listen_fds(3)"""


def create_app(settings: ServerSettings | None = None) -> FastAPI:
    """The service on a registry, which is opened when the application starts.

    Raises
    ------
    SchemaError, DatabaseUnavailable
        At the start: the registry is not there, of an older schema, or cannot be reached.
    """
    settings = settings or ServerSettings()
    counts = Counts()
    app = FastAPI(
        title="hotpix-registry",
        version=__version__,
        summary="A registry of hot-pixel masks: the right mask for any observing date.",
        lifespan=_lifespan(settings, counts),
        docs_url=None,  # its page would come from a CDN
        redoc_url=None,
        redirect_slashes=False,
        responses=PROBLEMS,
        generate_unique_id_function=lambda route: route.name,
    )
    problems.add_handlers(app)
    app.openapi = partial(_described, app)  # type: ignore[method-assign]
    app.include_router(health.router)
    for part in (answers, cameras, masks, frames, history, changes, jobs, reading, pages):
        app.include_router(part.router, dependencies=access.reading if settings.read_needs_token else [])
    app.include_router(writes.router)
    app.mount("/static", pages.static_files, name="static")
    app.add_middleware(HeadAsGet)
    app.add_middleware(Shortcut, routes=answers.often)
    app.add_middleware(CopyOf)
    if settings.read_database is not None:
        app.add_middleware(HeardOf)
    app.add_middleware(
        Protection,
        counts=counts,
        most_in_work=settings.most_in_work,
        most_body_bytes=settings.most_body_bytes,
        most_at={"/v1/frames/upload": settings.most_upload_bytes},
        patience_s=settings.patience_s,
    )
    return app


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the schema of problems, which no route gives as its own answer."""
    if app.openapi_schema is None:
        described = FastAPI.openapi(app)
        schemas = described["components"]["schemas"]
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= {name: schema for name, schema in problem.pop("$defs").items() if name not in schemas}
        schemas["Problem"] = problem
        app.openapi_schema = described
    return app.openapi_schema


def _lifespan(settings: ServerSettings, counts: Counts) -> Lifespan[FastAPI]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        from hotpix_registry.registry import Registry, arrivals

        with Registry(
            settings.database,
            create=False,
            read_database=settings.read_database,
            statement_s=settings.statement_timeout_s,
        ) as registry:
            app.state.service = Service(settings=settings, registry=registry, counts=counts)
            registry.lag()  # whether it is a mirror is looked up here, once
            arrivals.sweep(app.state.service.uploads)
            ending = asyncio.Event()
            supervision = asyncio.create_task(runner.supervise(app.state.service, ending))
            yield
            ending.set()
            await supervision

    return lifespan


def serve(
    settings: ServerSettings,
    *,
    host: str = "127.0.0.1",
    port: int = 8471,
    workers: int = 1,
    started: Callable[[str], None] | None = None,
) -> None:
    """Serve until interrupted; several workers are processes of their own that share the port.

    Parameters
    ----------
    port
        0 takes any that is free
    started
        takes the address, before the first request is answered

    Raises
    ------
    CannotListen
        The address is taken, forbidden, or none of this machine.
    """
    import uvicorn

    os.environ[ENVIRONMENT] = json.dumps(asdict(settings))
    listener, address = _inherited(), "the socket that systemd opened"
    if listener is None:
        listener = _bound(host, port)
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    if started is not None:
        started(address)
    config = uvicorn.Config(
        "hotpix_registry.web.app:from_environment",
        workers=workers,
        factory=True,
        timeout_graceful_shutdown=10,
        **LISTENING,
    )
    if workers > 1:
        from uvicorn.supervisors import Multiprocess

        Multiprocess(config, sockets=[listener]).run()
    else:
        uvicorn.Server(config).run([listener])


def _bound(host: str, port: int) -> socket.socket:
    """A socket at an address; until the service listens there, whoever connects is refused."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if os.name == "posix":  # elsewhere it would share the port with who listens there
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        reason = (error.strerror or str(error)).lower()
        raise CannotListen(
            f"The service cannot listen at {host}, port {port}: {reason}.",
            next_step="Name another with --host and --port, or end what listens there.",
        ) from error
    return bound


def _inherited() -> socket.socket | None:
    """The socket that systemd has opened for this process: while it restarts, requests wait there."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    if os.environ.get("LISTEN_FDS") != "1":
        raise UsageError(
            "systemd hands over more than one socket.", next_step="Let the unit listen at one address."
        )
    return socket.socket(fileno=_FIRST_INHERITED)


def from_environment() -> FastAPI:
    """The application as `serve` describes it to its workers."""
    application = create_app(ServerSettings(**json.loads(os.environ[ENVIRONMENT])))
    gc.freeze()  # what lives as long as the process need not be looked through again and again
    gc.set_threshold(_GARBAGE)
    return application
