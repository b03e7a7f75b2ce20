"""The command mask: the right mask for a date, for science frames, or for a receipt."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotpix_registry.cli.opening import open_registry
from hotpix_registry.cli.options import (
    AllowRevoked,
    AsOf,
    Bayer,
    Binning,
    Database,
    Fallback,
    GainSetting,
    MaxAge,
    OffsetSetting,
    ReadoutMode,
    ReleaseName,
    RowOrder,
    SubFrame,
    parse_configuration,
)
from hotpix_registry.cli.output import count, out, print_explanation, print_json, progress_bar, say
from hotpix_registry.errors import HotpixError, SomeRefused, UsageError

if TYPE_CHECKING:
    from hotpix_registry.registry import Mask, Registry


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hotpix-registry mask --camera aspen --date 2018-08-22")(mask)


class MaskFormat(StrEnum):
    PATH = "path"
    JSON = "json"
    FITS = "fits"
    NPY = "npy"
    ECSV = "ecsv"
    DS9 = "ds9"
    LSST = "lsst"
    SIRIL = "siril"


class Adapt(StrEnum):
    BIN = "bin"


def mask(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="With --for: science frames, folders, globs, @list.txt, or - for a list on standard input.",
            show_default=False,
        ),
    ] = None,
    of_frames: Annotated[
        bool,
        typer.Option("--for", help="The mask of each FILE by its own header: a line each, FILE and mask."),
    ] = False,
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="With --for: descend folders.")
    ] = False,
    adapt: Annotated[
        Adapt | None,
        typer.Option("--adapt", help="With --for: join blocks of an unbinned mask for a binned frame."),
    ] = None,
    camera: Annotated[
        str | None,
        typer.Option("--camera", metavar="NAME", help="Camera, by name or alias.", show_default=False),
    ] = None,
    date: Annotated[
        str | None,
        typer.Option(
            "--date",
            metavar="DATE",
            help="An observing night (2018-08-22), an instant (2018-08-22T04:00:00Z), MJD or JD.",
            show_default=False,
        ),
    ] = None,
    receipt: Annotated[
        str | None,
        typer.Option(
            "--receipt", metavar="TEXT", help="Replay an earlier answer by its receipt.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the mask here.")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", metavar="C", help="Detector temperature of the science frame."),
    ] = None,
    exposure: Annotated[
        float | None, typer.Option("--exposure", metavar="S", help="Exposure time of the science frame.")
    ] = None,
    binning: Binning = None,
    readout_mode: ReadoutMode = None,
    gain_setting: GainSetting = None,
    offset_setting: OffsetSetting = None,
    sub_frame: SubFrame = None,
    row_order: RowOrder = None,
    bayer: Bayer = None,
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            metavar="NAME|FLAGS",
            help="Which flags mask: default, evidence, matched, all, none, 'HOT|UNSTABLE', '~WARM'.",
        ),
    ] = "default",
    fallback: Fallback = None,
    max_age: MaxAge = None,
    allow_revoked: AllowRevoked = False,
    as_of: AsOf = None,
    release: ReleaseName = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show each mask that might answer, by each criterion, nearest first."),
    ] = False,
    fmt: Annotated[
        MaskFormat, typer.Option("--format", help="What is printed, or written with -o.")
    ] = MaskFormat.PATH,
    database: Database = None,
) -> None:
    """Serve the right mask for an observing date, for ever.

    Prints the path of a FITS file and nothing else; warnings go to standard error.
    """
    _check_asked(camera, date, receipt, of_frames, files)
    configuration = parse_configuration(
        binning=binning,
        readout_mode=readout_mode,
        gain_setting=gain_setting,
        offset_setting=offset_setting,
        sub_frame=sub_frame,
        row_order=row_order,
        bayer_pattern=bayer,
    )
    asked: dict[str, Any] = {
        "preset": preset,
        "fallback": None if fallback is None else fallback.value,
        "max_age_days": max_age,
        "allow_revoked": allow_revoked,
        "as_of": as_of,
        "release": release,
        "explain": explain,
    }
    if of_frames:
        given = (temperature, exposure, *configuration.values())
        if (
            output is not None
            or fmt not in (MaskFormat.PATH, MaskFormat.JSON)
            or any(value is not None for value in given)
        ):
            raise UsageError(
                "With --for the frames' headers say what is asked, and each answer is a line.",
                next_step="Leave out -o and what the headers say; --format takes path or json.",
            )
        _serve_frames(files or [], recursive, camera, adapt is not None, fmt, database, asked)
        return
    with open_registry(database, answers=True) as registry:
        try:
            if receipt is not None:
                found = registry.replay(receipt, explain=explain)
            else:
                found = registry.mask(
                    camera or "",
                    date or "",
                    temperature_c=temperature,
                    exposure_s=exposure,
                    configuration=configuration,
                    **asked,
                )
        except HotpixError as error:
            if explain:
                _explain_miss(error, fmt)
            raise
        for warning in found.answer.warnings:
            say(f"Warning: {warning}")
        if explain and fmt is not MaskFormat.JSON:
            print_explanation(found.answer.explanation)
        _deliver(registry, found, output, fmt)


def _check_asked(
    camera: str | None, date: str | None, receipt: str | None, of_frames: bool, files: list[str] | None
) -> None:
    ways = "Say --camera NAME --date DATE, --for FILE…, or --receipt TEXT."
    if of_frames and not files:
        raise UsageError("--for names no frames.", next_step="Name files, folders or globs after it.")
    if files and not of_frames:
        raise UsageError(f"What {files[0]} is for is not said.", next_step=ways)
    if receipt is not None and (of_frames or camera is not None or date is not None):
        raise UsageError(
            "A receipt says everything itself.", next_step="Leave out --for, --camera and --date."
        )
    if of_frames and date is not None:
        raise UsageError("With --for the headers say the date.", next_step="Leave out --date.")
    if receipt is None and not of_frames and (camera is None or date is None):
        raise UsageError(f"Option {'--camera' if camera is None else '--date'} is missing.", next_step=ways)


def _serve_frames(
    files: list[str],
    recursive: bool,
    camera: str | None,
    allow_binning: bool,
    fmt: MaskFormat,
    database: str | None,
    asked: dict[str, Any],
) -> None:
    with open_registry(database, answers=True) as registry:
        with progress_bar("Reading headers", unit="files") as bar:
            served = registry.masks_for(
                files, recursive=recursive, camera=camera, allow_binning=allow_binning, progress=bar, **asked
            )
        warned: set[str] = set()
        for one in served:
            if fmt is MaskFormat.JSON:
                out(json.dumps(one.as_dict(), ensure_ascii=False))
            elif one.error is None:
                out(f"{one.frame}\t{one.path}")
            if one.error is not None:
                say(f"{one.frame}: {one.error}")
                if asked["explain"] and fmt is not MaskFormat.JSON:
                    print_explanation(one.error.explanation)
            elif one.answer is not None:
                for warning in one.answer.warnings:
                    if warning not in warned:
                        say(f"Warning: {one.frame}: {warning}")
                    warned.add(warning)
    failed = [one.error for one in served if one.error is not None]
    say(f"{count(len(served) - len(failed), 'frame')} of {len(served)} have a mask.")
    if failed and len(failed) < len(served):
        raise SomeRefused(
            f"{count(len(failed), 'frame')} got no mask.", next_step="Their reasons stand above."
        )
    if failed:
        raise failed[0]


def _explain_miss(error: HotpixError, fmt: MaskFormat) -> None:
    if fmt is MaskFormat.JSON:
        print_json(error.as_dict())
    else:
        print_explanation(error.explanation)


def _deliver(registry: Registry, found: Mask, output: Path | None, fmt: MaskFormat) -> None:
    if fmt is MaskFormat.JSON and output is None:
        print_json(found.answer.as_dict() | {"path": str(found.path)})
        return
    if output is None and fmt is MaskFormat.PATH:
        out(str(found.path))
        return
    answer = found.answer
    if fmt in (MaskFormat.PATH, MaskFormat.JSON, MaskFormat.FITS):
        content = registry.mask_file(answer.mask_id, preset=answer.preset)
    else:
        content = registry.mask_as(answer.mask_id, fmt.value, preset=answer.preset)
    if output is not None:
        from hotpix_registry.files import write_atomic

        written = write_atomic(output, content)
        if fmt is MaskFormat.JSON:
            print_json(answer.as_dict() | {"path": str(written)})
        else:
            out(str(written))
        return
    if sys.stdout.isatty() and fmt in (MaskFormat.FITS, MaskFormat.NPY):
        raise UsageError("A terminal cannot show a mask.", next_step="Write it to a file with -o FILE.")
    sys.stdout.buffer.write(content)
