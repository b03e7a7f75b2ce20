"""Records as tables for machines: CSV, and what astropy writes, ECSV and VOTable."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astropy.table import Table

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""how texts begin that a spreadsheet would compute; numbers are none"""

Rows = Sequence[Mapping[str, Any]]


def csv_text(rows: Rows, columns: Sequence[str] = ()) -> str:
    """Records with a line of names; what is nested is written as JSON, and `=1+1` as `'=1+1`.

    Parameters
    ----------
    columns
        the names where there are no records to take them from
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, _names(rows, columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _inert(value) for key, value in _flat(row).items()} for row in rows)
    return text.getvalue()


def _inert(value: Any) -> Any:
    """A text that no spreadsheet takes for a formula: a path or a reason may come from anybody."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def ecsv_text(rows: Rows, columns: Sequence[str] = ()) -> str:
    """As `csv_text`, with the types of the columns above it."""
    text = io.StringIO()
    _table(rows, columns).write(text, format="ascii.ecsv")
    return text.getvalue()


def votable(rows: Rows, columns: Sequence[str] = ()) -> bytes:
    """As `ecsv_text`, as a VOTable."""
    written = io.BytesIO()
    _table(rows, columns).write(written, format="votable")
    return written.getvalue()


def _names(rows: Rows, columns: Sequence[str]) -> list[str]:
    return list(rows[0]) if rows else list(columns)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: json.dumps(value, ensure_ascii=False, default=str)
        if isinstance(value, list | dict | tuple)
        else value
        for key, value in row.items()
    }


def _table(rows: Rows, columns: Sequence[str]) -> Table:
    from astropy.table import MaskedColumn, Table

    flat = [_flat(row) for row in rows]
    table = Table(masked=True)
    for name in _names(rows, columns):
        values = [row[name] for row in flat]
        filler = next((type(value)() for value in values if value is not None), "")
        table[name] = MaskedColumn(
            [filler if value is None else value for value in values],
            mask=[value is None for value in values],
            dtype=None if values else str,
        )
    return table
