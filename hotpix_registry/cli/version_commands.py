"""Commands about mask versions: list, show, draw; take in from elsewhere, edit by hand; the demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hotpix_registry.cli.opening import open_registry
from hotpix_registry.cli.options import (
    AnyCamera,
    AnyReason,
    AsOf,
    Bayer,
    Binning,
    Database,
    Format,
    GainSetting,
    MaskId,
    OffsetSetting,
    OutputFormat,
    ReadoutMode,
    Reason,
    ReleaseName,
    RowOrder,
    SubFrame,
    Supersede,
    parse_configuration,
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
    say_what_needs_rebuild,
)
from hotpix_registry.errors import SomeRefused, UsageError
from hotpix_registry.files import is_sqlite

if TYPE_CHECKING:
    from hotpix_registry.registry import Registry
    from hotpix_registry.registry.masks import BuildResult


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hotpix-registry masks --camera aspen")(masks)
    app.command(epilog="Example: hotpix-registry show 3")(show)
    app.command(epilog="Example: hotpix-registry plot 3 -o plots")(plot)
    app.command(
        "import",
        epilog="Example: hotpix-registry import bpm.fits --camera aspen --from 2018-08-22 --temperature -20",
    )(import_mask)
    app.command(epilog="Example: hotpix-registry edit 3 --mask 17,4 --reason 'seen in flats'")(edit)
    app.command(epilog="Example: hotpix-registry demo -o demo")(demo)


# --- looking at masks -----------------------------------------------------------------


def masks(
    camera: AnyCamera = None,
    as_of: AsOf = None,
    release: ReleaseName = None,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """List mask versions."""
    with open_registry(database) as registry:
        rows = registry.masks(camera=camera, as_of=as_of, release=release)
    for row in rows:
        row["state"] = f"{row['status']}{', needs rebuild' if row['needs_rebuild'] else ''}"
        row["valid_text"] = "; ".join(f"{_day(v['from'])} to {_day(v['to'])}" for v in row["valid"])
    columns = {
        "mask_id": "id",
        "series": "series",
        "version": "version",
        "state": "status",
        "first_night": "darks of",
        "valid_text": "valid",
        "rule": "rule",
        "limit_e_per_s": "e-/s",
        "flagged": "masked",
    }
    if fmt is not Format.TABLE:
        for row in rows:
            del row["valid_text"], row["state"]
    print_rows(rows, fmt, columns=columns, nothing="No mask has been built yet.")
    if fmt is Format.TABLE:
        say_what_needs_rebuild(rows)


def _day(instant: str | None) -> str:
    return "open" if instant is None else instant[:10]


def show(mask_id: MaskId, fmt: OutputFormat = Format.TABLE, database: Database = None) -> None:
    """Show everything known about a mask: what it was made of, how, by whom, and what it found."""
    with open_registry(database) as registry:
        details = registry.show(mask_id)
    if fmt is not Format.TABLE:
        print_json(details)
        return
    out(f"Mask {mask_id}, version {details['version']} of {details['series']}, {details['status']}")
    if details["needs_rebuild"]:
        out(f"  {details['rebuild_reason']}")
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
    with open_registry(database) as registry:
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


# --- masks from elsewhere ---------------------------------------------------------------


def import_mask(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="FITS, .npy, a list of boxes in ECSV as LSST writes them; or a registry."
        ),
    ],
    camera: Annotated[
        str | None, typer.Option("--camera", metavar="NAME", help="The mask's camera, by name or alias.")
    ] = None,
    valid_from: Annotated[
        str | None, typer.Option("--from", metavar="NIGHT", help="First night that the mask is for.")
    ] = None,
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
    binning: Binning = None,
    readout_mode: ReadoutMode = None,
    gain_setting: GainSetting = None,
    offset_setting: OffsetSetting = None,
    sub_frame: SubFrame = None,
    row_order: RowOrder = None,
    bayer: Bayer = None,
    certify: Annotated[
        bool, typer.Option("--certify", help="Of a registry: certify the masks that are certified there.")
    ] = False,
    supersede: Supersede = False,
    reason: AnyReason = None,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Take in a mask that was made elsewhere, as a version of its own; or another registry's file.

    The configuration is that of the frames that the mask is for: a part that is not given is taken as one
    that their headers do not state. A registry's file becomes the registry where nothing is yet; else what
    it knows is taken in.
    """
    configuration = parse_configuration(
        binning=binning,
        readout_mode=readout_mode,
        gain_setting=gain_setting,
        offset_setting=offset_setting,
        sub_frame=sub_frame,
        row_order=row_order,
        bayer_pattern=bayer,
    )
    if is_sqlite(file):
        from hotpix_registry.cli.keeping_commands import import_registry
        from hotpix_registry.registry.criteria import option_of

        given = {"--camera": camera, "--from": valid_from, "--temperature": temperature, "--bit": bit}
        given |= {option_of(name): value for name, value in configuration.items()}
        import_registry(file, given, certify=certify, reason=reason, fmt=fmt, database=database)
        return
    if camera is None or valid_from is None:
        missing = "--camera" if camera is None else "--from"
        raise UsageError(f"A mask needs {missing}.", next_step="`hotpix-registry import -h` has an example.")
    size = None if shape is None else parse_numbers(shape, 2, "a size", "Write columns and rows: 2048,4096.")
    with open_registry(database) as registry:
        result = registry.import_mask(
            file,
            camera,
            valid_from=valid_from,
            temperature_c=temperature,
            bit=bit,
            shape=None if size is None else (size[1], size[0]),
            configuration=configuration,
            supersede=supersede,
            reason=reason,
        )
    if fmt is not Format.TABLE:
        print_json(result.as_dict())
    else:
        _print_stored(result, "" if result.new else " (imported before, nothing new)")
    _refuse_candidate(result)


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

    An edit of a certified mask takes its dates. An edit of any other waits as a candidate; it is said
    which mask holds its dates now, and what certifies it.

    Coordinates are those of the mask: 0-based, x first. What should hold for every later mask
    belongs on the camera's list instead: see `defects add`.
    """
    pixels = [
        [(x, y) for x, y in (parse_numbers(p, 2, "a pixel", "Write x,y: 17,4.") for p in given or ())]
        for given in (masked, unmasked)
    ]
    if not any(pixels):
        raise UsageError("No pixels were given.", next_step="Name them with --mask x,y or --unmask x,y.")
    with open_registry(database) as registry:
        result = registry.edit_mask(mask_id, mask=pixels[0], unmask=pixels[1], reason=reason)
    _print_stored(result, "" if result.new else " (edited before, nothing new)")
    _refuse_candidate(result)


def _print_stored(result: BuildResult, known: str = "") -> None:
    out(f"Mask {result.mask_id}, version {result.version} of {result.series}, {result.status}{known}")
    out(f"  {result.flagged} of {result.pixels} pixels masked")
    print_changes(result.changes)


def _refuse_candidate(result: BuildResult) -> None:
    """Say of a mask that does not serve what it waits for."""
    if result.status != "candidate":
        for warning in result.warnings:
            say(f"Warning: {warning}")
        return
    if result.warnings:
        raise SomeRefused(" ".join(result.warnings))
    why, force = "by the camera's profile a person certifies its masks", ""
    if result.failed_gates:
        why, force = f"it failed the gate {'; '.join(result.failed_gates)}", " --force --reason …"
    raise SomeRefused(
        f"Mask {result.mask_id} is a candidate only: {why}.",
        next_step=f"Look at it with `report`, then `hotpix-registry certify {result.mask_id}{force}`.",
    )


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
