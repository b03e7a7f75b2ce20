"""The command apply: a mask written into science frames."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from hotpix_registry.cli.opening import open_registry
from hotpix_registry.cli.options import (
    AllowRevoked,
    AsOf,
    Database,
    Fallback,
    Format,
    MaxAge,
    OutputFormat,
    ReleaseName,
)
from hotpix_registry.cli.output import count, print_rows, progress_bar, say
from hotpix_registry.errors import SomeRefused

if TYPE_CHECKING:
    from hotpix_registry.registry.apply import Applied


class Adapt(StrEnum):
    BIN = "bin"


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hotpix-registry apply 2018-08-22 --camera aspen light_*.fits -o masked/")(
        apply
    )


def apply(
    mask: Annotated[
        str,
        typer.Argument(
            metavar="MASK|DATE|RECEIPT|auto",
            help="A mask by its number, a date with --camera, an earlier answer's receipt, or auto: each "
            "frame's header asks for its own.",
        ),
    ],
    files: Annotated[
        list[str], typer.Argument(metavar="FILE…", help="Science frames, globs, @list.txt, or - for a list.")
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="FILE|FOLDER", help="Where the masked frames go; a folder ends with /."
        ),
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Change the frames themselves.")] = False,
    camera: Annotated[
        str | None, typer.Option("--camera", metavar="NAME", help="Camera of a date, or of all frames.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", metavar="C", help="Detector temperature, for a date.")
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", metavar="NAME|FLAGS", help="Which flags mask, as for `mask`.")
    ] = "default",
    adapt: Annotated[
        Adapt | None, typer.Option("--adapt", help="bin: join blocks of an unbinned mask for binned frames.")
    ] = None,
    fallback: Fallback = None,
    max_age: MaxAge = None,
    allow_revoked: AllowRevoked = False,
    as_of: AsOf = None,
    release: ReleaseName = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; write nothing.")] = False,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Write a mask into science frames: joined with the masks that they have, never replacing them.

    The mask goes into the extension MASK, where CCDData finds it, and its flags into DQ; the header
    names the mask. All else stays as it is.
    """
    with open_registry(database, answers=True) as registry, progress_bar("Applying", unit="frames") as bar:
        applied = registry.apply(
            mask,
            files,
            camera=camera,
            temperature_c=temperature,
            preset=preset,
            fallback=None if fallback is None else fallback.value,
            max_age_days=max_age,
            allow_binning=adapt is Adapt.BIN,
            allow_revoked=allow_revoked,
            as_of=as_of,
            release=release,
            output=output,
            in_place=in_place,
            dry_run=dry_run,
            progress=bar,
        )
    _print(applied, fmt, dry_run)


def _print(applied: list[Applied], fmt: Format, dry_run: bool) -> None:
    done = [one for one in applied if one.status != "refused"]
    refused = [one for one in applied if one.status == "refused"]
    for warning in dict.fromkeys(warning for one in done for warning in one.warnings):
        say(f"Warning: {warning}")
    columns = {
        "path" if dry_run else "output": "frame",
        "mask_id": "mask",
        "added": "newly masked",
        "masked": "masked",
    }
    listed = done if fmt is Format.TABLE else applied
    if listed:
        print_rows([one.as_dict() for one in listed], fmt, columns=columns, nothing="")
    if len(applied) == 1 and refused and refused[0].error is not None:
        raise refused[0].error
    for one in refused:
        say(f"Refused: {one.reason}")
    counts = Counter(one.status for one in applied)
    say(
        f"{'Would mask' if dry_run else 'Masked'} {count(counts['applied'], 'frame')}; "
        f"{counts['unchanged']} had this mask already; {counts['refused']} refused."
    )
    if refused:
        raise SomeRefused(f"Refused {count(len(refused), 'frame')} of {len(applied)}.")
