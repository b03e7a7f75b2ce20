"""Commands about masks: build, mask, masks, show, report, certify, demo."""

from __future__ import annotations

import sys
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotpix_registry.cli.options import (
    AnyCamera,
    Camera,
    Database,
    Format,
    Nights,
    OutputFormat,
    parse_exposures,
    parse_nights,
)
from hotpix_registry.cli.output import labelled_progress_bar, out, print_json, print_rows, print_table, say
from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.errors import HotpixError, SomeRefused, UsageError
from hotpix_registry.registry import Mask, Registry
from hotpix_registry.registry.masks import BuildResult, MaskChange, Plan

if TYPE_CHECKING:
    from hotpix_registry.planning import Campaign


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hotpix-registry build --camera aspen --exposures 90,1000")(build)
    app.command(epilog="Example: hotpix-registry mask --camera aspen --date 2018-08-22")(mask)
    app.command(epilog="Example: hotpix-registry masks --camera aspen")(masks)
    app.command(epilog="Example: hotpix-registry show 3")(show)
    app.command(epilog="Example: hotpix-registry plot 3 -o plots")(plot)
    app.command(epilog="Example: hotpix-registry certify 3 --reason 'looked at the plots'")(certify)
    app.command(epilog="Example: hotpix-registry demo -o demo")(demo)


# --- build ----------------------------------------------------------------------------


def build(
    camera: Camera,
    nights: Nights = None,
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which frames pair, and why others do not; build nothing.")
    ] = False,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Build hot-pixel masks from the catalogued darks of a camera, one for each campaign."""
    span, seconds = parse_nights(nights), parse_exposures(exposures)
    recipe = _recipe(rule, limit, cutoff)
    with Registry(database, create=False) as registry:
        if dry_run:
            _print_plan(registry.plan(camera, nights=span, exposures_s=seconds), fmt)
            return
        failures: list[HotpixError] = []
        with labelled_progress_bar("Building") as bar:
            results = registry.build(
                camera,
                nights=span,
                exposures_s=seconds,
                recipe=recipe,
                progress=bar,
                failed=lambda _, error: failures.append(error),
            )
    _print_results(results, fmt)
    for failure in failures[1:]:
        say(f"hotpix-registry: {failure}")
    if failures:
        raise failures[0]
    if results and all(result.status == "candidate" for result in results):
        raise SomeRefused(
            "Only candidates were built.", next_step="Look at them with `show`, then `certify ID`."
        )


def _recipe(rule: Rule | None, limit: str | None, cutoff: float | None) -> Recipe | None:
    if limit is not None and cutoff is not None:
        raise UsageError("A limit and a cut-off exclude each other.", next_step="Give one of them.")
    values: dict[str, Any] = {}
    if rule is not None:
        values["rule"] = rule
    if limit is not None and limit != "auto":
        try:
            values["limit_e_per_s"] = float(limit)
        except ValueError:
            values["limit_e_per_s"] = -1.0
        if not 0 < values["limit_e_per_s"] <= 1e9:
            raise UsageError(f"'{limit}' is no limit.", next_step="Write auto, or e-/s such as 4.")
    if cutoff is not None:
        values |= {"rule": values.get("rule", Rule.CUTOFF), "cutoff_e_per_s": cutoff}
    if rule in (Rule.PERSIST, Rule.IMPORT, Rule.EDIT):
        raise UsageError(f"Rule {rule} is not built from darks.", next_step="Choose limit, cutoff or none.")
    return Recipe(**values) if values else None


def _print_plan(plan: Plan, fmt: Format) -> None:
    if fmt is not Format.TABLE:
        print_json(
            {
                "campaigns": [_campaign_dict(campaign) for campaign in plan.campaigns],
                "strays": [{"frame_id": f.frame_id, "path": f.name, "reason": r} for f, r in plan.strays],
            }
        )
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
        _print_reasons([(f.name, r) for f, r in campaign.refused])
    if plan.strays:
        out("In no campaign:")
        _print_reasons([(f.name, r) for f, r in plan.strays])
    if not plan.campaigns:
        say("Nothing would be built.")


def _span(nights: list[str]) -> str:
    first, last = min(nights), max(nights)
    return first if first == last else f"{first} to {last}"


def _print_reasons(refused: list[tuple[str, str]]) -> None:
    for reason, count in Counter(reason for _, reason in refused).most_common():
        names = [Path(name).name for name, why in refused if why == reason]
        shown = ", ".join(names[:4]) + (f", and {count - 4} more" if count > 4 else "")
        out(f"  left out, {reason}: {shown}")


def _campaign_dict(campaign: Campaign) -> dict[str, Any]:
    return {
        "series": str(campaign.series),
        "first_night": campaign.first_night,
        "last_night": campaign.last_night,
        "inputs": [
            {"frame_id": f.frame_id, "role": role, "exptime_s": f.exptime_s, "path": f.name}
            for f, role in campaign.inputs
        ],
        "refused": [{"frame_id": f.frame_id, "path": f.name, "reason": r} for f, r in campaign.refused],
    }


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
        out(f"  {result.flagged} of {result.pixels} pixels masked ({share:.3g} %): {_counts(result.counts)}")
        for gate in result.failed_gates:
            out(f"  failed the gate {gate}")
        for warning in result.warnings:
            say(f"  Warning: {warning}")
        _print_changes(result.changes)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.items() if n and name != "BAD") or "no flags"


def _print_changes(changes: tuple[MaskChange, ...]) -> None:
    for change in changes:
        before = "no mask" if change.before is None else f"mask {change.before}"
        out(f"  from {change.valid_from} to {change.valid_to or 'further notice'}: instead of {before}")


# --- mask -----------------------------------------------------------------------------


class MaskFormat(StrEnum):
    PATH = "path"
    JSON = "json"
    FITS = "fits"
    NPY = "npy"


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
    content = _npy(found) if fmt is MaskFormat.NPY else registry.mask_file(found.answer.mask_id)
    if output is not None:
        from hotpix_registry.files import write_atomic

        written = write_atomic(output, content)
        if fmt is MaskFormat.JSON:
            print_json(found.answer.as_dict() | {"path": str(written)})
        else:
            out(str(written))
        return
    if sys.stdout.isatty():
        raise UsageError("A terminal cannot show a mask.", next_step="Write it to a file with -o FILE.")
    sys.stdout.buffer.write(content)


def _npy(found: Mask) -> bytes:
    import io

    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, found.array, allow_pickle=False)
    return buffer.getvalue()


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
    out(f"  {_counts(details['counts'])}")
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
    _print_changes(changes)


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
