"""Commands about cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hotpix_registry.cli.opening import open_registry
from hotpix_registry.cli.options import Database, Format, OutputFormat, parse_nights
from hotpix_registry.cli.output import (
    count,
    out,
    print_changes,
    print_json,
    print_rows,
    say,
    say_what_needs_rebuild,
)

cameras_app = typer.Typer(help="List cameras, and say what is known about them.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A camera, by name or alias.")]
NewName = Annotated[str, typer.Argument(metavar="NEW")]


def register(app: typer.Typer) -> None:
    app.add_typer(cameras_app, name="cameras", invoke_without_command=True)


@cameras_app.callback(epilog="Example: hotpix-registry cameras --format json")
def cameras(context: typer.Context, fmt: OutputFormat = Format.TABLE, database: Database = None) -> None:
    """List registered cameras."""
    if context.invoked_subcommand is not None:
        return
    with open_registry(database) as registry:
        rows = registry.list_cameras().items
    columns = {
        "name": "camera",
        "status": "status",
        "frames": "frames",
        "masks": "masks",
        "gain_e_per_adu": "e-/adu",
        "read_noise_e": "noise e-",
    }
    print_rows(
        rows, fmt, columns=columns, nothing="No camera is registered; `hotpix-registry ingest` does it."
    )


@cameras_app.command(epilog="Example: hotpix-registry cameras show aspen --toml > aspen.toml")
def show(
    name: Name,
    toml: Annotated[
        bool, typer.Option("--toml", help="Print the profile as TOML, to edit and apply.")
    ] = False,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Show a camera's profile."""
    from hotpix_registry.cameras import dump_camera_profile

    with open_registry(database) as registry:
        row = registry.camera(name)
    if fmt is Format.JSON:
        print_json({"name": row.name, "aliases": list(row.aliases)} | row.profile.as_dict())
        return
    if not toml:
        status = "provisional, registered from a header" if row.profile.provisional else "confirmed"
        say(f"Camera {row.name} ({status})" + (f", also {', '.join(row.aliases)}" if row.aliases else ""))
        if row.profile.detector.gain_e_per_adu is None:
            say("Its gain is not in the profile; the headers' is used where they give one.")
        if row.profile.longitude_deg_east is None:
            say("Its longitude is not known; a bare date covers that night anywhere on Earth.")
    out(dump_camera_profile(row.profile).rstrip())


@cameras_app.command(epilog="Example: hotpix-registry cameras apply aspen.toml")
def apply(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Camera or keyword profiles in TOML.")],
    trim: Annotated[
        bool, typer.Option("--trim", help="Cut what masks hold across a new [[dated]] section's first night.")
    ] = False,
    database: Database = None,
) -> None:
    """Load camera profiles or keyword profiles."""
    with open_registry(database, create=True) as registry:
        for file in files:
            applied = registry.apply_profile(file, trim=trim)
            say(applied.told)
            print_changes(applied.changes)
            if applied.needs_rebuild:
                masks = ", ".join(map(str, applied.needs_rebuild))
                out(f"  darks on both sides of the change went into mask {masks}")


@cameras_app.command(epilog="Example: hotpix-registry cameras confirm st-7")
def confirm(name: Name, database: Database = None) -> None:
    """Say that a provisional camera's profile is right."""
    with open_registry(database) as registry:
        registry.confirm_camera(name)
    say(f"Camera {name} is confirmed.")


@cameras_app.command(epilog="Example: hotpix-registry cameras rename st-7 dome-camera")
def rename(name: Name, new: NewName, database: Database = None) -> None:
    """Give a camera another name; the old one keeps working as an alias."""
    with open_registry(database) as registry:
        registry.rename_camera(name, new)
    say(f"Camera {name} is {new} now; {name} still finds it.")


@cameras_app.command(epilog="Example: hotpix-registry cameras alias st-7 sbig")
def alias(name: Name, new: NewName, database: Database = None) -> None:
    """Let a camera be found under one more name."""
    with open_registry(database) as registry:
        registry.alias_camera(name, new)
    say(f"{new} now means camera {name}.")


@cameras_app.command(epilog="Example: hotpix-registry cameras merge st-7-2 st-7")
def merge(
    name: Name,
    into: Annotated[str, typer.Argument(metavar="INTO", help="The camera that stays.")],
    database: Database = None,
) -> None:
    """Say that two cameras are one body; masks already built stay with the old series."""
    with open_registry(database) as registry:
        moved = registry.merge_cameras(name, into)
    say(f"Moved {count(moved, 'frame')} of {name} to {into}; build again to have masks of all of them.")


@cameras_app.command(
    epilog="Example: hotpix-registry cameras split st-7 st-7-new --nights 2021-01-01..2021-12-31"
)
def split(
    name: Name,
    new: NewName,
    nights: Annotated[str, typer.Option("--nights", metavar="A..B", help="Nights whose frames move.")],
    database: Database = None,
) -> None:
    """Give the frames of some nights to a camera of their own.

    Masks that were made of them answer as before, with a warning, until builds of both cameras or
    `decertify` take their dates.
    """
    span = parse_nights(nights)
    assert span is not None
    with open_registry(database) as registry:
        moved = registry.split_camera(name, new, nights=span)
        rows = registry.masks(camera=name)
    say(f"Moved {count(moved, 'frame')} of {name} to {new}.")
    say_what_needs_rebuild(rows)
