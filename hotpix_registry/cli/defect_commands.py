"""The command defects: a camera's static list of bad pixels, kept by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from hotpix_registry.cli.opening import open_registry
from hotpix_registry.cli.options import (
    AnyCamera,
    Camera,
    Database,
    Format,
    Nights,
    OutputFormat,
    Reason,
    parse_nights,
    parse_numbers,
)
from hotpix_registry.cli.output import out, print_rows, say
from hotpix_registry.domain import Defect
from hotpix_registry.errors import UsageError

defects_app = typer.Typer(help="Keep a camera's static list of bad pixels.")


def register(app: typer.Typer) -> None:
    app.add_typer(defects_app, name="defects", invoke_without_command=True)


@defects_app.callback(epilog="Example: hotpix-registry defects --camera aspen")
def defects(
    context: typer.Context,
    camera: AnyCamera = None,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """List a camera's static defects."""
    if context.invoked_subcommand is not None:
        return
    if camera is None:
        raise UsageError("Which camera?", next_step="Name it with --camera.")
    with open_registry(database) as registry:
        rows = registry.list_defects(camera).items
    names = ("defect_id", "x0", "y0", "width", "height", "first_night", "last_night", "reason")
    print_rows(
        rows, fmt, columns={name: name for name in names}, nothing=f"Camera {camera} has no static defects."
    )


@defects_app.command(
    epilog="Example: hotpix-registry defects add --camera aspen --pixel 17,4 --box 100,0,2,99 --reason dust"
)
def add(
    camera: Camera,
    reason: Reason,
    pixels: Annotated[
        list[str] | None, typer.Option("--pixel", metavar="X,Y", help="May be repeated.")
    ] = None,
    boxes: Annotated[
        list[str] | None, typer.Option("--box", metavar="X0,Y0,W,H", help="May be repeated.")
    ] = None,
    nights: Nights = None,
    database: Database = None,
) -> None:
    """Put pixels on a camera's static list, which every later build takes in as MANUAL.

    Coordinates are those of the trimmed, unbinned frame: 0-based, x first, y upwards as drawn.
    """
    span = parse_nights(nights) or (None, None)
    corners = [(*parse_numbers(p, 2, "a pixel", "Write x,y: 17,4."), 1, 1) for p in pixels or ()]
    corners += [parse_numbers(b, 4, "a box", "Write x0,y0,width,height: 100,0,2,4096.") for b in boxes or ()]
    if not corners:
        raise UsageError("No pixels were given.", next_step="Name them with --pixel x,y or --box x0,y0,w,h.")
    found = []
    for x0, y0, width, height in corners:
        if width < 1 or height < 1:
            raise UsageError(
                f"A box of {width} x {height} pixels is empty.", next_step="Write x0,y0,width,height."
            )
        found.append(
            Defect(
                x0=x0,
                y0=y0,
                width=width,
                height=height,
                reason=reason,
                first_night=span[0],
                last_night=span[1],
            )
        )
    with open_registry(database) as registry:
        ids = registry.add_defects(camera, found, reason=reason)
    out(", ".join(map(str, ids)))
    say(f"{len(ids)} defects are on the list of {camera}; build again to have them in its masks.")


@defects_app.command(epilog="Example: hotpix-registry defects remove 3 --camera aspen --reason 'it was dust'")
def remove(
    ids: Annotated[list[int], typer.Argument(metavar="ID…")],
    camera: Camera,
    reason: Reason,
    database: Database = None,
) -> None:
    """Take defects off a camera's static list; masks already built keep them."""
    with open_registry(database) as registry:
        registry.remove_defects(camera, ids, reason=reason)
    say(f"{len(ids)} defects are off the list of {camera}.")
