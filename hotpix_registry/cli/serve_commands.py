"""The command serve: the registry over HTTP."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated

import typer

from hotpix_registry import settings
from hotpix_registry.cli.opening import open_registry
from hotpix_registry.cli.options import Database
from hotpix_registry.cli.output import say
from hotpix_registry.errors import UsageError
from hotpix_registry.places import is_url, resolved


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hotpix-registry serve --port 8471")(serve)


def serve(
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port; 0: any that is free.")
    ] = 8471,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=1, max=64, help="Processes that answer.")
    ] = 1,
    read_needs_token: Annotated[
        bool, typer.Option("--read-needs-token", help="Answer only whoever has a token, also for reading.")
    ] = False,
    allow_public: Annotated[
        bool, typer.Option("--allow-public", help="Let everyone who reaches the address read.")
    ] = False,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            metavar="N",
            min=0,
            max=64,
            help="Builds that may run at once on this registry; 0: another host does them.",
        ),
    ] = 1,
    frames_root: Annotated[
        list[str] | None,
        typer.Option(
            "--frames-root",
            metavar="DIR",
            help="Take frames by path from this folder, or URL such as s3://bucket/darks; may be repeated.",
        ),
    ] = None,
    uploads: Annotated[
        Path | None,
        typer.Option(
            "--uploads",
            metavar="DIR",
            help="Keep frames that are sent here; default beside the registry.",
            show_default=False,
        ),
    ] = None,
    read_database: Annotated[
        str | None,
        typer.Option(
            "--read-database",
            metavar="URL",
            help="Replica of the database that look-ups read. [env: HOTPIX_DATABASE_READ_URL]",
            show_default=False,
        ),
    ] = None,
    database: Database = None,
) -> None:
    """Serve masks to pipelines and pages to people, over HTTP.

    Writing needs a token (`hotpix-registry token create`), reading one only where you say so.
    """
    # what is amiss is said here, in one sentence
    with open_registry(database, itself=True, read_database=read_database) as registry:
        has_tokens = any(token.status == "valid" for token in registry.tokens())
    if not (_is_loopback(host) or allow_public or (read_needs_token and has_tokens)):
        raise UsageError(
            f"{host} is an address that others reach, "
            + ("and there is no token to ask them for." if read_needs_token else "and anyone could read."),
            next_step="Make a token and say --read-needs-token, or say --allow-public if that is meant.",
        )
    roots = [resolved(os.path.expanduser(root)) for root in frames_root or ()]
    if missing := [root for root in roots if not is_url(root) and not os.path.isdir(root)]:
        raise UsageError(f"{missing[0]} is no folder.", next_step="Name one that holds frames.")
    from hotpix_registry.web import app
    from hotpix_registry.web.state import ServerSettings

    app.serve(
        ServerSettings(
            database=database,
            read_database=read_database or (settings.database_read_url() if database is None else None),
            statement_timeout_s=settings.database_statement_timeout_s(),
            read_needs_token=read_needs_token,
            jobs_at_once=jobs,
            frames_roots=tuple(roots),
            uploads=None if uploads is None else str(uploads.expanduser().absolute()),
        ),
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
