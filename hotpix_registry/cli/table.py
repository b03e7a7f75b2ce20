"""Tables for people: as wide as they need to be, or folded where a terminal is narrower than that."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_GAP = "  "
_LEAST_TEXT = 24
"""columns of a terminal below which a text is not folded in its place"""


@dataclass(slots=True)
class _Column:
    heading: str
    cells: Sequence[str]
    width: int
    is_text: bool

    @property
    def is_constant(self) -> bool:
        return self.is_text and len(self.cells) > 1 and len(set(self.cells)) == 1


def table_lines(
    cells: Sequence[Sequence[str]], headings: Sequence[str], *, width: int | None = None
) -> list[str]:
    """Columns with numbers to the right, one line a row, where that fits or `width` is None.

    Where it does not, headings are folded first. What all rows have in common is told once, above the
    table. Then the widest text is folded in its place, or told below its row where there is no room.
    """
    columns = [
        _Column(heading, [row[i] for row in cells], 0, not all(_is_number(row[i]) for row in cells))
        for i, heading in enumerate(headings)
    ]
    for column in columns:
        column.width = max(map(len, (column.heading, *column.cells)))
    if width is None or _total(columns) <= width:
        return list(_lines(columns, [], len(cells), 0))
    for column in columns:
        column.width = max(map(len, (*column.heading.split(), *column.cells, "")))
    shown = list(columns)
    while _total(shown) > width and len(shown) > 1:
        movable = [column for column in reversed(shown[1:]) if column.is_text] or shown[-1:]
        widest = max(movable, key=lambda column: (column.is_constant, column.width))
        room = width - _total(shown) + widest.width
        if room >= _LEAST_TEXT and not widest.is_constant:
            widest.width = room
        else:
            shown.remove(widest)
    shown[0].width = min(shown[0].width, width)
    moved = [column for column in columns if not any(column is other for other in shown)]
    once = [column for column in moved if column.is_constant]
    lines = [line for column in once for line in _told(column, 0, width, "")]
    return [*lines, *_lines(shown, [column for column in moved if not column.is_constant], len(cells), width)]


def _lines(shown: Sequence[_Column], below: Sequence[_Column], rows: int, width: int) -> Iterator[str]:
    yield from _row([_fold(column.heading, column.width) for column in shown], shown)
    indent = " " * min(shown[0].width + len(_GAP), width // 4)
    for number in range(rows):
        yield from _row([_fold(column.cells[number], column.width) for column in shown], shown)
        for column in below:
            yield from _told(column, number, width, indent)


def _row(folded: Sequence[Sequence[str]], columns: Sequence[_Column]) -> Iterator[str]:
    for number in range(max(map(len, folded))):
        parts = (lines[number] if number < len(lines) else "" for lines in folded)
        padded = (
            part.ljust(column.width) if column.is_text else part.rjust(column.width)
            for part, column in zip(parts, columns, strict=True)
        )
        yield _GAP.join(padded).rstrip()


def _told(column: _Column, number: int, width: int, indent: str) -> list[str]:
    text = column.cells[number].strip()
    if text in ("", "-"):
        return []
    told = f"{column.heading}: {text}"
    hanging = indent + _GAP
    return textwrap.wrap(
        told, width, initial_indent=indent, subsequent_indent=hanging, break_on_hyphens=False
    )


def _total(columns: Sequence[_Column]) -> int:
    return sum(column.width for column in columns) + len(_GAP) * (len(columns) - 1)


def _fold(text: str, width: int) -> list[str]:
    return [text] if len(text) <= width else textwrap.wrap(text, width, break_on_hyphens=False)


def _is_number(cell: str) -> bool:
    return not cell or cell == "-" or cell.replace(".", "", 1).lstrip("-").isdigit()
