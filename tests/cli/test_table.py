"""Tables: one line a row for tools, and legible on a terminal that is narrower than they are."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpix_registry.cli.table import table_lines
from tests.cli.conftest import Hotpix

HEADINGS = ["id", "series", "valid", "masked"]
ROWS = [
    ["1", "aspen at -20 °C, bin 1x1", "2018-08-22 to 2019-08-21", "6"],
    ["12", "aspen at -30 °C, bin 1x1", "2019-08-21 to open", "83"],
]


def test_without_a_width_each_row_is_a_line() -> None:
    assert table_lines(ROWS, HEADINGS) == [
        "id  series                    valid                     masked",
        " 1  aspen at -20 °C, bin 1x1  2018-08-22 to 2019-08-21       6",
        "12  aspen at -30 °C, bin 1x1  2019-08-21 to open            83",
    ]
    assert table_lines(ROWS, HEADINGS, width=62) == table_lines(ROWS, HEADINGS)


def test_a_text_without_room_stands_below_its_row() -> None:
    assert table_lines(ROWS, HEADINGS, width=50) == [
        "id  series                    masked",
        " 1  aspen at -20 °C, bin 1x1       6",
        "    valid: 2018-08-22 to 2019-08-21",
        "12  aspen at -30 °C, bin 1x1      83",
        "    valid: 2019-08-21 to open",
    ]


def test_a_long_text_is_folded_in_its_place_where_there_is_room() -> None:
    rows = [["1", "warmup", "power cut in the whole valley, for three days"], ["2", "anneal", ""]]
    assert table_lines(rows, ["id", "kind", "note"], width=42) == [
        "id  kind    note",
        " 1  warmup  power cut in the whole valley,",
        "            for three days",
        " 2  anneal",
    ]


def test_what_all_rows_have_in_common_is_told_once() -> None:
    rows = [["1", "obs-ctrl.example.org", "2"], ["3", "obs-ctrl.example.org", "4"]]
    assert table_lines(rows, ["tx", "host", "of all"], width=28) == [
        "host: obs-ctrl.example.org",
        "tx   of",
        "    all",
        " 1    2",
        " 3    4",
    ]


CELLS = st.text(st.sampled_from("ab -1.é"), max_size=60).map(str.strip)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), min_size=1, max_size=4), st.integers(40, 120))
def test_no_line_is_wider_than_the_terminal_and_no_text_is_lost(
    rows: list[tuple[str, str, str, str]], width: int
) -> None:
    lines = table_lines(rows, ["one", "two", "three", "a fourth"], width=width)
    assert max(map(len, lines)) <= width
    told = "".join("".join(lines).split())
    for cell in {cell for row in rows for cell in row if len(cell) < 20 and cell not in ("", "-")}:
        for word in cell.split():
            assert word in told


def on_a_terminal(hotpix: Hotpix, width: int, *words: str) -> list[str]:
    """The lines that a command prints on a terminal of a width."""
    pty = pytest.importorskip("pty", reason="there are no such terminals here")
    ours, theirs = pty.openpty()
    environment = hotpix.environment | {"COLUMNS": str(width)}
    command = [sys.executable, "-m", "hotpix_registry", *words]
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, cwd=hotpix.cwd, env=environment):
        os.close(theirs)
        said = b""
        try:
            while chunk := os.read(ours, 65536):
                said += chunk
        except OSError:  # what Linux says when the other end is closed
            pass
    os.close(ours)
    return said.decode().splitlines()


def test_the_tables_fit_a_terminal_and_are_whole_lines_elsewhere(stocked: Hotpix) -> None:
    reason = "the shutter did not close, as the plots of that night show only too well to everybody"
    stocked("build", "--camera", "smallcam-48").ended_with(0)
    stocked("revoke", "1", "--reason", reason).ended_with(0)
    stocked("release", "create", "2026A", "--note", reason).ended_with(0)
    commands = (("log",), ("masks",), ("frames",), ("history",), ("release", "list"), ("cameras",))
    for width, words in ((120, ("log",)), *((80, words) for words in commands)):
        lines = on_a_terminal(stocked, width, *words)
        assert lines, words
        assert max(map(len, lines)) <= width, words
    plain = stocked("log").ended_with(0).out.splitlines()
    (told,) = [line for line in plain if reason in line and "revoke" in line]
    assert len(told) > 120
