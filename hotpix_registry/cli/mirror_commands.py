"""The command that keeps a mirror."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hotpix_registry import settings
from hotpix_registry.cli.options import Database, Format, OutputFormat
from hotpix_registry.cli.output import count, print_json, progress_bar, say
from hotpix_registry.errors import UsageError

if TYPE_CHECKING:
    from hotpix_registry.registry.mirror import Synced


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hotpix-registry sync http://archive:8471 --database dome.sqlite")(sync)


def sync(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="The URL of a server, or another registry's file or URL.",
            show_default=False,
        ),
    ] = None,
    warn_after: Annotated[
        float | None,
        typer.Option(
            "--warn-after",
            metavar="HOURS",
            min=0,
            help="At which age the mirror warns, from now on; 1 at first.",
            show_default=False,
        ),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Make a registry of its own of the mirror, which writes itself.")
    ] = False,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Keep the SQLite file of --database as a mirror of a registry: complete, verified, only what is new.

    A line that breaks leaves it as its source stood at some transaction; run it again to go on.
    """
    from hotpix_registry.catalogue.engine import parse_url
    from hotpix_registry.registry import mirror
    from hotpix_registry.registry.facade.opened import act

    url = parse_url(settings.database_url(database))
    if detach:
        if source is not None or warn_after is not None:
            raise UsageError("--detach goes with --database alone.", next_step="Leave out the rest.")
        new_id = mirror.detach(url, act())
        say(f"{url.database} is a registry of its own from now on, {new_id}.")
        return
    if source is None:
        raise UsageError(
            "What is to be mirrored is not said.", next_step="Name the URL of a server, or a registry's file."
        )
    with progress_bar("Syncing", unit="transactions") as update:
        synced = mirror.sync(source, url, warn_after_h=warn_after, progress=update)
    if fmt is not Format.TABLE:
        print_json(synced.as_dict())
    _tell(synced)


def _tell(synced: Synced) -> None:
    new = [
        count(number, noun)
        for number, noun in (
            (synced.transactions, "transaction"),
            (synced.masks, "mask"),
            (synced.frames, "frame"),
        )
        if number
    ]
    what = f"{', '.join(new)} new, {synced.bytes:,} bytes" if new else "nothing new"
    where = f"{synced.database} has registry {synced.registry_id} up to transaction {synced.tx}"
    say(f"{where}, as {synced.source} does: {what}.")
