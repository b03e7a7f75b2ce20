"""What is shown while campaigns are built in bulk, and what `build --all` tells at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hotpix_registry.cli.opening import open_registry
from hotpix_registry.cli.options import Format
from hotpix_registry.cli.output import count, print_json, print_rows, say
from hotpix_registry.errors import HotpixError, SomeRefused

if TYPE_CHECKING:
    from hotpix_registry.registry.tallies import CameraTally, FleetReport, Note

_LINE_EVERY_S = 60.0
_SHOWN = 10
"""campaigns that are told for each camera; the others are in `--format json`"""


def build_all(
    database: str | None,
    cameras: Sequence[str],
    wanted: Mapping[str, Any],
    jobs: int | None,
    scheduler: str | None,
    *,
    candidates: bool,
    dry_run: bool,
    fmt: Format,
) -> None:
    """Build whatever lacks a mask of a recipe, and sum up.

    Raises
    ------
    SomeRefused
        Some campaigns could not be built, or only candidates were.
    """
    with open_registry(database) as registry:
        if dry_run:
            _print(registry.survey_builds(cameras, **wanted), fmt)
            return
        started = time.monotonic()
        with shown() as progress:
            report = registry.build_all(cameras, **wanted, jobs=jobs, scheduler=scheduler, progress=progress)
    _print(report, fmt)
    if report.built:
        say(f"Built {count(report.built, 'mask')} in {_time(time.monotonic() - started)}.")
    elif not report.failed:
        say("There was nothing to build.")
    refuse_bugs(report.bugs)
    if report.failed:
        raise SomeRefused(
            f"{count(report.failed, 'campaign')} of {report.campaigns} could not be built.",
            next_step="The others were; once the causes are cured, the same command builds what is missing.",
        )
    if report.built and report.built == report.candidates and not candidates:
        raise only_candidates()


def refuse_bugs(number: int) -> None:
    """End with the exit code of a failure where campaigns met mistakes of this program.

    Raises
    ------
    HotpixError
    """
    if number:
        raise HotpixError(
            f"{count(number, 'campaign')} met a mistake in hotpix-registry itself.",
            next_step="Report it with the traceback above; all others were built.",
        )


def only_candidates() -> SomeRefused:
    return SomeRefused(
        "Only candidates were built.", next_step="Look at them with `show`, then `certify ID`."
    )


def _print(report: FleetReport, fmt: Format) -> None:
    if fmt is Format.JSON:
        print_json(report.as_dict())
        return
    print_rows(
        [_row(tally) for tally in report.cameras],
        fmt,
        columns={
            "camera": "camera",
            "campaigns": "campaigns",
            "known": "had a mask",
            "built": "built",
            "candidates": "of them candidates",
            "revoked": "revoked before",
            "failed": "failed",
            "to_build": "to build",
        },
        nothing="There is no camera yet.",
    )
    if fmt is not Format.TABLE:
        return
    for tally in report.cameras:
        _say_notes(tally.candidates, "a candidate")
        _say_notes(tally.revoked, "left alone")
        _say_notes(tally.failed, "failed")


def _row(tally: CameraTally) -> dict[str, Any]:
    return {
        "camera": tally.camera,
        "campaigns": tally.campaigns,
        "known": tally.known,
        "built": tally.built,
        "candidates": len(tally.candidates),
        "revoked": len(tally.revoked),
        "failed": len(tally.failed),
        "to_build": tally.campaigns - tally.done,
    }


def _say_notes(notes: Sequence[Note], what: str) -> None:
    for note in notes[:_SHOWN]:
        mask = "" if note.mask_id is None else f"mask {note.mask_id}, "
        say(f"{note.series}, {note.first_night}: {mask}{what}: {note.reason} {note.next_step}".rstrip())
    if len(notes) > _SHOWN:
        say(f"  … and {len(notes) - _SHOWN} more of {notes[0].series.partition(' ')[0]} (`--format json`)")


# --- while it goes on ----------------------------------------------------------------------


@contextmanager
def shown() -> Iterator[Callable[[FleetReport], None]]:
    """Bars of the whole and of the cameras at work on a terminal; elsewhere a line each minute."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[also]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=600) as bars:
        whole = bars.add_task("All campaigns", total=None, also="")
        of_camera: dict[str, Any] = {}
        told: FleetReport | None = None

        def update(report: FleetReport) -> None:
            nonlocal told
            if told is not report:  # of another recipe
                bars.reset(whole)
                while of_camera:
                    bars.remove_task(of_camera.popitem()[1])
                told = report
            bars.update(whole, completed=report.done, total=report.campaigns, also=_also(report))
            for tally in report.cameras:
                begun, ended = tally.built + len(tally.failed) > 0, tally.done == tally.campaigns
                if begun and not ended and tally.camera not in of_camera:
                    of_camera[tally.camera] = bars.add_task(tally.camera, total=tally.campaigns, also="")
                if (bar := of_camera.get(tally.camera)) is not None:
                    bars.update(bar, completed=tally.done, visible=not ended)

        yield update


def _lines() -> Callable[[FleetReport], None]:
    began = told = time.monotonic()
    before, of = 0, None

    def update(report: FleetReport) -> None:
        nonlocal began, told, before, of
        now, worked = time.monotonic(), report.built + report.failed
        if of is not report:
            of, began, before = report, now, worked
        if now - told < _LINE_EVERY_S:
            return
        told, left = now, ""
        if worked > before:
            left = (
                f", about {_time((now - began) / (worked - before) * (report.campaigns - report.done))} left"
            )
        at = next((tally.camera for tally in report.cameras if tally.done < tally.campaigns), "")
        say(f"{report.done} of {report.campaigns} campaigns, at {at}{left}{_also(report)}")

    return update


def _also(report: FleetReport) -> str:
    parts = []
    if report.failed:
        parts.append(f"{report.failed} failed")
    if report.elsewhere:
        parts.append(f"{report.elsewhere} with another run")
    return "; " + ", ".join(parts) if parts else ""


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
