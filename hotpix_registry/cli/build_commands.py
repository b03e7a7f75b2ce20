"""The command build: what it takes, and what it tells of one camera's build."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotpix_registry.cli import fleet
from hotpix_registry.cli.opening import open_registry
from hotpix_registry.cli.options import (
    Database,
    Format,
    Nights,
    OutputFormat,
    Scheduler,
    parse_exposures,
    parse_nights,
)
from hotpix_registry.cli.output import (
    flag_counts,
    labelled_progress_bar,
    out,
    print_changes,
    print_json,
    print_rows,
    say,
)
from hotpix_registry.domain import Rule
from hotpix_registry.errors import HotpixError, UsageError

if TYPE_CHECKING:
    from hotpix_registry.domain import Frame, Recipe
    from hotpix_registry.registry.masks import BuildResult, Plan


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hotpix-registry build --camera aspen --exposures 90,1000")(build)


def build(
    camera: Annotated[
        list[str] | None,
        typer.Option(
            "--camera",
            metavar="NAME",
            help="Camera, by name or alias; with --all it may be given several times.",
            show_default=False,
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Whatever lacks a mask of the recipe, of every camera, in parallel.")
    ] = False,
    nights: Nights = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="NIGHT", help="Campaigns of this night and later ones."),
    ] = None,
    exposures: Annotated[
        str | None, typer.Option("--exposures", metavar="S,S", help="Only these exposure times: 90,1000.")
    ] = None,
    rule: Annotated[
        Rule | None, typer.Option("--rule", help="How measurements become flags; default by what there is.")
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option(
            "--limit", metavar="auto|E_PER_S", help="Consistency limit on the shorter exposure, in e-/s."
        ),
    ] = None,
    cutoff: Annotated[
        float | None,
        typer.Option(
            "--cutoff", metavar="E_PER_S", min=0.0, max=1e9, help="Cut-off for one exposure time, in e-/s."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="RECIPE",
            help="In place of --rule, --limit and --cutoff: as `recipe diff` names it, or a file.",
            show_default=False,
        ),
    ] = None,
    candidates: Annotated[
        bool, typer.Option("--candidates", help="With --all: certify nothing; `recipe rollout` may do so.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            metavar="N",
            min=1,
            help="With --all: so many processes of this machine; by default one for each processor.",
            show_default=False,
        ),
    ] = None,
    scheduler: Scheduler = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which frames pair, and why others do not; build nothing.")
    ] = False,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Build hot-pixel masks from catalogued darks, one for each campaign.

    With --all that is done for whatever lacks one, several at a time. Killed or run twice at once, nothing
    is built twice: run it again to go on.
    """
    span, seconds = _span_of(nights, since), parse_exposures(exposures)
    wanted: dict[str, Any] = {
        "nights": span,
        "exposures_s": seconds,
        "recipe": _recipe_of(recipe, rule, limit, cutoff),
    }
    if every:
        fleet.build_all(
            database, camera or (), wanted, jobs, scheduler, candidates=candidates, dry_run=dry_run, fmt=fmt
        )
        return
    if jobs is not None or scheduler is not None or candidates:
        raise UsageError(
            "--jobs, --scheduler and --candidates go with --all.",
            next_step="Add --all; --camera still holds.",
        )
    if camera is None or len(camera) != 1:
        raise UsageError("Of which camera is not said.", next_step="Give one --camera, or --all.")
    with open_registry(database) as registry:
        if dry_run:
            _print_plan(registry.plan(camera[0], nights=span, exposures_s=seconds), fmt)
            return
        failures: list[HotpixError] = []
        with labelled_progress_bar("Building") as bar:
            results = registry.build(
                camera[0],
                **wanted,
                progress=bar,
                failed=lambda _, error: failures.append(error),
            )
    _print_results(results, fmt)
    for failure in failures[1:]:
        say(f"hotpix-registry: {failure}")
    if failures:
        raise failures[0]
    if results and all(result.status == "candidate" for result in results):
        raise fleet.only_candidates()


def _recipe_of(name: str | None, rule: Rule | None, limit: str | None, cutoff: float | None) -> Recipe | None:
    if name is None:
        from hotpix_registry.registry.question import parse_recipe

        return parse_recipe(rule, limit, cutoff)
    from hotpix_registry.registry.recipes import named_recipe

    named = named_recipe(name)
    if named.is_current or (rule, limit, cutoff) != (None, None, None):
        raise UsageError(
            f"{name} is not built." if named.is_current else "--recipe says what --rule and its numbers do.",
            next_step="Name a recipe by --recipe alone, such as evidence+limit=4.",
        )
    return named.recipe


def _span_of(nights: str | None, since: str | None) -> tuple[str, str] | None:
    if since is None:
        return parse_nights(nights)
    if nights is not None:
        raise UsageError("--nights and --since say the same.", next_step="Leave one of them out.")
    first = parse_nights(since)
    return first and (first[0], "9999-12-31")


def _print_plan(plan: Plan, fmt: Format) -> None:
    if fmt is not Format.TABLE:
        print_json(plan.as_dict())
        return
    for campaign in plan.campaigns:
        out(f"{campaign.series}, {_span([campaign.first_night, campaign.last_night])}:")
        for dark_set in (*([campaign.biases] if campaign.biases else []), *campaign.sets):
            n = len(dark_set.frames)
            what = (
                ("bias" if n == 1 else "biases")
                if dark_set.exptime_s == 0
                else ("dark" if n == 1 else "darks")
            )
            of = f" of {dark_set.exptime_s:g} s" if dark_set.exptime_s else ""
            borrowed = ", borrowed" if dark_set.borrowed else ""
            out(f"  {n} {what}{of}, {_span([frame.night for frame in dark_set.frames])}{borrowed}")
        if len(campaign.sets) == 1:
            out("  one exposure time only: the cut-off decides, not a comparison")
        _print_reasons(campaign.refused)
    if plan.strays:
        out("In no campaign:")
        _print_reasons(plan.strays)
    if not plan.campaigns:
        say("Nothing would be built.")


def _span(nights: list[str]) -> str:
    first, last = min(nights), max(nights)
    return first if first == last else f"{first} to {last}"


def _print_reasons(refused: Sequence[tuple[Frame, str]]) -> None:
    """A line for each reason, whatever numbers it quotes, with the nights of its frames."""
    alike: defaultdict[str, list[tuple[Frame, str]]] = defaultdict(list)
    for frame, reason in refused:
        alike[re.sub(r"-?\d+(\.\d+)?", "…", reason)].append((frame, reason))
    for left_out in sorted(alike.values(), key=len, reverse=True):
        reason = left_out[0][1] + (" (and alike)" if len({why for _, why in left_out}) > 1 else "")
        shown = ", ".join(Path(frame.name).name for frame, _ in left_out[:4])
        if len(left_out) > 4:
            nights = _span([frame.night for frame, _ in left_out])
            shown += f", and {len(left_out) - 4} more of {nights}"
        out(f"  left out, {reason}: {shown}")


def _print_results(results: list[BuildResult], fmt: Format) -> None:
    if fmt is not Format.TABLE:
        print_rows([r.as_dict() for r in results], fmt, columns={}, nothing="")
        return
    for result in results:
        nights = _span(list(result.nights))
        known = "" if result.new else " (built before, nothing new)"
        out(f"Mask {result.mask_id}, version {result.version} of {result.series}, {result.status}{known}")
        exposures = ", ".join(f"{seconds:g}" for seconds in result.exposures_s)
        out(f"  darks of {nights}: {exposures} s; pedestal from {result.bias_method}")
        out(f"  {result.limit_reason}")
        share = 100 * result.flagged / result.pixels
        out(f"  {result.flagged} of {result.pixels} pixels masked ({share:.3g} %)")
        out(f"  {flag_counts(result.counts)}")
        for gate in result.failed_gates:
            out(f"  failed the gate {gate}")
        for warning in result.warnings:
            say(f"  Warning: {warning}")
        print_changes(result.changes)
