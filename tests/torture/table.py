"""What was done to the registry, how often, and what was lost: a row for each fault."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

from hotpix_registry.cli.table import table_lines

_HEADINGS = ("fault", "times tried", "survived", "lost", "note")


@dataclass(frozen=True, slots=True)
class Row:
    """One fault; what neither survived nor was lost was not decided, and the note says why."""

    fault: str
    tried: int
    survived: int
    lost: int
    note: str = ""


def render(rows: Iterable[Row]) -> str:
    """The table as text, one line a row."""
    return "\n".join(table_lines([[str(cell) for cell in astuple(row)] for row in rows], _HEADINGS))


def row_of(fault: str, tried: int, problems: Sequence[str], note: str = "") -> Row:
    """A row that quotes the first of its problems."""
    told = "; ".join([*([note] if note else []), *problems[:3]])
    return Row(fault, tried, tried - len(problems), len(problems), told)
