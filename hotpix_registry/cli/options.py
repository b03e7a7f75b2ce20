"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

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
AnyReason = Annotated[
    str | None, typer.Option("--reason", help="Why; it is kept with the act.", show_default=False)
]
MaskId = Annotated[int, typer.Argument(metavar="ID", help="A mask, as `hotpix-registry masks` lists it.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="A dask scheduler whose workers do it, tcp://HOST:8786; they see frames at the same paths.",
        show_default=False,
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with the act.")]

AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="TIME|TX",
        help="As the registry was then: a time with Z or an offset, the end of a date, or a transaction.",
        show_default=False,
    ),
]
ReleaseName = Annotated[
    str | None,
    typer.Option("--release", metavar="NAME", help="As the registry was at a release.", show_default=False),
]


class FallbackChoice(StrEnum):
    PREVIOUS = "previous"
    NEAREST = "nearest"
    WARMER = "warmer"


Fallback = Annotated[
    FallbackChoice | None, typer.Option("--fallback", help="What may answer when no mask is valid then.")
]
MaxAge = Annotated[
    int | None,
    typer.Option("--max-age", metavar="DAYS", min=0, help="How far the darks may lie from the date."),
]
AllowRevoked = Annotated[
    bool, typer.Option("--allow-revoked", help="Take the mask even if it has been declared unusable.")
]
Expect = Annotated[
    int | None,
    typer.Option(
        "--expect",
        metavar="TX",
        help="Refuse when the series has moved since this transaction.",
        show_default=False,
    ),
]
OfCamera = Annotated[
    str | None,
    typer.Option(
        "--camera", metavar="NAME", help="Refuse when the mask is another camera's.", show_default=False
    ),
]
Supersede = Annotated[
    bool, typer.Option("--supersede", help="Take dates from other masks beyond what is ordinary.")
]
Binning = Annotated[
    str | None,
    typer.Option("--binning", metavar="XxY", help="Binning of the science frame.", show_default=False),
]
ReadoutMode = Annotated[
    str | None,
    typer.Option("--readout-mode", metavar="MODE", help="As the header writes it.", show_default=False),
]
GainSetting = Annotated[
    str | None,
    typer.Option("--gain-setting", metavar="N", help="The camera's setting, not e-/adu.", show_default=False),
]
OffsetSetting = Annotated[
    str | None,
    typer.Option("--offset-setting", metavar="N", help="The camera's setting.", show_default=False),
]
SubFrame = Annotated[
    str | None,
    typer.Option(
        "--sub-frame",
        metavar="X0,Y0,NX,NY",
        help="Part of the sensor that was read, in binned pixels, 0-based.",
        show_default=False,
    ),
]
RowOrder = Annotated[
    str | None,
    typer.Option("--row-order", metavar="ORDER", help="TOP-DOWN or BOTTOM-UP.", show_default=False),
]
Bayer = Annotated[
    str | None,
    typer.Option("--bayer", metavar="PATTERN", help="Bayer pattern, such as RGGB.", show_default=False),
]


def parse_configuration(**given: str | None) -> dict[str, Any]:
    """The parts of a configuration that were given, as they are compared.

    Raises
    ------
    UsageError
        With what to write instead.
    """
    from hotpix_registry.registry import question
    from hotpix_registry.registry.criteria import option_of

    return question.parse_configuration(given, spelled=option_of)


def parse_nights(text: str | None) -> tuple[str, str] | None:
    """`2018-08-20..2018-08-25` or one night, as ISO dates."""
    from hotpix_registry.registry import question

    return question.parse_nights(text)


def parse_exposures(text: str | None) -> list[float] | None:
    """`90,1000` as seconds."""
    from hotpix_registry.registry import question

    return question.parse_exposures(text)


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
