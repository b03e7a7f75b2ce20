"""Commands about frames: ingest, header, frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from hotpix_registry.cli.opening import open_registry
from hotpix_registry.cli.options import (
    AnyCamera,
    Database,
    Format,
    Nights,
    OutputFormat,
    Reason,
    Scheduler,
    parse_exposures,
    parse_nights,
)
from hotpix_registry.cli.output import count, out, print_json, print_rows, print_table, progress_bar, say
from hotpix_registry.domain import Kind
from hotpix_registry.errors import NoRegistry, SomeRefused, UsageError

if TYPE_CHECKING:
    from hotpix_registry.registry import Registry
    from hotpix_registry.registry.batch import IngestReport

frames_app = typer.Typer(help="List catalogued frames, and correct what is known about them.")


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hotpix-registry ingest -r /data/darks --camera aspen")(ingest)
    app.command(epilog="Example: hotpix-registry header dark_001.fits")(header)
    app.add_typer(frames_app, name="frames", invoke_without_command=True)


def ingest(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH…",
            help="Files, folders, globs, s3:// and https:// URLs of these, @list.txt, or - for a list on "
            "standard input.",
        ),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Descend into folders, not into links to them.")
    ] = False,
    camera: Annotated[
        str | None, typer.Option("--camera", metavar="NAME", help="The camera that took them all.")
    ] = None,
    kind: Annotated[
        Kind | None, typer.Option("--type", help="What they are, where headers do not say.")
    ] = None,
    ncombine: Annotated[
        int | None, typer.Option("--ncombine", min=1, help="Frames in each master, where headers do not say.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; write nothing.")] = False,
    reread: Annotated[
        bool, typer.Option("--reread", help="Read all catalogued headers anew under today's profiles.")
    ] = False,
    scheduler: Scheduler = None,
    fail_on_rejected: Annotated[
        bool, typer.Option("--fail-on-rejected", help="Exit with 8 when a file is rejected.")
    ] = False,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Put dark frames into the catalogue.

    Headers are read first, and only darks, biases and masters are hashed and catalogued. Running it
    again is safe: what is known is passed over.
    """
    if reread:
        with (
            open_registry(database) as registry,
            progress_bar("Reading headers", unit="frames") as bar,
        ):
            changed = registry.reread(progress=bar)
        say(f"Changed what is known of {count(changed, 'frame')}.")
    if not paths:
        if not reread:
            raise UsageError("Nothing to ingest.", next_step="Name files or folders, such as -r DARKS.")
        return
    from hotpix_registry.registry.ingest import find_files

    files = find_files(paths, recursive=recursive)  # a mistyped path makes no registry
    with _opened(database, dry_run) as registry, progress_bar("Ingesting", unit="files") as bar:
        report = registry.ingest(
            files,
            camera=camera,
            kind=kind,
            n_combined=ncombine,
            dry_run=dry_run,
            scheduler=scheduler,
            progress=bar,
        )
    _print_ingest(report, fmt)
    if fail_on_rejected and report.rejected:
        raise SomeRefused(f"Rejected {count(len(report.rejected), 'file')}.")


@contextmanager
def _opened(database: str | None, dry_run: bool) -> Iterator[Registry]:
    """The registry; for a dry run where none is yet, an empty one that is thrown away."""
    try:
        registry = open_registry(database, create=not dry_run)
    except NoRegistry:
        with TemporaryDirectory() as folder:
            with open_registry(str(Path(folder) / "registry.sqlite"), create=True) as registry:
                yield registry
            return
    with registry:
        yield registry


def _print_ingest(report: IngestReport, fmt: Format) -> None:
    if fmt is Format.JSON:
        print_json(report.as_dict())
        return
    if fmt is not Format.TABLE:
        rows = [{"path": path, "outcome": "rejected", "reason": reason} for path, reason in report.rejected]
        counted = [("accepted", report.accepted), ("known", report.known), ("skipped", report.skipped)]
        totals = [{"path": "", "outcome": name, "reason": str(count)} for name, count in counted]
        print_rows(totals + rows, fmt, columns={}, nothing="")
        return
    for notice in report.notices:
        say(f"Note: {notice}")
    skipped = ", ".join(f"{count} {kind}" for kind, count in report.skipped_by_type.most_common())
    print_table(
        [
            ["would accept" if report.dry_run else "accepted", str(report.accepted), ""],
            ["already known", str(report.known), ""],
            ["skipped", str(report.skipped), skipped],
            ["rejected", str(len(report.rejected)), ""],
        ],
        ["files", "count", "which"],
    )
    from hotpix_registry.registry.ingest import join_nights, without_night

    told: dict[str, str] = {}
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for path, reason in report.rejected:
        reason = reason.replace(path, "It")
        key = without_night(reason)
        told[key] = join_nights(told.get(key, reason), reason)
        by_reason[key].append(path)
    for key, rejected in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        say(f"\nRejected {len(rejected)}: {told[key]}")
        for path in rejected[:5]:
            say(f"  {path}")
        if len(rejected) > 5:
            say(f"  … and {len(rejected) - 5} more (`hotpix-registry frames --rejected` lists all)")


def header(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A FITS file or its URL, compressed or not.")],
    kind: Annotated[
        Kind | None, typer.Option("--type", help="What it is, where its header does not say.")
    ] = None,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Show what is understood of a file's header, and from which keyword.

    The registry's own keyword profiles are used beside those that ship with us.
    """
    from hotpix_registry.fits import headers, keywords
    from hotpix_registry.registry.ingest import reasons_to_reject

    read = headers.read_header(file)
    with _opened(database, dry_run=True) as registry:
        facts = registry.interpret(read, kind=kind)
    if fmt is Format.JSON:
        print_json(facts.as_dict())
        return
    rows = [
        dict(zip(("fact", "value", "unit", "keyword"), row, strict=True))
        for row in keywords.describe(read, facts)
    ]
    columns = {"fact": "fact", "value": "value", "unit": "unit", "keyword": "keyword"}
    print_rows(rows, fmt, columns=columns, nothing="Nothing was understood.")
    if facts.kind is None:
        say(f"Ingest would skip it: {facts.frame_type or 'its type is not given'}.")
    for reason in reasons_to_reject(facts) if facts.kind is not None else ():
        say(f"Ingest would reject it: {reason}")


@frames_app.callback(epilog="Example: hotpix-registry frames --camera aspen --nights 2018-08-20..2018-08-25")
def frames(
    context: typer.Context,
    camera: AnyCamera = None,
    nights: Nights = None,
    exposure: Annotated[
        str | None, typer.Option("--exposures", metavar="S,S", help="Only these exposure times.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", metavar="C", help="Only within 1 °C of this.")
    ] = None,
    kind: Annotated[Kind | None, typer.Option("--kind", help="Only these.")] = None,
    status: Annotated[
        str | None,
        typer.Option("--status", help="Only: used, excluded, twin, or missing (its file is gone)."),
    ] = None,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="List the files that ingest rejected instead.")
    ] = False,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """List catalogued frames."""
    if context.invoked_subcommand is not None:
        return
    if status is not None and status not in ("used", "excluded", "twin", "missing"):
        raise UsageError(f"'{status}' is no status.", next_step="Use used, excluded, twin or missing.")
    exposures = parse_exposures(exposure)
    with open_registry(database) as registry:
        if rejected:
            print_rows(
                registry.list_rejected().items,
                fmt,
                columns={"path": "path", "reason": "reason"},
                nothing="No file was rejected.",
            )
            return
        rows = registry.list_frames(
            camera=camera,
            nights=parse_nights(nights),
            kind=kind,
            exposures_s=exposures,
            temperature_c=temperature,
            status=status,
        ).items
    columns = {
        "frame_id": "id",
        "camera": "camera",
        "kind": "kind",
        "night": "night",
        "exptime_s": "s",
        "set_temp_c": "set °C",
        "ccd_temp_c": "ccd °C",
        "status": "status",
        "name": "file",
    }
    print_rows(rows, fmt, columns=columns, nothing="No frames are catalogued that fit.")


FrameNames = Annotated[
    list[str], typer.Argument(metavar="FRAME…", help="Ids, paths, or the beginnings of digests.")
]


@frames_app.command(epilog="Example: hotpix-registry frames exclude 17 18 --reason 'light leak'")
def exclude(frames: FrameNames, reason: Reason, database: Database = None) -> None:
    """Take frames out of all later builds."""
    with open_registry(database) as registry:
        ids = registry.exclude(frames, reason=reason)
    say(f"Excluded {count(len(ids), 'frame')} from later builds; masks already built keep them.")


@frames_app.command(epilog="Example: hotpix-registry frames include 17 --reason 'it was the dome light'")
def include(frames: FrameNames, reason: Reason, database: Database = None) -> None:
    """Let excluded frames take part again."""
    with open_registry(database) as registry:
        ids = registry.include(frames, reason=reason)
    say(f"Included {count(len(ids), 'frame')} in builds again.")


@frames_app.command(
    epilog="Example: hotpix-registry frames fix 17 --set exptime_s=60 --reason 'typo at the telescope'"
)
def fix(
    frames: FrameNames,
    corrections: Annotated[
        list[str], typer.Option("--set", metavar="FIELD=VALUE", help="What is right; may be repeated.")
    ],
    reason: Reason,
    database: Database = None,
) -> None:
    """Correct what the headers of frames say."""
    from hotpix_registry.registry.frames import parse_correction

    values = dict(parse_correction(text) for text in corrections)
    with open_registry(database) as registry:
        ids = registry.fix(frames, values, reason=reason)
    out(", ".join(map(str, ids)))
    say(f"Corrected {count(len(ids), 'frame')}; later builds use that.")
