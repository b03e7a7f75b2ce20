"""What reaches the screen: data on standard output, progress and messages on standard error."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hotpix_registry import tables
from hotpix_registry.cli.garbage import expect_work
from hotpix_registry.cli.options import Format
from hotpix_registry.cli.table import table_lines

if TYPE_CHECKING:
    from hotpix_registry.answers import Weighed
    from hotpix_registry.registry.masks import MaskChange


_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def visible(text: str) -> str:
    """A text whose control characters are seen and not obeyed: a file's name may move a terminal's cursor."""
    return text if text.isprintable() else text.translate(_CONTROL)


def say(message: str) -> None:
    """A message for a person, on standard error."""
    sys.stderr.write(visible(message) + "\n")


def count(number: int, noun: str) -> str:
    """`1 frame`, `2 frames`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def out(text: str) -> None:
    """A line of data, on standard output."""
    sys.stdout.write(text + "\n")


def print_json(value: Any) -> None:
    out(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_rows(
    rows: Sequence[Mapping[str, Any]], fmt: Format, *, columns: Mapping[str, str], nothing: str
) -> None:
    """Print records: a table of some columns for people, everything for machines.

    Parameters
    ----------
    columns
        key → heading, for the table
    nothing
        what a person is told when there are no rows
    """
    match fmt:
        case Format.JSON:
            print_json(list(rows))
        case Format.CSV:
            sys.stdout.write(tables.csv_text(rows, list(columns)))
        case Format.ECSV:
            sys.stdout.write(tables.ecsv_text(rows, list(columns)))
        case Format.TABLE if not rows:
            say(nothing)
        case Format.TABLE:
            print_table([[_cell(row.get(key)) for key in columns] for row in rows], list(columns.values()))


def print_table(cells: Sequence[Sequence[str]], headings: Sequence[str]) -> None:
    """A table that fits a terminal; elsewhere one line a row, for tools that look for words in lines."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in table_lines(cells, headings, width=width):
        out(visible(line))


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


@contextmanager
def progress_bar(label: str, *, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error when that is a terminal; nothing otherwise."""
    with labelled_progress_bar(label, unit=unit) as update:
        yield lambda done, total: update(label, done, total)


@contextmanager
def labelled_progress_bar(label: str, *, unit: str = "") -> Iterator[Callable[[str, int, int], None]]:
    """A bar whose label changes with the work; a new label begins a new bar."""
    expect_work()
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    counted = [MofNCompleteColumn(), TextColumn(unit)] if unit else [TextColumn("{task.percentage:>3.0f} %")]
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *counted,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        tasks: dict[str, Any] = {}

        def update(text: str, done: int, total: int) -> None:
            if text not in tasks:
                tasks[text] = progress.add_task(text, total=total)
            progress.update(tasks[text], completed=done, total=total)

        yield update


def flag_counts(counts: dict[str, int]) -> str:
    """`208 HOT, 25 STUCK`."""
    return ", ".join(f"{n} {name}" for name, n in counts.items() if n and name != "BAD") or "no flags"


def print_changes(changes: Sequence[MaskChange]) -> None:
    """Which dates now answer otherwise, a line each."""
    for change in changes:
        before, after = (
            "no mask" if mask_id is None else f"mask {mask_id}" for mask_id in (change.before, change.after)
        )
        print_dates(change.valid_from, change.valid_to, f"{after} instead of {before}")


def say_what_needs_rebuild(rows: Sequence[Mapping[str, Any]]) -> None:
    """Of masks as `masks` lists them, why those that answer or may answer need a rebuild."""
    for row in rows:
        if row["needs_rebuild"] and row["status"] in ("certified", "candidate"):
            say(f"Warning: mask {row['mask_id']}: {row['rebuild_reason']}")


def print_dates(valid_from: str | None, valid_to: str | None, what: str) -> None:
    """What becomes of some dates, as one line below what it is about."""
    out(f"  from {valid_from} to {valid_to or 'further notice'}: {what}")


def print_explanation(explanation: Sequence[Weighed]) -> None:
    """Each mask that might answer, by each criterion, nearest first; on standard error."""
    for weighed in explanation:
        name = "no mask" if weighed.mask_id is None else f"mask {weighed.mask_id}, version {weighed.version},"
        verdict = "chosen" if weighed.chosen else "agrees" if weighed.passed else "does not answer"
        say(f"{name} of {weighed.series}: {verdict}")
        width = max(len(criterion.name) for criterion in weighed.criteria)
        for criterion in weighed.criteria:
            mark = "yes" if criterion.passed else "NO "
            within = f" (within {criterion.tolerance})" if criterion.tolerance else ""
            say(
                f"  {mark} {criterion.name.ljust(width)}  wanted {criterion.wanted}{within}, "
                f"found {criterion.found}"
            )
