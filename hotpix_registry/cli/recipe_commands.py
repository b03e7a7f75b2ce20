"""Commands about recipes: what another one would change, rolling it out, going back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotpix_registry.cli import fleet
from hotpix_registry.cli.opening import open_registry
from hotpix_registry.cli.options import (
    Database,
    Expect,
    Format,
    Nights,
    OutputFormat,
    Reason,
    Scheduler,
    parse_nights,
)
from hotpix_registry.cli.output import (
    count,
    labelled_progress_bar,
    out,
    print_changes,
    print_dates,
    print_json,
    print_rows,
    say,
)
from hotpix_registry.errors import SomeRefused, UsageError

if TYPE_CHECKING:
    from hotpix_registry.registry.rollout import Compared, Rollout

recipe_app = typer.Typer(
    help="Recipes: what another one would change, rolling it out, going back.",
    epilog="Example: hotpix-registry recipe diff current evidence --camera aspen",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    app.add_typer(recipe_app, name="recipe")


Old = Annotated[
    str,
    typer.Argument(
        metavar="OLD",
        help="`current`, whatever certified masks were made by; or only those of a recipe, as NEW.",
    ),
]
New = Annotated[
    str,
    typer.Argument(
        metavar="NEW",
        help="`default`, a RULE, RULE=NUMBER (limit=4, evidence+limit=auto, cutoff=1.5), FILE.toml or .json.",
    ),
]
Cameras = Annotated[
    list[str] | None,
    typer.Option("--camera", metavar="NAME", help="Camera, by name or alias; may be repeated."),
]
AllCameras = Annotated[bool, typer.Option("--all", help="All cameras.")]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        metavar="N",
        min=1,
        help="Build in so many processes of this machine; by default one campaign after the other.",
        show_default=False,
    ),
]


def _cameras(names: list[str] | None, everyone: bool) -> list[str] | None:
    if bool(names) == everyone:
        raise UsageError("Which cameras are meant is not said.", next_step="Give --camera NAME, or --all.")
    return None if everyone else names


# --- show, diff -------------------------------------------------------------------------


@recipe_app.command("show", epilog="Example: hotpix-registry recipe show evidence+limit > new.toml")
def show(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A RULE, RULE=NUMBER, FILE.toml or FILE.json.")
    ],
    fmt: OutputFormat = Format.TABLE,
) -> None:
    """Print a recipe's numbers, as the file that `recipe diff` takes: to change one of them."""
    from hotpix_registry.registry.recipes import as_toml, named_recipe

    named = named_recipe(recipe)
    if named.recipe is None:
        raise UsageError(
            f"'{recipe}' means more than one recipe.", next_step="Name a rule, such as evidence+limit."
        )
    if fmt is Format.TABLE:
        out(as_toml(named.recipe).rstrip())
    else:
        print_json(named.recipe.as_dict())


@recipe_app.command("diff", epilog="Example: hotpix-registry recipe diff current limit=4 --camera aspen")
def diff(
    old: Old,
    new: New,
    camera: Cameras = None,
    everyone: AllCameras = False,
    nights: Nights = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Build candidates by a new recipe beside the certified masks, and show what it would change.

    Nothing is certified, and what was built before is not built again: when it was interrupted, run it again.
    For many campaigns --jobs or --scheduler builds several at a time, as `build --all` does.
    """
    names, span = _cameras(camera, everyone), parse_nights(nights)
    with open_registry(database) as registry, _building(jobs, scheduler) as how:
        compared = registry.compare_recipes(old, new, cameras=names, nights=span, **how)
    _print(compared, fmt)
    fleet.refuse_bugs(compared.bugs)
    if fmt is not Format.TABLE:
        return
    if any(one.dates for one in compared.campaigns):
        whose = "--all" if everyone else " ".join(f"--camera {name}" for name in compared.cameras)
        within = f" --nights {nights}" if nights else ""
        say(
            f"`hotpix-registry recipe rollout {old} {new} {whose}{within} --expect {compared.tx} --reason …`"
            " makes it so."
        )
    else:
        say("No date would be answered otherwise.")


def _print(compared: Rollout, fmt: Format) -> None:
    if fmt is Format.JSON:
        print_json(compared.as_dict())
        return
    rows = [_row(one) for one in compared.campaigns]
    columns = {
        "camera": "camera",
        "darks": "darks of",
        "set_point": "series",
        "before": "mask",
        "after": "new mask",
        "flagged_before": "masked",
        "flagged_after": "then",
        "new": "new",
        "vanished": "vanished",
        "jaccard": "Jaccard",
        "outcome": "outcome",
    }
    if fmt is not Format.TABLE:
        print_rows(
            [one.as_dict() | {"dates": len(one.dates)} for one in compared.campaigns],
            fmt,
            columns=dict.fromkeys(columns, ""),
            nothing="",
        )
        return
    print_rows(rows, fmt, columns=columns, nothing="There are no campaigns, and no certified masks.")
    for one in compared.campaigns:
        _print_details(one)
    if len(compared.cameras) > 1:
        out("")
        for summary in compared.by_camera():
            out(_summary(summary))
    out(_summary(compared.total() | {"camera": "All together"}))


def _row(one: Compared) -> dict[str, Any]:
    first, last = one.nights
    told = one.as_dict()
    return told | {
        "darks": first if first == last else f"{first} to {last}",
        "set_point": one.series.removeprefix(one.camera).strip(),
    }


def _print_details(one: Compared) -> None:
    if not (one.dates or one.why or one.notes):
        return
    out(f"{one.series}, darks of {one.nights[0]}: {one.outcome}")
    if one.why:
        out(f"  {one.why}")
    for note in one.notes:
        out(f"  {note}")
    print_changes(one.dates)


def _summary(summary: dict[str, Any]) -> str:
    outcomes = [
        f"{summary[key]} {words}"
        for key, words in (
            ("changed", "changed"),
            ("same_pixels", "with the same pixels"),
            ("same_mask", "made by the new recipe already"),
            ("refused", "refused by gates"),
            ("not_built", "not built"),
            ("left_alone", "left alone"),
        )
        if summary[key]
    ]
    told = f"{summary['camera']}: {count(summary['campaigns'], 'campaign')}"
    if outcomes:
        told += f" ({', '.join(outcomes)})"
    if summary["flagged_before"] or summary["flagged_after"]:
        told += (
            f", {summary['flagged_before']} pixels masked before and {summary['flagged_after']} after "
            f"({summary['new']} new, {summary['vanished']} vanished)"
        )
    return f"{told}, {count(summary['intervals'], 'interval')} of dates."


@contextmanager
def _building(jobs: int | None, scheduler: str | None) -> Iterator[dict[str, Any]]:
    """How masks are built, and what is shown meanwhile."""
    if jobs is None and scheduler is None:
        with labelled_progress_bar("Building") as bar:
            yield {"progress": bar}
    else:
        with fleet.shown() as progress:
            yield {"jobs": jobs, "scheduler": scheduler, "fleet_progress": progress}


# --- rollout, rollback ------------------------------------------------------------------


@recipe_app.command(
    "rollout",
    epilog="Example: hotpix-registry recipe rollout current limit=4 --camera aspen --expect 57 --reason …",
)
def rollout(
    old: Old,
    new: New,
    reason: Reason,
    camera: Cameras = None,
    everyone: AllCameras = False,
    nights: Nights = None,
    expect: Expect = None,
    force: Annotated[bool, typer.Option("--force", help="Certify also what quality gates refuse.")] = False,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Leave what cannot be built, or what gates refuse, as it is."),
    ] = False,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Certify the masks of a new recipe in place of the old ones: all in one transaction, or none.

    Each new mask holds exactly the dates that the old one of its campaign held. Campaigns without a
    certified mask, revoked masks, and masks that were imported or edited by hand are left alone. Receipts
    and `--as-of` give the old masks as before; `recipe rollback` gives them their dates back.
    """
    names, span = _cameras(camera, everyone), parse_nights(nights)
    with open_registry(database) as registry, _building(jobs, scheduler) as how:
        done = registry.roll_out(
            old,
            new,
            cameras=names,
            nights=span,
            expect=expect,
            force=force,
            partial=partial,
            reason=reason,
            **how,
        )
    _print(done, fmt)
    if fmt is Format.TABLE:
        _say_how_to_go_back(done)
    fleet.refuse_bugs(done.bugs)
    outcomes = Counter(one.outcome for one in done.campaigns)
    left_out = outcomes["not built"] + (0 if force else outcomes["refused"])
    if left_out:
        raise SomeRefused(
            f"{count(left_out, 'campaign')} of {len(done.campaigns)} kept what they had.",
            next_step="The list says why.",
        )


def _say_how_to_go_back(done: Rollout) -> None:
    tx = done.rolled_out_tx
    if tx is None:
        say("No date is answered otherwise, and nothing was written.")
        return
    say(
        f"Rolled out as transaction {tx}. `hotpix-registry recipe rollback {tx} --reason …` goes back; "
        f"`--as-of {tx - 1}` answers as before; `hotpix-registry affected --since tx{tx - 1} FILE…` lists "
        "science frames that get another mask now."
    )


@recipe_app.command(
    "rollback", epilog="Example: hotpix-registry recipe rollback 58 --reason 'too many pixels of the glow'"
)
def rollback(
    tx: Annotated[int, typer.Argument(metavar="TX", help="The rollout, as `log` lists it.")],
    reason: Reason,
    expect: Expect = None,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Give the dates that a rollout gave away back to the masks that held them, in one transaction.

    What was done to these dates since, by new campaigns, events or people, stays.
    """
    with open_registry(database) as registry:
        done = registry.roll_back(tx, expect=expect, reason=reason)
    if fmt is not Format.TABLE:
        print_json(done.as_dict())
        return
    out(f"Rollout {tx} is taken back by transaction {done.tx}.")
    print_changes(done.changes)
    for one in done.kept:
        why = f"mask {one.mask_id} stays, since mask {one.instead_of} is {one.status}"
        print_dates(one.valid_from, one.valid_to, why)
