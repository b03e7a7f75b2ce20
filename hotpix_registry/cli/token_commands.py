"""Commands about tokens: who may write over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from hotpix_registry.cli.opening import open_registry
from hotpix_registry.cli.options import Database, Format, OutputFormat, Reason
from hotpix_registry.cli.output import out, print_json, print_rows, say
from hotpix_registry.domain import Scope

token_app = typer.Typer(
    help="Tokens: who may write over HTTP, and read where that needs one.",
    epilog="Example: hotpix-registry token create anna --scope certify",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    app.add_typer(token_app, name="token")


@token_app.command(
    "create",
    epilog="Example: hotpix-registry token create dome --scope ingest --scope build --expires 2027-12-31",
)
def create(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Who holds it; what is done with it is logged under this name."),
    ],
    scopes: Annotated[
        list[Scope], typer.Option("--scope", help="What it allows; may be repeated; admin is everything.")
    ],
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires",
            metavar="DATE",
            help="When it ends: an instant, or a date, at whose end (UTC).",
            show_default=False,
        ),
    ] = None,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Make a token and print it, this once: only its digest is kept."""
    with open_registry(database) as registry:
        made = registry.create_token(name, scopes, expires=expires)
    if fmt is not Format.TABLE:
        print_json(made.token.as_dict() | {"token": made.secret})
        return
    out(made.secret)
    until = f", until {made.token.expires}" if made.token.expires else ""
    say(f"Token {name} may {', '.join(made.token.scopes)}{until}; it is not shown again.")


@token_app.command("list", epilog="Example: hotpix-registry token list --format json")
def list_tokens(fmt: OutputFormat = Format.TABLE, database: Database = None) -> None:
    """List tokens, also those that are expired or revoked; never their secrets."""
    with open_registry(database) as registry:
        rows = [token.as_dict() for token in registry.tokens()]
    if fmt is Format.TABLE:
        for row in rows:
            row["scopes"] = ", ".join(row["scopes"])
    columns = {
        "token_id": "id",
        "name": "name",
        "scopes": "scopes",
        "status": "status",
        "expires": "expires",
        "created": "created",
        "created_by": "by",
        "reason": "revoked because",
    }
    print_rows(rows, fmt, columns=columns, nothing="There is no token yet.")


@token_app.command("revoke", epilog="Example: hotpix-registry token revoke anna --reason 'she left'")
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME|ID", help="A token, as `token list` shows it.")],
    reason: Reason,
    database: Database = None,
) -> None:
    """Refuse a token from now on; its name becomes free."""
    with open_registry(database) as registry:
        token = registry.revoke_token(name, reason=reason)
    out(f"Token {token.name} is revoked.")
