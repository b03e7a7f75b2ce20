"""Commands about masks: build, mask, masks, show, report, certify, demo."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hotpix_registry.cli.options import (
    AnyCamera,
    Camera,
    Database,
    Format,
    OutputFormat,
    Reason,
    parse_numbers,
)
from hotpix_registry.cli.output import (
    flag_counts,
    out,
    print_changes,
    print_json,
    print_rows,
    print_table,
    say,
)
from hotpix_registry.errors import UsageError
from hotpix_registry.registry import Mask, Registry

if TYPE_CHECKING:
    pass


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hotpix-registry mask --camera aspen --date 2018-08-22")(mask)
    app.command(epilog="Example: hotpix-registry masks --camera aspen")(masks)
    app.command(epilog="Example: hotpix-registry show 3")(show)
    app.command(epilog="Example: hotpix-registry plot 3 -o plots")(plot)
    app.command(epilog="Example: hotpix-registry certify 3 --reason 'looked at the plots'")(certify)
    app.command(
        "import",
        epilog="Example: hotpix-registry import bpm.fits --camera aspen --from 2018-08-22 --temperature -20",
    )(import_mask)
    app.command(epilog="Example: hotpix-registry edit 3 --mask 17,4 --reason 'seen in flats'")(edit)
    app.command(epilog="Example: hotpix-registry demo -o demo")(demo)


# --- mask -----------------------------------------------------------------------------


class MaskFormat(StrEnum):
    PATH = "path"
    JSON = "json"
    FITS = "fits"
    NPY = "npy"
    ECSV = "ecsv"
    DS9 = "ds9"
    LSST = "lsst"
    SIRIL = "siril"


class FallbackChoice(StrEnum):
    PREVIOUS = "previous"
    NEAREST = "nearest"


def mask(
    camera: Camera,
    date: Annotated[
        str,
        typer.Option(
            "--date",
            metavar="DATE",
            help="An observing night (2018-08-22), an instant (2018-08-22T04:00:00Z), MJD or JD.",
        ),
    ],
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
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            metavar="NAME|FLAGS",
            help="Which flags mask: default, evidence, matched, all, none, 'HOT|UNSTABLE', '~WARM'.",
        ),
    ] = "default",
    fallback: Annotated[
        FallbackChoice | None, typer.Option("--fallback", help="What may answer when no mask is valid then.")
    ] = None,
    fmt: Annotated[
        MaskFormat, typer.Option("--format", help="What is printed, or written with -o.")
    ] = MaskFormat.PATH,
    database: Database = None,
) -> None:
    """Serve the right mask for an observing date.

    Prints the path of a FITS file and nothing else; warnings go to standard error.
    """
    with Registry(database, create=False) as registry:
        found = registry.mask(
            camera,
            date,
            temperature_c=temperature,
            exposure_s=exposure,
            preset=preset,
            fallback=None if fallback is None else fallback.value,
        )
        for warning in found.answer.warnings:
            say(f"Warning: {warning}")
        _deliver(registry, found, output, fmt)


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


# --- looking at masks -----------------------------------------------------------------


def masks(camera: AnyCamera = None, fmt: OutputFormat = Format.TABLE, database: Database = None) -> None:
    """List mask versions."""
    with Registry(database, create=False) as registry:
        rows = registry.masks(camera=camera)
    for row in rows:
        row["valid_text"] = "; ".join(f"{_day(v['from'])} to {_day(v['to'])}" for v in row["valid"])
    columns = {
        "mask_id": "id",
        "series": "series",
        "version": "version",
        "status": "status",
        "first_night": "darks of",
        "valid_text": "valid",
        "rule": "rule",
        "limit_e_per_s": "e-/s",
        "flagged": "masked",
    }
    if fmt is not Format.TABLE:
        for row in rows:
            del row["valid_text"]
    print_rows(rows, fmt, columns=columns, nothing="No mask has been built yet.")


def _day(instant: str | None) -> str:
    return "open" if instant is None else instant[:10]


MaskId = Annotated[int, typer.Argument(metavar="ID", help="A mask, as `hotpix-registry masks` lists it.")]


def show(mask_id: MaskId, fmt: OutputFormat = Format.TABLE, database: Database = None) -> None:
    """Show everything known about a mask: what it was made of, how, by whom, and what it found."""
    with Registry(database, create=False) as registry:
        details = registry.show(mask_id)
    if fmt is not Format.TABLE:
        print_json(details)
        return
    out(f"Mask {mask_id}, version {details['version']} of {details['series']}, {details['status']}")
    for interval in details["valid"]:
        out(f"  valid from {interval['from']} to {interval['to'] or 'further notice'}")
    share = 100 * details["flagged"] / details["pixels"]
    out(f"  {details['flagged']} of {details['pixels']} pixels masked ({share:.3g} %)")
    out(f"  {flag_counts(details['counts'])}")
    out(f"  {details['report']['limit_reason']}")
    out(f"  pedestal from {details['report']['bias_method']}")
    out(f"  built {details['built']} by {details['actor']} on {details['host']}, rule {details['rule']}")
    software = ", ".join(f"{name} {version}" for name, version in details["software"].items())
    out(f"  with {software}")
    out(f"  sha256 {details['sha256']}")
    for warning in details["warnings"]:
        out(f"  warning: {warning}")
    out("")
    keys = ("frame_id", "role", "exptime_s", "ccd_temp_c", "start")
    cells = [
        ["-" if i[key] is None else str(i[key]) for key in keys] + [Path(i["path"]).name]
        for i in details["inputs"]
    ]
    print_table(cells, ["frame", "role", "s", "ccd °C", "start", "file"])


def plot(
    mask_id: MaskId,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the pictures go.")
    ] = Path(),
    database: Database = None,
) -> None:
    """Draw the pictures of a build: histogram, scatter, the limit, and where the flagged pixels lie."""
    with Registry(database, create=False) as registry:
        for path in _save_plots(registry, mask_id, output):
            out(str(path))


def _save_plots(registry: Registry, mask_id: int, folder: Path) -> list[Path]:
    from hotpix_registry.plots import save_plots

    details = registry.show(mask_id)
    return save_plots(
        registry.mask_numbers(mask_id),
        registry.mask_dq(mask_id),
        folder,
        f"mask-{mask_id}",
        caption=f"{details['series']}, darks of {details['first_night']}",
    )


def certify(
    mask_id: MaskId,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; it is kept with the act.")] = None,
    database: Database = None,
) -> None:
    """Let a candidate answer for its dates."""
    with Registry(database, create=False) as registry:
        changes = registry.certify(mask_id, reason=reason)
    out(f"Mask {mask_id} is certified.")
    print_changes(changes)


# --- masks from elsewhere ---------------------------------------------------------------


def import_mask(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="FITS, .npy, or a list of boxes in ECSV as LSST writes them."),
    ],
    camera: Camera,
    valid_from: Annotated[str, typer.Option("--from", metavar="NIGHT", help="First night that it is for.")],
    temperature: Annotated[
        float | None, typer.Option("--temperature", metavar="C", help="Set point of the frames it is for.")
    ] = None,
    bit: Annotated[
        int | None,
        typer.Option("--bit", min=0, max=63, help="Only pixels with this bit set; 0 is the lowest."),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option("--shape", metavar="NX,NY", help="Size of the detector, for a list of boxes."),
    ] = None,
    binning: Annotated[str, typer.Option("--binning", metavar="X,Y", help="Binning of the mask.")] = "1,1",
    reason: Annotated[str | None, typer.Option("--reason", help="Why; it is kept with the act.")] = None,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Take in a mask that was made elsewhere, as a version of its own."""
    size = None if shape is None else parse_numbers(shape, 2, "a size", "Write columns and rows: 2048,4096.")
    bins = parse_numbers(binning, 2, "a binning", "Write it as 2,2.")
    with Registry(database, create=False) as registry:
        result = registry.import_mask(
            file,
            camera,
            valid_from=valid_from,
            temperature_c=temperature,
            bit=bit,
            shape=None if size is None else (size[1], size[0]),
            binning=(bins[0], bins[1]),
            reason=reason,
        )
    if fmt is not Format.TABLE:
        print_json(result.as_dict())
        return
    known = "" if result.new else " (imported before, nothing new)"
    out(f"Mask {result.mask_id}, version {result.version} of {result.series}, {result.status}{known}")
    out(f"  {result.flagged} of {result.pixels} pixels masked")
    print_changes(result.changes)


def edit(
    mask_id: MaskId,
    reason: Reason,
    masked: Annotated[
        list[str] | None, typer.Option("--mask", metavar="X,Y", help="Mask this pixel.")
    ] = None,
    unmasked: Annotated[
        list[str] | None, typer.Option("--unmask", metavar="X,Y", help="Unmask this pixel.")
    ] = None,
    database: Database = None,
) -> None:
    """Mask or unmask single pixels of a mask by hand, as a version of its own.

    Coordinates are those of the mask: 0-based, x first. What should hold for every later mask
    belongs on the camera's list instead: see `defects add`.
    """
    pixels = [
        [(x, y) for x, y in (parse_numbers(p, 2, "a pixel", "Write x,y: 17,4.") for p in given or ())]
        for given in (masked, unmasked)
    ]
    if not any(pixels):
        raise UsageError("No pixels were given.", next_step="Name them with --mask x,y or --unmask x,y.")
    with Registry(database, create=False) as registry:
        result = registry.edit_mask(mask_id, mask=pixels[0], unmask=pixels[1], reason=reason)
    out(f"Mask {result.mask_id}, version {result.version} of {result.series}, {result.status}")
    out(f"  {result.flagged} of {result.pixels} pixels masked")
    print_changes(result.changes)


# --- demo -----------------------------------------------------------------------------


def demo(
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FOLDER", help="A new folder for frames, mask and plots."),
    ] = Path("demo"),
    size: Annotated[int, typer.Option("--size", min=128, max=4096, help="Pixels along each side.")] = 1024,
    seed: Annotated[int, typer.Option("--seed", help="Another seed is another night.")] = 1,
) -> None:
    """Simulate a night of the guide's camera and run the main job on it, as you would."""
    from hotpix_registry.cli.demo import run

    run(output, size=size, seed=seed)
