"""The report of a mask: what a person reads to decide whether to trust it.

One set of facts, one set of sentences about them, and three ways to show these: JSON, text of 80
columns, and one HTML file that holds its pictures and needs nothing else.
"""

from __future__ import annotations

import base64
import io
import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotpix_registry.report.facts import gather
from hotpix_registry.report.words import Section, Table, headline, sections

__all__ = ["Report", "make_report"]

_WIDTH = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is known of a mask version and how far it can be trusted."""

    facts: dict[str, Any]
    """ready for JSON: numbers in the units that their names carry, None where nothing is known"""
    _numbers: Mapping[str, NDArray[Any]] = field(repr=False)
    _dq: NDArray[np.uint16] = field(repr=False)

    @property
    def verdict(self) -> str:
        """'trust', 'look at' or 'do not use'."""
        return str(self.facts["verdict"]["word"])

    @property
    def picture_names(self) -> list[str]:
        """Which pictures `pictures` draws."""
        from hotpix_registry.plots import picture_names

        return picture_names(self._numbers)

    def json(self) -> str:
        """The facts, and no NaN among them."""
        return json.dumps(self.facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def text(self) -> str:
        """Plain text, at most 80 columns wide."""
        return "\n".join(_lines(self.facts)) + "\n"

    def html(self) -> str:
        """One HTML page with its pictures inside; it refers to nothing outside itself."""
        from jinja2 import Environment, PackageLoader, StrictUndefined

        environment = Environment(
            loader=PackageLoader("hotpix_registry", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        return environment.get_template("report.html").render(
            headline=headline(self.facts),
            verdict=self.facts["verdict"],
            sections=sections(self.facts),
            pictures=self._pictures(),
        )

    def _pictures(self) -> dict[str, tuple[str, str]]:
        """Name → title, and PNG as a data URI."""
        from hotpix_registry.plots import pictures

        limit = self.facts["limit"]
        known: dict[str, Any] = {
            "tolerance": limit["tolerance"],
            "z_sd": self.facts["z"]["sd"],
            "cutoff": limit["cutoff_e_per_s"] if limit["exposures_s"] is None else None,
        }
        numbers = {name: np.asarray(value) for name, value in known.items() if value is not None}
        caption = f"{self.facts['series']}, darks of {self.facts['first_night']}"
        drawn = {}
        for name, figure in pictures({**numbers, **self._numbers}, self._dq, caption).items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", metadata={"Software": None})
            uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
            drawn[name] = (figure.axes[0].get_title(loc="left"), uri)
        return drawn


def make_report(
    details: Mapping[str, Any],
    numbers: Mapping[str, NDArray[Any]],
    dq: NDArray[np.uint16],
    *,
    other: Mapping[str, Any] | None = None,
    other_dq: NDArray[np.uint16] | None = None,
) -> Report:
    """Report on a mask version.

    Parameters
    ----------
    details, other : mapping
        As `Registry.show` returns them, of this mask and of the one that it is compared with.
    numbers : mapping
        As `Registry.mask_numbers` returns them; empty for a mask that no build made.
    dq, other_dq : (ny, nx) uint16
        Bits of `domain.DQ`.
    """
    return Report(facts=gather(details, numbers, dq, other, other_dq), _numbers=numbers, _dq=dq)


# --- text ---------------------------------------------------------------------------


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    title, *about = headline(facts)
    title_lines = textwrap.wrap(title, _WIDTH)
    yield from title_lines
    yield "=" * max(map(len, title_lines))
    for line in about:
        yield from textwrap.wrap(line, _WIDTH)
    verdict = facts["verdict"]
    yield ""
    yield from textwrap.wrap(f"{verdict['word'].upper()}: {verdict['sentence']}", _WIDTH)
    for reason in verdict["reasons"]:
        yield from textwrap.wrap(reason, _WIDTH, initial_indent="  - ", subsequent_indent="    ")
    for section in sections(facts):
        yield from _section_lines(section)


def _section_lines(section: Section) -> Iterator[str]:
    yield ""
    yield section.title
    yield "-" * len(section.title)
    for paragraph in section.paragraphs:
        yield from textwrap.wrap(paragraph, _WIDTH)
    if section.drawing:
        yield ""
        yield from section.drawing
    for i, table in enumerate(section.tables):
        if i or section.paragraphs:
            yield ""
        yield from _table_lines(table)


def _table_lines(table: Table) -> Iterator[str]:
    """Columns as wide as they need to be; the last one is wrapped to what is left."""
    columns = list(zip(table.headings, *table.rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    left = max(16, _WIDTH - sum(widths[:-1]) - 2 * (len(widths) - 1))
    to_right = [i in table.numeric for i in range(len(widths))]
    for row in (table.headings, *table.rows):
        wrapped = textwrap.wrap(row[-1], left) or [""]
        last = wrapped[0].rjust(min(widths[-1], left)) if to_right[-1] else wrapped[0]
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row[:-1], widths, to_right, strict=False)
        ]
        yield "  ".join([*cells, last]).rstrip()
        indent = " " * (sum(widths[:-1]) + 2 * (len(widths) - 1))
        yield from (indent + line for line in wrapped[1:])
