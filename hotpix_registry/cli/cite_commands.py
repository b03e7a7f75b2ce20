"""The command cite: the sentence for a paper, and a bundle of provenance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hotpix_registry.cli.opening import open_registry
from hotpix_registry.cli.options import (
    AsOf,
    Binning,
    Database,
    Format,
    GainSetting,
    OffsetSetting,
    OutputFormat,
    ReadoutMode,
    parse_configuration,
)
from hotpix_registry.cli.output import out, print_json, print_rows, say
from hotpix_registry.errors import UsageError


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hotpix-registry cite --camera aspen --date 2018-08-22 -o provenance.zip")(
        cite
    )


def cite(
    camera: Annotated[
        str | None,
        typer.Option("--camera", metavar="NAME", help="Camera, by name or alias.", show_default=False),
    ] = None,
    date: Annotated[
        str | None,
        typer.Option(
            "--date", metavar="DATE", help="The night or instant of the science frames.", show_default=False
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", metavar="C", help="Their detector temperature.", show_default=False),
    ] = None,
    binning: Binning = None,
    readout_mode: ReadoutMode = None,
    gain_setting: GainSetting = None,
    offset_setting: OffsetSetting = None,
    receipt: Annotated[
        str | None,
        typer.Option("--receipt", metavar="TEXT", help="What an earlier answer said.", show_default=False),
    ] = None,
    release: Annotated[
        str | None,
        typer.Option(
            "--release",
            metavar="NAME",
            help="A release as a whole; with --date, the answer that it gives.",
            show_default=False,
        ),
    ] = None,
    as_of: AsOf = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER|FILE.zip",
            help="Write a bundle of provenance: the masks, what they were made of, digests, BibTeX.",
            show_default=False,
        ),
    ] = None,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Print the sentence for a paper's methods section, and write a bundle of provenance.

    For a date, for a receipt, or for a release as a whole.
    """
    _check_cited(camera, date, receipt, release, as_of)
    configuration = parse_configuration(
        binning=binning, readout_mode=readout_mode, gain_setting=gain_setting, offset_setting=offset_setting
    )
    with open_registry(database) as registry:
        cited = registry.cite(
            camera=camera,
            date=date,
            temperature_c=temperature,
            configuration=configuration,
            receipt=receipt,
            release=release,
            as_of=as_of,
        )
        if output is not None:
            say(f"Provenance written to {registry.write_bundle(cited, output)}.")
    for warning in () if cited.answer is None else cited.answer.warnings:
        say(f"Warning: {warning}")
    if fmt is Format.JSON:
        print_json(cited.as_dict())
    elif fmt is Format.TABLE:
        out(cited.sentence)
        if cited.release is not None:
            out("")
            print_rows(cited.rows, fmt, columns=_CITED_COLUMNS, nothing="")
    else:
        print_rows(cited.rows, fmt, columns=_CITED_COLUMNS, nothing="")


_CITED_COLUMNS = {
    "series": "series",
    "valid_from": "from",
    "valid_to": "to",
    "mask_id": "mask",
    "version": "version",
    "status": "status",
    "sha256": "sha256",
}


def _check_cited(
    camera: str | None, date: str | None, receipt: str | None, release: str | None, as_of: str | None
) -> None:
    if receipt is not None:
        if any(given is not None for given in (camera, date, release, as_of)):
            raise UsageError(
                "A receipt says camera, date and state itself.", next_step="Give --receipt alone."
            )
    elif date is None and release is None:
        raise UsageError(
            "What is to be cited is not said.",
            next_step="Say --camera NAME --date DATE, --release NAME, or --receipt TEXT.",
        )
    elif date is not None and camera is None:
        raise UsageError("Option --camera is missing.", next_step="Say --camera NAME --date DATE.")
    elif date is None and as_of is not None:
        raise UsageError("A release is an --as-of of its own.", next_step="Give one of them.")
