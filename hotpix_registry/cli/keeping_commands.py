"""Commands about the registry as a thing to keep: export, backup, verify, relocate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hotpix_registry import settings
from hotpix_registry.cli.opening import open_registry
from hotpix_registry.cli.options import AnyCamera, Database, Format, OutputFormat
from hotpix_registry.cli.output import (
    count,
    labelled_progress_bar,
    out,
    print_changes,
    print_json,
    progress_bar,
    say,
)
from hotpix_registry.errors import IntegrityError, SomeRefused, UsageError
from hotpix_registry.files import is_sqlite

if TYPE_CHECKING:
    from hotpix_registry.registry.merging import MergeReport
    from hotpix_registry.registry.portability import Copied


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hotpix-registry export aspen.sqlite --camera aspen")(export)
    app.command(epilog="Example: hotpix-registry backup /backups/registry.sqlite --replace")(backup)
    app.command(epilog="Example: hotpix-registry verify --fix --from /backups/registry.sqlite")(verify)
    app.command(epilog="Example: hotpix-registry relocate /data/darks /archive/2026/darks --dry-run")(
        relocate
    )


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
        open_registry(database) as registry,
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
        open_registry(database) as registry,
        labelled_progress_bar("Copying", unit="rows") as update,
    ):
        copied = registry.backup(file, replace=replace, progress=update)
    _tell(copied, fmt, "saved")


def verify(
    frames: Annotated[
        bool | None,
        typer.Option(
            "--frames/--no-frames",
            help="Look at the frames on disk; by default, unless this is an export or a mirror.",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Compare sizes and times of frames only.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be made again.")] = False,
    backup: Annotated[
        Path | None,
        typer.Option("--from", metavar="BACKUP", help="With --fix: take damaged masks from this file."),
    ] = None,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Check every digest, every promise of the database, the frames on disk and the cached files."""
    if backup is not None and not fix:
        raise UsageError("--from goes with --fix.", next_step="Add --fix.")
    if backup is not None and not is_sqlite(backup):
        raise UsageError(f"{backup} is no backup.", next_step="Name a file that `backup` wrote.")
    with open_registry(database) as registry, labelled_progress_bar("Verifying") as update:
        found = registry.verify(frames=frames, quick=quick, fix=fix, backup=backup, progress=update)
    if fmt is not Format.TABLE:
        print_json(found.as_dict())
    else:
        for finding in found.findings:
            out(f"{finding.where}: {finding.problem}. {'Mended.' if finding.fixed else finding.cure}")
    looked_at = _listed(found.checked)
    if found.amiss:
        raise IntegrityError(
            f"{count(len(found.amiss), 'thing')} amiss in {found.registry} ({looked_at} checked).",
            next_step="Each line says what to do."
            if fmt is Format.TABLE
            else "Each finding says what to do.",
        )
    say(f"{found.registry} is as it was written ({looked_at} checked).")


def relocate(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The folder where the frames were.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The folder where they are.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look and tell, and write nothing.")] = False,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Tell where frames are after their archive moved; only the same bytes are believed."""
    with open_registry(database) as registry, progress_bar("Looking", unit="frames") as update:
        report = registry.relocate(old, new, dry_run=dry_run, progress=update)
    if fmt is not Format.TABLE:
        print_json(report.as_dict())
    else:
        for _, path, why in report.unmatched:
            out(f"{path}: {why}")
    would_be = "would be" if dry_run else "are"
    say(f"{count(len(report.moved), 'frame')} {would_be} at their new place.")
    if report.unmatched:
        raise SomeRefused(
            f"{count(len(report.unmatched), 'frame')} not found under {new}, and known under {old} still.",
            next_step="Bring them there and run it again.",
        )


def import_registry(
    file: Path,
    given: Mapping[str, object],
    *,
    certify: bool,
    reason: str | None,
    fmt: Format,
    database: str | None,
) -> None:
    """The part of `import` that takes a registry's file: a move where nothing is yet, else a merge.

    `given` are the options that belong to masks alone.
    """
    from hotpix_registry.catalogue.engine import parse_url
    from hotpix_registry.registry import portability

    if wrong := [option for option, value in given.items() if value is not None]:
        raise UsageError(
            f"{file} is a registry, which knows its own cameras and dates.",
            next_step=f"Leave out {wrong[0]}.",
        )
    with labelled_progress_bar("Copying", unit="rows") as update:
        moved = portability.move_in(file, parse_url(settings.database_url(database)), update)
    if moved is not None:
        if fmt is not Format.TABLE:
            print_json(moved.as_dict())
            return
        held = f"{count(moved.rows['masks'], 'mask')}, {count(moved.rows['frames'], 'frame')}"
        say(f"{moved.path} is registry {moved.registry_id} now, up to transaction {moved.tx}: {held}.")
        return
    with open_registry(database) as registry:
        report = registry.merge(file, certify=certify, reason=reason)
    if fmt is not Format.TABLE:
        print_json(report.as_dict())
        return
    _tell_merged(report)


def _tell_merged(report: MergeReport) -> None:
    for mask in report.masks:
        status = "certified" if mask["mask_id"] in report.certified else "candidate"
        there = mask["from"]
        out(
            f"Mask {mask['mask_id']}, version {mask['version']}, {status} "
            f"(there mask {there['mask_id']}, version {there['version']})"
        )
    print_changes(tuple(report.changes))
    for difference in report.differing:
        say(f"Warning: {difference}")
    say(f"From registry {report.registry_id}, new: {_listed(report.new)}; known: {_listed(report.known)}.")


def _listed(numbers: Mapping[str, int]) -> str:
    """`1 camera, 22 frames`."""
    nouns = {
        noun: noun if noun == "series" or n != 1 else noun.removesuffix("s") for noun, n in numbers.items()
    }
    return ", ".join(f"{n} {nouns[noun]}" for noun, n in numbers.items() if n) or "nothing"


def _tell(copied: Copied, fmt: Format, done: str) -> None:
    if fmt is not Format.TABLE:
        print_json(copied.as_dict())
        return
    out(copied.path)
    held = f"{count(copied.rows['masks'], 'mask')}, {count(copied.rows['frames'], 'frame')}"
    say(f"{held} of registry {copied.registry_id} {done} and verified, up to transaction {copied.tx}.")
