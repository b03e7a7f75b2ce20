"""Commands about the database itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from hotpix_registry import settings
from hotpix_registry.cli.options import Database
from hotpix_registry.cli.output import out, say
from hotpix_registry.errors import SchemaError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

db_app = typer.Typer(
    help="Look after the database.", epilog="Example: hotpix-registry db check", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    app.add_typer(db_app, name="db")


@db_app.command(epilog="Example: hotpix-registry db upgrade --database postgresql://me@localhost/hotpix")
def upgrade(database: Database = None) -> None:
    """Bring the registry to this version's schema, or make one where nothing is.

    An SQLite file is copied first, as FILE.bak-REVISION beside it.
    """
    from hotpix_registry.catalogue import engine as databases
    from hotpix_registry.catalogue import failures, schema
    from hotpix_registry.registry import portability

    engine = databases.connect(_url(database))
    try:
        portability.upgrade(engine, say)
    finally:
        engine.dispose()
    say(f"{failures.describe(engine)} has schema {schema.REVISION}.")


@db_app.command(epilog="Example: hotpix-registry db current")
def current(database: Database = None) -> None:
    """Print the registry's schema revision."""
    from hotpix_registry.catalogue import engine as databases
    from hotpix_registry.catalogue import opening

    engine = databases.connect(_url(database))
    out(opening.current_revision(engine) or "none")


@db_app.command(epilog="Example: hotpix-registry db check")
def check(database: Database = None) -> None:
    """Compare the registry's tables and guards with what this version needs."""
    from hotpix_registry.catalogue import failures, opening, schema

    engine = opening.open_database(_url(database), create=False)
    if amiss := opening.check(engine):
        raise SchemaError(f"{failures.describe(engine)}: {'; '.join(amiss)}.", next_step="Restore a backup.")
    say(f"{failures.describe(engine)} is as it should be (schema {schema.REVISION}).")


def _url(database: str | None) -> URL:
    from hotpix_registry.catalogue.engine import parse_url

    return parse_url(settings.database_url(database))
