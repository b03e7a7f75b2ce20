"""Commands about the life of masks: certify, revoke, decertify, epoch events, releases, the log."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from hotpix_registry.cli.opening import open_registry
from hotpix_registry.cli.options import (
    AnyCamera,
    AnyReason,
    AsOf,
    Camera,
    Database,
    Expect,
    Format,
    MaskId,
    OfCamera,
    OutputFormat,
    Reason,
    Supersede,
)
from hotpix_registry.cli.output import out, print_changes, print_dates, print_json, print_rows, say
from hotpix_registry.instants import iso

event_app = typer.Typer(
    help="Epoch events: what ends the life of earlier masks.",
    epilog="Example: hotpix-registry event add --camera aspen --date 2019-03-04 --kind warmup",
    no_args_is_help=True,
)
release_app = typer.Typer(
    help="Releases: named states of the registry that never change.",
    epilog="Example: hotpix-registry release create 2026B",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hotpix-registry certify 3 --reason 'looked at the plots'")(certify)
    app.command(epilog="Example: hotpix-registry revoke 3 --reason 'shutter leaked light'")(revoke)
    app.command(epilog="Example: hotpix-registry decertify 3 --restore-previous --reason 'wrong gain'")(
        decertify
    )
    app.add_typer(event_app, name="event")
    app.add_typer(release_app, name="release")
    app.command(epilog="Example: hotpix-registry log --last 20")(log)
    app.command(epilog="Example: hotpix-registry history --camera aspen")(history)


# --- certify, revoke, decertify ---------------------------------------------------------


def certify(
    mask_id: MaskId,
    valid_from: Annotated[
        str | None,
        typer.Option(
            "--valid-from",
            metavar="DATE",
            help="First instant; a bare date is the beginning of that night.",
            show_default=False,
        ),
    ] = None,
    valid_to: Annotated[
        str | None,
        typer.Option(
            "--valid-to",
            metavar="DATE",
            help="The instant from which on it holds no more; a bare date is the beginning of that night.",
            show_default=False,
        ),
    ] = None,
    supersede: Supersede = False,
    force: Annotated[
        bool, typer.Option("--force", help="Although a quality gate refused it; needs --reason.")
    ] = False,
    expect: Expect = None,
    camera: OfCamera = None,
    reason: AnyReason = None,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Let a mask answer for its dates.

    By default from the first night of its darks (the first campaign of an epoch reaches back) to the
    next campaign or epoch event. Filling in and rebuilding are ordinary; any other overlap needs
    --supersede, also where the dates are given. Prints which dates answer otherwise from now on.
    """
    with open_registry(database) as registry:
        changes = registry.certify(
            mask_id,
            valid_from=valid_from,
            valid_to=valid_to,
            supersede=supersede,
            force=force,
            expect=expect,
            camera=camera,
            reason=reason,
        )
    if fmt is not Format.TABLE:
        print_json({"mask_id": mask_id, "changes": [change.as_dict() for change in changes]})
        return
    out(f"Mask {mask_id} is certified." if changes else f"Mask {mask_id} held these dates already.")
    print_changes(changes)


def revoke(
    mask_id: MaskId,
    reason: Reason,
    undo: Annotated[bool, typer.Option("--undo", help="Take a revocation back.")] = False,
    expect: Expect = None,
    camera: OfCamera = None,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Declare a mask unusable: its dates are an error from now on, until another supersedes it.

    Nothing slides to a neighbour silently. Receipts of earlier answers still give the mask, and say so.
    """
    with open_registry(database) as registry:
        if undo:
            held = registry.lift_revocation(mask_id, expect=expect, camera=camera, reason=reason)
        else:
            held = registry.revoke(mask_id, expect=expect, camera=camera, reason=reason)
    if fmt is not Format.TABLE:
        dates = [{"from": iso(v.start_us), "to": iso(v.end_us)} for v in held]
        print_json({"mask_id": mask_id, "revoked": not undo, "dates": dates})
        return
    out(f"The revocation of mask {mask_id} is lifted." if undo else f"Mask {mask_id} is revoked.")
    for validity in held:
        told = "answered again" if undo else "an error from now on"
        print_dates(iso(validity.start_us), iso(validity.end_us), told)
    if not held and not undo:
        out("  it holds no dates; a mask that was edited from it answers on, with a warning")


def decertify(
    mask_id: MaskId,
    reason: Reason,
    restore_previous: Annotated[
        bool,
        typer.Option(
            "--restore-previous",
            help="Give the dates back to the masks that held them, save those revoked or decertified since.",
        ),
    ] = False,
    expect: Expect = None,
    camera: OfCamera = None,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Take all dates from a mask; it stays, and can be certified again."""
    with open_registry(database) as registry:
        withdrawal = registry.decertify(
            mask_id, restore_previous=restore_previous, expect=expect, camera=camera, reason=reason
        )
    if fmt is not Format.TABLE:
        print_json({"mask_id": mask_id} | withdrawal.as_dict())
        return
    out(f"Mask {mask_id} holds no dates any more.")
    print_changes(withdrawal.changes)
    for one in withdrawal.withheld:
        why = f"not given back to mask {one.mask_id}, which is {one.status}: no mask answers"
        print_dates(one.valid_from, one.valid_to, why)


# --- events -----------------------------------------------------------------------------


class Kind(StrEnum):
    ANNEAL = "anneal"
    WARMUP = "warmup"
    REPAIR = "repair"
    CONTROLLER = "controller"
    SWAP = "swap"


@event_app.command(
    "add",
    epilog="Example: hotpix-registry event add --camera aspen --date 2019-03-04 --kind warmup --trim",
)
def add_event(
    camera: Camera,
    date: Annotated[
        str,
        typer.Option(
            "--date", metavar="DATE", help="An instant, or a night, at whose beginning the event then lies."
        ),
    ],
    kind: Annotated[Kind, typer.Option("--kind", help="What happened.")],
    note: Annotated[str, typer.Option("--note", help="More about it; it is kept.")] = "",
    trim: Annotated[
        bool, typer.Option("--trim", help="Cut what masks hold across an event in the past.")
    ] = False,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Note what changed a detector: no mask, campaign, borrowing or fallback crosses it from now on."""
    with open_registry(database) as registry:
        result = registry.add_event(camera, date, kind.value, note=note, trim=trim)
    if fmt is not Format.TABLE:
        print_json(result.as_dict())
        return
    out(f"Event {result.event_id}, {result.kind} at {result.at}, ends an epoch of camera {camera}.")
    print_changes(result.changes)
    if result.needs_rebuild:
        out(f"  darks on both sides of it went into mask {', '.join(map(str, result.needs_rebuild))}")
    if any(change.after is None for change in result.changes):
        say("`hotpix-registry certify ID` lets the first mask after an event reach back to it.")


@event_app.command("list", epilog="Example: hotpix-registry event list --camera aspen")
def list_events(camera: Camera, fmt: OutputFormat = Format.TABLE, database: Database = None) -> None:
    """List the epoch events of a camera."""
    with open_registry(database) as registry:
        rows = registry.list_events(camera).items
    columns = {"event_id": "id", "at": "at", "kind": "kind", "note": "note"}
    print_rows(rows, fmt, columns=columns, nothing=f"Camera {camera} has no epoch events.")


@event_app.command(
    "remove", epilog="Example: hotpix-registry event remove 2 --camera aspen --reason mistyped"
)
def remove_event(
    event_id: Annotated[int, typer.Argument(metavar="ID", help="An event, as `event list` shows it.")],
    camera: Camera,
    reason: Reason,
    database: Database = None,
) -> None:
    """Take an event back; masks keep the dates that they hold now."""
    with open_registry(database) as registry:
        event = registry.remove_event(camera, event_id, reason=reason)
    out(f"Event {event_id}, {event.kind} at {iso(event.at_us)}, is removed.")


# --- releases ---------------------------------------------------------------------------


@release_app.command("create", epilog="Example: hotpix-registry release create 2026B --note 'data release 3'")
def create_release(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, '-', '_' and '.'.")],
    as_of: AsOf = None,
    note: Annotated[str, typer.Option("--note", help="More about it; it is kept.")] = "",
    database: Database = None,
) -> None:
    """Freeze the state of now, or of an earlier moment, under a name."""
    with open_registry(database) as registry:
        release = registry.create_release(name, as_of=as_of, note=note)
    out(f"Release {name} is the registry as of transaction {release.at_tx} ({iso(release.at_us)}).")


@release_app.command("list", epilog="Example: hotpix-registry release list --format json")
def list_releases(fmt: OutputFormat = Format.TABLE, database: Database = None) -> None:
    """List the releases."""
    with open_registry(database) as registry:
        rows = registry.list_releases().items
    columns = {name: name for name in ("name", "tx", "at", "created", "note")}
    print_rows(rows, fmt, columns=columns, nothing="There is no release yet.")


# --- who did what -----------------------------------------------------------------------


def log(
    last: Annotated[
        int, typer.Option("--last", metavar="N", min=1, max=1_000_000, help="How many acts.")
    ] = 50,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Show who wrote what, when, why, from which host and with which version; the newest last."""
    with open_registry(database) as registry:
        rows = registry.log(newest=last)
    for row in rows:
        row["deeds"] = ", ".join(row["did"])
    columns = {
        "tx": "tx",
        "at": "at",
        "actor": "who",
        "host": "host",
        "software": "with",
        "action": "act",
        "deeds": "what",
        "reason": "why",
    }
    if fmt is not Format.TABLE:
        for row in rows:
            del row["deeds"]
    print_rows(rows, fmt, columns=columns, nothing="Nothing has been written yet.")


def history(
    mask_id: Annotated[
        int | None, typer.Argument(metavar="[ID]", help="Only this mask.", show_default=False)
    ] = None,
    camera: AnyCamera = None,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Show every interval that masks ever held: who gave it, who ended it, when and why."""
    with open_registry(database) as registry:
        rows = registry.history(camera=camera, mask_id=mask_id)
    if fmt is not Format.TABLE:
        print_rows(rows, fmt, columns={}, nothing="")
        return
    for row in rows:
        row["given"], row["ended"] = _act(row["opened"]), _act(row["closed"])
        row["valid_to"] = row["valid_to"] or "open"
        row["mask"] = f"{row['mask_id']}{' (revoked)' if row['revoked'] else ''}"
    columns = {
        "mask": "mask",
        "series": "series",
        "valid_from": "from",
        "valid_to": "to",
        "given": "given",
        "ended": "ended",
    }
    print_rows(rows, fmt, columns=columns, nothing="No mask has held any date yet.")


def _act(act: dict[str, Any] | None) -> str:
    if act is None:
        return ""
    why = f": {act['reason']}" if act["reason"] else ""
    return f"{act['at'][:19]}Z {act['actor']}, {act['action']}{why}"
