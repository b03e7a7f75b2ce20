"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

import re
from datetime import date
from enum import StrEnum
from typing import Annotated

import typer

from hotpix_registry.errors import UsageError

Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="FILE|URL",
        help="SQLite file or database URL. [env: HOTPIX_DATABASE_URL]",
        show_default=False,
    ),
]


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    ECSV = "ecsv"


OutputFormat = Annotated[Format, typer.Option("--format", help="How data is printed.")]
Camera = Annotated[str, typer.Option("--camera", metavar="NAME", help="Camera, by name or alias.")]
AnyCamera = Annotated[
    str | None, typer.Option("--camera", metavar="NAME", help="Only this camera.", show_default=False)
]
Nights = Annotated[
    str | None,
    typer.Option(
        "--nights",
        metavar="A..B",
        help="Nights by their evening's date, both included: 2018-08-20..2018-08-25, or one.",
        show_default=False,
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with the act.")]


def parse_nights(text: str | None) -> tuple[str, str] | None:
    """`2018-08-20..2018-08-25` or one night, as ISO dates.

    Raises
    ------
    UsageError
        With what to write instead.
    """
    if text is None:
        return None
    first, dots, last = text.partition("..")
    try:
        a = date.fromisoformat(first.strip())
        b = date.fromisoformat(last.strip()) if dots else a
    except ValueError:
        raise UsageError(
            f"'{text}' is no range of nights.", next_step="Write 2018-08-20..2018-08-25."
        ) from None
    if b < a:
        raise UsageError(f"The nights {text} end before they begin.", next_step=f"Write {b}..{a}.")
    return str(a), str(b)


def parse_exposures(text: str | None) -> list[float] | None:
    """`90,1000` as seconds.

    Raises
    ------
    UsageError
        With what to write instead.
    """
    if text is None:
        return None
    parts = [part for part in re.split(r"[,\s]+", text.strip()) if part]
    try:
        exposures = [float(part.removesuffix("s")) for part in parts]
    except ValueError:
        exposures = []
    if not exposures or not all(0 < e < 1e6 for e in exposures):
        raise UsageError(f"'{text}' is no list of exposure times.", next_step="Write seconds: 90,1000.")
    return exposures


def parse_numbers(text: str, count: int, what: str, hint: str) -> tuple[int, ...]:
    """`17,4` as whole numbers that are not negative.

    Raises
    ------
    UsageError
        With what to write instead.
    """
    parts = [part.strip() for part in text.replace("x", ",").split(",")]
    if len(parts) != count or not all(part.isdecimal() for part in parts):
        raise UsageError(f"'{text}' is not {what}.", next_step=hint)
    return tuple(map(int, parts))
