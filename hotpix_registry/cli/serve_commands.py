"""The command serve: the registry over HTTP."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import typer

from hotpix_registry.cli.opening import open_registry
from hotpix_registry.cli.options import Database
from hotpix_registry.cli.output import say
from hotpix_registry.errors import UsageError


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hotpix-registry serve --port 8471")(serve)


def serve(
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port.")] = 8471,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=1, max=64, help="Processes that answer.")
    ] = 1,
    database: Database = None,
) -> None:
    """Serve masks to pipelines and pages to people, over HTTP."""
    if not _is_loopback(host):
        raise UsageError(
            f"{host} is an address that others reach, and whoever asks would be answered.",
            next_step="Listen on 127.0.0.1 behind a proxy.",
        )
    open_registry(database).close()  # what is amiss is said here, in one sentence
    from hotpix_registry.web import app
    from hotpix_registry.web.state import ServerSettings

    app.serve(
        ServerSettings(database=database),
        host=host,
        port=port,
        workers=workers,
        started=lambda url: say(f"Serving at {url} (Ctrl-C ends it)."),
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
