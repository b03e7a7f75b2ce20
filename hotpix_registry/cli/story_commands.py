"""Commands about what happened: diff, affected, coverage, trend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotpix_registry.cli.opening import open_registry
from hotpix_registry.cli.options import (
    AnyCamera,
    AsOf,
    Camera,
    Database,
    Format,
    OutputFormat,
    ReleaseName,
)
from hotpix_registry.cli.output import (
    count,
    labelled_progress_bar,
    out,
    print_dates,
    print_json,
    print_rows,
    print_table,
    say,
)
from hotpix_registry.errors import SomeRefused, UsageError
from hotpix_registry.instants import iso

if TYPE_CHECKING:
    from hotpix_registry.registry.compare import Affected, DatesChange, MaskDiff
    from hotpix_registry.registry.coverage import Coverage, SeriesCoverage, Stretch
    from hotpix_registry.registry.trend import Trend


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hotpix-registry diff 3 5 -o diff.png; hotpix-registry diff 2026A 2026B")(
        diff
    )
    app.command(epilog="Example: hotpix-registry affected --since 2026A '/data/science/*.fits'")(affected)
    app.command(epilog="Example: hotpix-registry coverage --camera aspen -o coverage.png")(coverage)
    app.command(epilog="Example: hotpix-registry trend --camera aspen --flag HOT -o trend.png")(trend)


Picture = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE.png", help="Draw a picture too.", show_default=False),
]


def _draw(path: Path, picture: bytes) -> None:
    from hotpix_registry.files import write_atomic

    say(f"Drawn to {write_atomic(path, picture)}.")


def _check_picture(path: Path | None) -> None:
    if path is not None and path.suffix.lower() != ".png":
        raise UsageError(f"The picture {path} would be a PNG file.", next_step="Name it FILE.png.")


# --- diff -------------------------------------------------------------------------------


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A mask's number; or a release, tx12, or a time.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another of the same kind; or `now`.")],
    camera: AnyCamera = None,
    output: Picture = None,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Compare two masks pixel by pixel, or two states of the registry date by date.

    A number is a mask. A release, a transaction such as tx12 and a time are states of the registry.
    """
    from hotpix_registry.registry.compare import DatesChange, check_alike

    _check_picture(output)
    of_masks = check_alike(a, b, camera=camera)
    with open_registry(database) as registry:
        if of_masks:
            compared = registry.diff_masks(int(a), int(b))
            if output is not None:
                _draw(output, registry.draw_diff(compared))
            _print_diff(compared, fmt)
            return
        if output is not None:
            raise UsageError("A picture shows two masks, not two states.", next_step="Omit -o.")
        changes = registry.diff_states(a, b, camera=camera)
    if fmt is Format.TABLE:
        _print_dates(changes)
        if not changes:
            say("No date is answered otherwise.")
        return
    columns = {name: name for name in DatesChange.__slots__}
    print_rows([change.as_dict() for change in changes], fmt, columns=columns, nothing="")


def _print_diff(compared: MaskDiff, fmt: Format) -> None:
    if fmt is Format.JSON:
        print_json(compared.as_dict())
        return
    records = compared.rows()
    columns = {"of": "", "name": "", "vanished": "vanished", "new": "new", "common": "common"}
    if fmt is not Format.TABLE:
        print_rows(records, fmt, columns=columns, nothing="")
        return
    for name, told in (("From", compared.a), ("to", compared.b)):
        out(
            f"{name} mask {told['mask_id']}, version {told['version']} of {told['series']}, "
            f"{told['status']}, darks of {told['first_night']}"
        )
    for note in compared.notes:
        say(f"Note: {note}")
    print_rows(records, fmt, columns=columns, nothing="")
    out(f"{compared.jaccard:.1%} of what either masks by default, both do.")


def _print_dates(changes: Sequence[DatesChange]) -> None:
    series = None
    for change in changes:
        if change.series != series:
            series = change.series
            out(series)
        before = _mask(change.before, change.before_status)
        after = _mask(change.after, change.after_status)
        print_dates(change.valid_from, change.valid_to, f"{after} instead of {before}")


def _mask(mask_id: int | None, status: str) -> str:
    if mask_id is None:
        return {"none": "no mask", "no-mask": "no mask"}.get(status, status.replace("-", " "))
    return f"mask {mask_id}, revoked," if status == "revoked" else f"mask {mask_id}"


# --- affected ---------------------------------------------------------------------------


def affected(
    since: Annotated[
        str, typer.Option("--since", metavar="RELEASE|TIME|TX", help="The state to compare today's with.")
    ],
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE…", help="Science frames: files, folders, globs, @list.txt, or -."),
    ] = None,
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Descend into folders.")] = False,
    camera: Annotated[
        str | None,
        typer.Option(
            "--camera",
            metavar="NAME",
            help="Only this camera; of files, the one that took them.",
            show_default=False,
        ),
    ] = None,
    fail_on_rejected: Annotated[
        bool, typer.Option("--fail-on-rejected", help="Exit with 8 when a file cannot be asked for.")
    ] = False,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """List the dates, and of science frames those, that get another mask now than they did.

    With files, CSV and ECSV list the frames; without, the dates.
    """
    with (
        open_registry(database) as registry,
        labelled_progress_bar("Reading headers", unit="files") as bar,
    ):
        told = registry.affected(since, files or (), recursive=recursive, camera=camera, progress=bar)
    _print_affected(told, fmt, with_files=bool(files))
    for path, reason in told.rejected:
        say(f"Rejected {path}: {reason}")
    if fail_on_rejected and told.rejected:
        raise SomeRefused(f"Rejected {count(len(told.rejected), 'file')}.")


def _print_affected(told: Affected, fmt: Format, *, with_files: bool) -> None:
    if fmt is Format.JSON:
        print_json(told.as_dict())
        return
    if fmt is not Format.TABLE:
        changes = told.frames if with_files else told.dates
        columns = {name: name for name in (FRAME_COLUMNS if with_files else DatesChange.__slots__)}
        print_rows([change.as_dict() for change in changes], fmt, columns=columns, nothing="")
        return
    _print_dates(told.dates)
    for frame in told.frames:
        before, after = _mask(frame.before, frame.before_status), _mask(frame.after, frame.after_status)
        out(f"{frame.path}: {after} instead of {before}")
    if with_files:
        say(f"{len(told.frames)} of {count(told.frames_read, 'frame')} would get another mask.")
    elif not told.dates:
        say("No date is answered otherwise.")


FRAME_COLUMNS = ("path", "camera", "date", "before", "before_status", "after", "after_status")


# --- coverage ---------------------------------------------------------------------------

_BAR_WIDTH = 76
_MARKS = {"certified": "#", "stale": "~", "revoked": "R", "gap": "."}


def coverage(
    camera: Camera,
    as_of: AsOf = None,
    release: ReleaseName = None,
    output: Picture = None,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Show which dates of a camera have a mask, how old its darks are then, and what closes the gaps."""
    _check_picture(output)
    with open_registry(database) as registry:
        told = registry.coverage(camera, as_of=as_of, release=release)
        if output is not None:
            _draw(output, registry.draw_coverage(told))
    if fmt is Format.JSON:
        print_json(told.as_dict())
    elif fmt is Format.TABLE:
        _print_coverage(told)
    else:
        rows = [{"series": one.series} | s.as_dict() for one in told.series for s in one.stretches]
        names = ("series", "valid_from", "valid_to", "mask_id", "version", "status")
        print_rows(rows, fmt, columns={name: name for name in names}, nothing="")


def _print_coverage(told: Coverage) -> None:
    out(f"Camera {told.camera} from {_day(told.start_us)} to {_day(told.end_us)}")
    if not told.series:
        say(f"There are no darks and no masks of camera {told.camera}.")
    for one in told.series:
        out("")
        out(f"{one.series}: {one.covered:.1%} of the time has a certified mask")
        out(f"  {_bar(told, one)}")
        _print_stretches(told, one)
        for stretch in one.stretches:
            for cure in stretch.cures:
                out(f"  {_day_of(stretch.valid_from)}: {cure}")
        if one.candidates:
            out(f"  candidates wait: {', '.join(f'mask {mask_id}' for mask_id in one.candidates)}")
    if told.series:
        say("\n# certified   ~ certified, darks too old   R revoked   . no mask   | epoch event")


def _print_stretches(told: Coverage, one: SeriesCoverage) -> None:
    lines = [(s.valid_from, [_day_of(s.valid_from), *_cells(s), ""]) for s in one.stretches]
    for event in told.events:
        told_at = iso(event.at_us) or ""
        lines.append((told_at, [told_at[:10], "", "", "", event.kind, "", "", "", "", event.note]))
    lines.sort(key=lambda line: (line[0], line[1][1] != ""))
    headings = ["from", "to", "mask", "version", "status", "darks of", "age", "to age", "stale from", "note"]
    if not any(event.note for event in told.events):
        del headings[-1]
        lines = [(at, cells[:-1]) for at, cells in lines]
    print_table([["  " + cells[0], *cells[1:]] for _, cells in lines], ["  " + headings[0], *headings[1:]])


def _cells(stretch: Stretch) -> list[str]:
    until = "open" if stretch.valid_to is None else _day_of(stretch.valid_to)
    if stretch.darks is None:
        return [until, "-", "-", "gap", "-", "-", "-", "-"]
    nights = " to ".join(dict.fromkeys(stretch.darks))
    ages = [str(stretch.age_at_start_days), str(stretch.age_at_end_days)]
    stale = "-" if stretch.stale_from is None else _day_of(stretch.stale_from)
    return [until, str(stretch.mask_id), str(stretch.version), stretch.status, nights, *ages, stale]


def _bar(told: Coverage, one: SeriesCoverage) -> str:
    step_us = (told.end_us - told.start_us) / _BAR_WIDTH
    marks = []
    for cell in range(_BAR_WIDTH):
        at_us = int(told.start_us + (cell + 0.5) * step_us)
        stretch = next((s for s in one.stretches if s.validity.contains(at_us)), None)
        marks.append(_MARKS[_status_at(stretch, at_us)])
    for event in told.events:
        marks[min(max(int((event.at_us - told.start_us) / step_us), 0), _BAR_WIDTH - 1)] = "|"
    return "".join(marks)


def _status_at(stretch: Stretch | None, at_us: int) -> str:
    if stretch is None:
        return "gap"
    stale = stretch.stale_from is not None and (iso(at_us) or "") >= stretch.stale_from
    return "stale" if stale and stretch.status == "certified" else stretch.status


def _day(instant_us: int) -> str:
    return (iso(instant_us) or "")[:10]


def _day_of(instant: str) -> str:
    return instant[:10]


# --- trend ------------------------------------------------------------------------------


def trend(
    camera: Camera,
    flag: Annotated[
        str, typer.Option("--flag", metavar="NAME|FLAGS", help="A flag, a preset, or 'HOT|UNSTABLE'.")
    ] = "HOT",
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", metavar="C", help="Only series at this set point.", show_default=False),
    ] = None,
    output: Picture = None,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Follow hot pixels through the years: counts, births, deaths, and those that come and go.

    One mask speaks for each campaign: the certified one, else the newest that is not revoked. Only
    masks of the same rule and exposure times are compared.
    """
    _check_picture(output)
    with open_registry(database) as registry:
        told = registry.trend(camera, flag=flag, temperature_c=temperature)
        if output is not None:
            _draw(output, registry.draw_trends(camera, told))
    if fmt is Format.JSON:
        print_json([one.as_dict() for one in told])
        return
    if fmt is not Format.TABLE:
        rows = [
            {"series": one.series, "made": one.made, "flag": one.flag} | campaign.as_dict()
            for one in told
            for campaign in one.campaigns
        ]
        print_rows(rows, fmt, columns={}, nothing="")
        return
    for number, one in enumerate(told):
        if number:
            out("")
        _print_trend(one)


_TREND_COLUMNS = {
    "first_night": "darks of",
    "mask_id": "mask",
    "status": "status",
    "limit_text": "e-/s",
    "count": "pixels",
    "born": "born",
    "returned": "returned",
    "died": "died",
    "born_per_year": "born/yr",
    "died_per_year": "died/yr",
    "of_the_first": "of the first",
    "events_text": "epoch events",
}


def _print_trend(told: Trend) -> None:
    out(f"{told.flag} pixels of {told.series} ({told.made})")
    rows: list[dict[str, Any]] = [
        campaign.as_dict()
        | {
            "limit_text": "" if campaign.limit_e_per_s is None else f"{campaign.limit_e_per_s:.3g}",
            "events_text": ", ".join(campaign.events),
        }
        for campaign in told.campaigns
    ]
    columns = dict(_TREND_COLUMNS)
    if not any(campaign.events for campaign in told.campaigns):
        del columns["events_text"]
    print_rows(rows, Format.TABLE, columns=columns, nothing="")
    if len(told.campaigns) > 1:
        share = told.intermittent / told.ever if told.ever else 0.0
        out(
            f"{told.ever} pixels ever, {told.always} always, {told.intermittent} came back after they had "
            f"vanished ({share:.1%})"
        )
    if told.half_life_years is not None:
        out(f"At this rate half of them vanish within {told.half_life_years:g} years.")
    for note in told.notes:
        say(f"Note: {note}")
