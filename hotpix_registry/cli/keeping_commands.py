"""Commands about the registry as a thing to keep: export, backup, verify, relocate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hotpix_registry.cli.options import AnyCamera, Database, Format, OutputFormat
from hotpix_registry.cli.output import count, labelled_progress_bar, out, print_json, say
from hotpix_registry.registry import Registry

if TYPE_CHECKING:
    from hotpix_registry.registry.portability import Copied


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hotpix-registry export aspen.sqlite --camera aspen")(export)
    app.command(epilog="Example: hotpix-registry backup /backups/registry.sqlite --replace")(backup)


Replace = Annotated[bool, typer.Option("--replace", help="Write over a file that is there.")]


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The SQLite file to be written.")],
    camera: AnyCamera = None,
    release: Annotated[
        str | None,
        typer.Option("--release", metavar="NAME", help="Only what this release answers with."),
    ] = None,
    replace: Replace = False,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Write the registry, or a part of it, as one file that answers at once, without a network."""
    with (
        Registry(database, create=False) as registry,
        labelled_progress_bar("Copying", unit="rows") as update,
    ):
        copied = registry.export(file, camera=camera, release=release, replace=replace, progress=update)
    _tell(copied, fmt, "exported")


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The SQLite file to be written.")],
    replace: Replace = False,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Write a verified copy of the whole registry, while others use it.

    Restored, the file goes on as the same registry: use it with --database, or `import` it elsewhere.
    """
    with (
        Registry(database, create=False) as registry,
        labelled_progress_bar("Copying", unit="rows") as update,
    ):
        copied = registry.backup(file, replace=replace, progress=update)
    _tell(copied, fmt, "saved")


def _tell(copied: Copied, fmt: Format, done: str) -> None:
    if fmt is not Format.TABLE:
        print_json(copied.as_dict())
        return
    out(copied.path)
    held = f"{count(copied.rows['masks'], 'mask')}, {count(copied.rows['frames'], 'frame')}"
    say(f"{held} of registry {copied.registry_id} {done} and verified, up to transaction {copied.tx}.")
