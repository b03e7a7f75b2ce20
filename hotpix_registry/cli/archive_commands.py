"""Commands about archives: identify, survey."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hotpix_registry.cli.opening import open_registry
from hotpix_registry.cli.options import Database, Format, OutputFormat
from hotpix_registry.cli.output import count, out, print_json, print_rows, print_table, progress_bar, say
from hotpix_registry.errors import HotpixError, NoMask, SomeRefused, UsageError

if TYPE_CHECKING:
    from hotpix_registry.planning import Campaign
    from hotpix_registry.registry.identify import CandidateCamera, Identification
    from hotpix_registry.registry.survey import Survey

_MOST_CANDIDATES = 5


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: hotpix-registry identify old-master-dark.fits")(identify)
    app.command(epilog="Example: hotpix-registry survey -r /data/archive")(survey)


# --- identify -----------------------------------------------------------------------------


def identify(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE…", help="Darks, or any long exposures; FITS, or their URLs.")
    ],
    camera: Annotated[
        str | None, typer.Option("--camera", metavar="NAME", help="Compare with this camera's masks only.")
    ] = None,
    fmt: OutputFormat = Format.TABLE,
    database: Database = None,
) -> None:
    """Say which camera took a frame, in which orientation and about when, by its hot pixels.

    The hottest pixels of a frame are compared with all masks of the catalogue. Exits with 3 when no
    camera fits, or when the frame has too few hot pixels to tell.
    """
    for file in files:
        if os.path.isdir(file):
            hint = f"Name the frames in it, such as {file}/*.fits."
            raise UsageError(f"{file} is a folder.", next_step=hint)
    failures: list[tuple[str, HotpixError]] = []
    with open_registry(database) as registry:
        answers = registry.identify_each(
            files,
            camera=camera,
            failed=None if len(files) == 1 else lambda path, error: failures.append((path, error)),
        )
        found = [_printed(answer) for answer in answers] if fmt is Format.TABLE else list(answers)
    if fmt is Format.JSON:
        print_json([answer.as_dict() for answer in found])
    elif fmt is not Format.TABLE:
        print_rows([_row(answer) for answer in found], fmt, columns={}, nothing="")
    for path, error in failures:
        say(f"{path}: {error}")
    if failures:
        raise SomeRefused(f"{count(len(failures), 'file')} of {len(files)} could not be read.")
    _raise_unless_identified(found)


def _printed(answer: Identification) -> Identification:
    for line in _sentences(answer):
        out(line)
    if answer.candidates:
        cells = [_cells(candidate) for candidate in answer.candidates[:_MOST_CANDIDATES]]
        headings = (
            "  camera",
            "mask",
            "nights",
            "orientation",
            "shift",
            "common",
            "by chance",
            "probability",
        )
        print_table(cells, headings)
    return answer


def _cells(candidate: CandidateCamera) -> list[str]:
    found = candidate.overlap
    return [
        f"  {candidate.camera}",
        str(candidate.mask_id),
        _span(candidate.nights),
        str(found.orientation),
        "{:d},{:d}".format(*found.shift),
        f"{found.common} of {found.compared}",
        f"{found.expected:.2g}",
        _power(candidate.log10_chance),
    ]


def _power(log10: float) -> str:
    return f"{10**log10:.2g}" if log10 > -4 else f"10^{log10:.0f}"


def _sentences(answer: Identification) -> list[str]:
    """The verdict on a frame, and what follows from it."""
    from hotpix_registry.registry.identify import Verdict

    best = answer.best
    match answer.verdict:
        case Verdict.IDENTIFIED if best is not None:
            found = best.overlap
            lies = str(found.orientation)
            if found.shift != (0, 0):
                lies += " and shifted by {:d},{:d}".format(*found.shift)
            if found.frame_binning > 1:
                lies += f", binned {found.frame_binning} x {found.frame_binning} against the mask"
            if found.mask_binning > 1:
                lies += f", unbinned against a mask of {found.mask_binning} x {found.mask_binning}"
            verdict = (
                f"{answer.path}: camera {best.camera}, {lies}. Of its {found.compared} hottest pixels "
                f"{100 * found.share:.0f} % are flagged in mask {best.mask_id}; the probability of that by "
                f"chance is {_power(best.log10_chance)}."
            )
            return [verdict, *_margin(answer), *_epoch(answer), *_strangers(answer), *_header(answer)]
        case Verdict.AMBIGUOUS:
            names = " and ".join(answer.rivals)
            return [f"{answer.path}: the masks of {names} all fit: they are of one sensor.", *_header(answer)]
        case Verdict.CANNOT_TELL:
            return [
                f"{answer.path}: it cannot be told; it has {count(answer.hot_pixels, 'hot pixel')}, too few."
            ]
        case _ if not answer.candidates:
            return [f"{answer.path}: none of the catalogue's cameras; no mask has a frame of its size."]
        case _:
            compared = count(answer.masks_compared, "mask")
            return [
                f"{answer.path}: none of the catalogue's cameras; its {answer.hot_pixels} hot pixels fit "
                f"no better than by chance ({compared} compared)."
            ]


def _margin(answer: Identification) -> list[str]:
    if len(answer.candidates) < 2:
        return []
    second = answer.candidates[1]
    found = second.overlap
    return [f"  Second comes {second.camera} with {found.common} of {found.compared}."]


def _epoch(answer: Identification) -> list[str]:
    epoch = answer.epoch
    if epoch is None:
        return []
    good, all_of_them = epoch.campaigns
    if all_of_them == 1:
        return ["  About when cannot be told: the camera has masks of one campaign only."]
    if not epoch.is_told:
        return [f"  About when cannot be told: the {all_of_them} campaigns of the camera fit alike."]
    when = f"  It fits best the campaign of {_span(epoch.nights)} (mask {epoch.mask_id})"
    if good == 1:
        lines = [f"{when}, and none other of {all_of_them} as well."]
    else:
        lines = [f"{when}; {good} of {all_of_them} fit about as well, {_span(epoch.span)}."]
    if epoch.header_fits is False:
        lines.append(f"  Its header says {answer.header_night}, which is another epoch.")
    return lines


def _strangers(answer: Identification) -> list[str]:
    """Masks of one camera that cannot be of one sensor: two bodies under one name, or a new detector."""
    if answer.epoch is None or not answer.epoch.strangers:
        return []
    strangers = answer.epoch.strangers
    which, do = ("Masks", "do") if len(strangers) > 1 else ("Mask", "does")
    return [
        f"  {which} {', '.join(map(str, strangers))} of the same camera {do} not fit at all: another body "
        "under one name, or a new detector.",
        f"  `hotpix-registry cameras split {answer.camera} NEW --nights A..B` tells them apart.",
    ]


def _span(nights: tuple[str, str]) -> str:
    first, last = nights
    return first if first == last else f"{first} to {last}"


def _header(answer: Identification) -> list[str]:
    """What the header and the catalogue say, where that needs saying."""
    camera, frame = answer.camera, answer.frame
    lines = []
    if frame is not None:
        twin = f", the same exposure as frame {frame.twin_of}" if frame.twin_of is not None else ""
        lines.append(f"  It is catalogued as frame {frame.frame_id} of camera {frame.camera}{twin}.")
    if camera is None:
        return lines
    if answer.header_agrees:
        said = f"Its header says camera {camera} too."
    elif answer.header_cameras:
        said = f"Its header says camera {' or '.join(answer.header_cameras)}, its hot pixels say {camera}."
    elif answer.header_instrument is None:
        said = "Its header names no camera."
    else:
        said = f"Its header says '{answer.header_instrument}', which is no registered camera."
    lines.append(f"  {said}")
    if frame is not None and frame.camera != camera:
        lines.append(
            f"  Correct it with `hotpix-registry frames fix {frame.frame_id} --set camera={camera} "
            "--reason 'its hot pixels'`."
        )
    elif frame is None and not answer.header_agrees and (answer.header_kind or not answer.header_type):
        kind = "" if answer.header_type else " --type dark"
        lines.append(
            f"  If it is a dark, `hotpix-registry ingest --camera {camera}{kind} {answer.path}` takes it."
        )
    return lines


def _row(answer: Identification) -> dict[str, object]:
    values = answer.as_dict()
    best = answer.best
    return {key: values[key] for key in ("path", "verdict", "camera", "orientation", "chance")} | {
        "common": None if best is None else best.overlap.common,
        "compared": None if best is None else best.overlap.compared,
        "epoch": None if answer.epoch is None else f"{answer.epoch.span[0]}..{answer.epoch.span[1]}",
        "header_cameras": " ".join(answer.header_cameras),
        "header_agrees": answer.header_agrees,
        "frame_id": values["frame_id"],
    }


def _raise_unless_identified(answers: list[Identification]) -> None:
    from hotpix_registry.registry.identify import Verdict

    missed = [answer for answer in answers if answer.verdict is not Verdict.IDENTIFIED]
    if not missed:
        return
    if len(answers) > 1:
        raise NoMask(
            f"{len(missed)} of {len(answers)} frames could not be identified.",
            next_step="See the verdict on each.",
        )
    answer = missed[0]
    match answer.verdict:
        case Verdict.AMBIGUOUS:
            first, second, *_ = answer.rivals
            raise NoMask(
                f"{answer.path} fits the cameras {' and '.join(answer.rivals)} alike.",
                next_step=f"If they are one body, `hotpix-registry cameras merge {second} {first}` says so.",
            )
        case Verdict.CANNOT_TELL:
            raise NoMask(
                f"{answer.path} has too few hot pixels to tell its camera.",
                next_step="Take a longer or a warmer exposure, or a master of several.",
            )
        case _:
            raise NoMask(
                f"{answer.path} fits no camera of the catalogue.",
                next_step="Ingest and build darks of the camera that may have taken it, then try again.",
            )


# --- survey -------------------------------------------------------------------------------


def survey(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH…", help="Folders, files, globs, @list.txt, or - for a list on standard input."
        ),
    ],
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Descend into folders, not into links to them.")
    ] = False,
    profiles: Annotated[
        list[Path] | None,
        typer.Option(
            "--profile", metavar="FILE", help="A camera or keyword profile to try; may be repeated."
        ),
    ] = None,
    fmt: OutputFormat = Format.TABLE,
) -> None:
    """Say what an archive holds, what of it would make masks, and what stands in the way.

    Reads headers only, and needs no database. CSV and ECSV hold the table of frames alone.
    """
    from hotpix_registry.registry import ingest
    from hotpix_registry.registry import survey as use_case

    rules, cameras = use_case.load_profiles(profiles or [])
    files = ingest.find_files(paths, recursive=recursive)
    with progress_bar("Reading headers", unit="files") as bar:
        found = use_case.survey(files, rules, cameras, progress=bar)
    match fmt:
        case Format.JSON:
            print_json(found.as_dict())
        case Format.TABLE:
            _print_survey(found)
        case _:
            print_rows([group.as_dict() for group in found.groups], fmt, columns=_GROUP_COLUMNS, nothing="")
    _say_summary(found, recursive)


_GROUP_COLUMNS = {
    "camera": "camera",
    "configuration": "configuration",
    "set_point_c": "°C",
    "kind": "kind",
    "exptime_s": "s",
    "year": "year",
    "frames": "frames",
    "nights": "nights",
}


def _print_survey(found: Survey) -> None:
    if found.groups:
        rows = [group.as_dict() for group in found.groups]
        print_rows(rows, Format.TABLE, columns=_GROUP_COLUMNS, nothing="")
    if found.campaigns:
        out("\nWhat would make masks:")
        headings = ("camera", "°C", "configuration", "nights", "darks", "biases", "decided by")
        print_table([_campaign_cells(campaign) for campaign in found.campaigns], headings)
    if found.problems:
        out("\nWhat stands in the way:")
    for problem in found.problems:
        whose = "" if problem.camera is None else f" of {problem.camera}"
        out(f"- {count(problem.count, problem.unit)}{whose}: {problem.problem}")
        if problem.cure:
            out(f"    {problem.cure}")
        for example in problem.examples[:3]:
            out(f"    {example}")
        if problem.count > 3:
            out(f"    … and {problem.count - 3} more")


def _campaign_cells(campaign: Campaign) -> list[str]:
    first, last = campaign.first_night, campaign.last_night
    point = campaign.series.set_point_c
    darks = [
        f"{len(s.frames)} x {s.exptime_s:g} s" + (f" (borrowed, {s.frames[0].night})" if s.borrowed else "")
        for s in campaign.sets
    ]
    biases = campaign.biases
    return [
        campaign.series.camera,
        "-" if point is None else f"{point:g}",
        str(campaign.series.configuration),
        first if first == last else f"{first}..{last}",
        ", ".join(darks),
        "-" if biases is None else f"{len(biases.frames)}{' (borrowed)' if biases.borrowed else ''}",
        "comparison" if len(campaign.sets) > 1 else "cut-off",
    ]


def _say_summary(found: Survey, recursive: bool) -> None:
    other = ", ".join(f"{number} {kind}" for kind, number in found.other.most_common(5))
    say(
        f"{count(found.files, 'file')}: {found.used} darks, biases and masters of "
        f"{count(len(found.cameras), 'camera')} ({found.duplicates} saved twice); "
        f"{found.other.total()} of no use here{f' ({other})' if other else ''}; "
        f"{len(found.rejected)} cannot be used as they are."
    )
    compared = sum(len(campaign.sets) > 1 for campaign in found.campaigns)
    say(
        f"{count(len(found.campaigns), 'campaign')} would make a mask each, {compared} by comparing "
        f"exposures; {count(len(found.problems), 'problem')}."
    )
    if not found.used and not recursive:
        say("Give -r to descend into folders.")
    elif found.used:
        say("Next: `hotpix-registry ingest` of the same paths.")
