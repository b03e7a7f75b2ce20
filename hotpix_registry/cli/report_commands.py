"""The command report: whether to trust a mask, as text, JSON or one HTML page."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hotpix_registry.cli.opening import open_registry
from hotpix_registry.cli.options import Database
from hotpix_registry.cli.output import out


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hotpix-registry report 3 --format html -o report.html")(report)


class ReportFormat(StrEnum):
    TEXT = "text"
    JSON = "json"
    HTML = "html"


def report(
    mask_id: Annotated[
        int, typer.Argument(metavar="ID", help="A mask, as `hotpix-registry masks` lists it.")
    ],
    fmt: Annotated[
        ReportFormat, typer.Option("--format", help="HTML is one file with its pictures inside.")
    ] = ReportFormat.TEXT,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the report here.")
    ] = None,
    against: Annotated[
        int | None,
        typer.Option(
            "--against", metavar="ID", help="Compare with this mask, not with the version before it."
        ),
    ] = None,
    database: Database = None,
) -> None:
    """Say whether to trust a mask, and why: what was found, how sure it is, and what changed."""
    with open_registry(database) as registry:
        told = registry.report(mask_id, against=against)
    match fmt:
        case ReportFormat.TEXT:
            content = told.text()
        case ReportFormat.JSON:
            content = told.json()
        case ReportFormat.HTML:
            content = told.html()
    if output is None:
        out(content.rstrip("\n"))
        return
    from hotpix_registry.files import write_atomic

    out(str(write_atomic(output, content.encode())))
