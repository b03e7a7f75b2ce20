"""How fast the registry is beside its peers and the physical limit, each piece in a process of its own.

    python -m tests.benchmarks.speed [--repeats 5] [--quick] [--only combine] [--folder FOLDER]

Every row is a ratio of two pieces of work that ran in turns in the same run: the median of the turns'
ratios. Seconds are medians, too, and depend on the machine, ratios hardly. Peak memory is that of the
whole process and its forks, Python included. The frames (about 5 GB) are written once into the folder and
stay there. How cost grows is measured by `tests.benchmarks.growth`. BENCHMARKS.md and README.md's headline
are written anew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks import growth
from tests.benchmarks.growth import Growth
from tests.benchmarks.works import CHECKOUT, run

_SLOW = {"ccdproc_median_mad_20", "ccdproc_default_20", "ccdproc_median_mad_20_gz"}
"""Peers of half a minute and more run once."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison: what is ours, what it is held against, and which ratio is wanted."""

    what: str
    ours: str
    peer: str
    faster: bool = False
    """True: the ratio is peer to ours, and large is good; False: ours to peer, and small is good"""
    goal: float | None = None
    """None: the peer is a limit, which is approached and not reached"""
    most_mb: float | None = None
    minus_peer: bool = False
    """the difference in milliseconds instead of a ratio"""


ROWS = (
    Row(
        what="combine 20 × 4096² against reading and averaging with astropy",
        ours="ours_combine_20",
        peer="astropy_average_20",
        goal=3.0,
        most_mb=160,
    ),
    Row(
        what="combine 20 × 4096² against reading and averaging in strips",
        ours="ours_combine_20",
        peer="read_and_average_20",
    ),
    Row(
        what="combine 20 × 4096² against ccdproc.combine, median and MAD",
        ours="ours_combine_20",
        peer="ccdproc_median_mad_20",
        faster=True,
        goal=15.0,
    ),
    Row(
        what="combine 20 × 4096² against ccdproc.combine, its default",
        ours="ours_combine_20",
        peer="ccdproc_default_20",
        faster=True,
        goal=10.0,
    ),
    Row(
        what="combine 20 × 4096² from .fits.gz against ccdproc.combine",
        ours="ours_combine_20_gz",
        peer="ccdproc_median_mad_20_gz",
        faster=True,
        goal=20.0,
    ),
    Row(
        what="combine 100 × 4096² against 20",
        ours="ours_combine_100",
        peer="ours_combine_20",
        goal=6.0,
        most_mb=160,
    ),
    Row(
        what="whole build of 10 + 20 × 4096² against reading and averaging with astropy",
        ours="ours_build",
        peer="astropy_average_30",
        goal=5.0,
        most_mb=400,
    ),
    Row(
        what="whole build of 10 + 20 × 4096² against reading and averaging in strips",
        ours="ours_build",
        peer="read_and_average_30",
    ),
    Row(
        what="two exposures compared, 4096², against whole arrays",
        ours="ours_compare",
        peer="numpy_compare",
        faster=True,
        goal=3.0,
    ),
    Row(
        what="ingest of 32 MiB frames, two threads, against sha256 of the bytes, one",
        ours="ours_ingest_32mib",
        peer="sha256_32mib",
        goal=1.15,
    ),
    Row(
        what="ingest of 2 MiB frames, two threads, against sha256 of the bytes, one",
        ours="ours_ingest_2mib",
        peer="sha256_2mib",
        goal=1.4,
    ),
    Row(
        what="second ingest of 10,000 files against the first",
        ours="ours_ingest_10000_again",
        peer="ours_ingest_10000",
        faster=True,
        goal=20.0,
    ),
    Row(
        what="ingest of 10,000 lights against reading their headers",
        ours="ours_ingest_10000_lights",
        peer="headers_of_10000_lights",
        goal=1.5,
    ),
    Row(
        what="header of a .fits.gz against astropy",
        ours="ours_header_gz",
        peer="astropy_header_gz",
        faster=True,
        goal=100.0,
    ),
    Row(
        what="header of a .fits.bz2 against astropy",
        ours="ours_header_bz2",
        peer="astropy_header_bz2",
        faster=True,
        goal=40.0,
    ),
    Row(
        what="mask as boolean array from the stored blob against a plain file",
        ours="ours_array_from_blob",
        peer="astropy_array_from_file",
        goal=3.0,
    ),
    Row(
        what="`mask` as a process against a bare typer and SQLAlchemy script",
        ours="ours_mask_process",
        peer="bare_mask_process",
        goal=1.25,
    ),
    Row(
        what="`--help` more than bare Python, ms",
        ours="ours_help_process",
        peer="bare_python_process",
        goal=150.0,
        minus_peer=True,
    ),
)


def measure(rows: Sequence[Row], folder: Path, repeats: int) -> dict[str, list[dict[str, Any]]]:
    """Run all works of some rows in turns."""
    names = list(dict.fromkeys(name for row in rows for name in (row.peer, row.ours)))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(repeats):
        for name in names:
            if turn and name in _SLOW:
                continue
            found[name].append(run(name, folder))
            seconds, peak_mb = found[name][-1]["seconds"], found[name][-1]["peak_mb"]
            memory = "" if peak_mb is None else f", {peak_mb:.0f} MB"
            print(f"{turn + 1}/{repeats} {name}: {seconds:.3f} s{memory}", file=sys.stderr, flush=True)
    return found


def judged(row: Row, found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    ours = statistics.median(one["seconds"] for one in found[row.ours])
    peer = statistics.median(one["seconds"] for one in found[row.peer])
    peak_mb = max((one["peak_mb"] for one in found[row.ours] if one["peak_mb"] is not None), default=None)
    value = statistics.median(_compared(row, *turn) for turn in _turns(found[row.ours], found[row.peer]))
    reached = row.goal is None or (value >= row.goal if row.faster else value <= row.goal)
    if row.most_mb is not None:
        reached = reached and peak_mb is not None and peak_mb <= row.most_mb
    return {
        "what": row.what,
        "value": value,
        "goal": row.goal,
        "at_least": row.faster,
        "reached": reached,
        "ours_s": ours,
        "peer_s": peer,
        "peak_mb": peak_mb,
        "most_mb": row.most_mb,
    }


def _turns(ours: Sequence[dict[str, Any]], peer: Sequence[dict[str, Any]]) -> list[tuple[float, float]]:
    """Seconds of ours and of the peer in each turn; a slow peer's one run stands for all."""
    of_peer = [one["seconds"] for one in peer]
    return [(one["seconds"], of_peer[i % len(of_peer)]) for i, one in enumerate(ours)]


def _compared(row: Row, ours_s: float, peer_s: float) -> float:
    if row.minus_peer:
        return (ours_s - peer_s) * 1000
    return peer_s / ours_s if row.faster else ours_s / peer_s


def table(results: Sequence[dict[str, Any]]) -> str:
    lines = ["| work | ratio | goal | ours | other | peak memory |", "|---|---|---|---|---|---|"]
    for one in results:
        sign = "≥" if one["at_least"] else "≤"
        memory = "" if one["peak_mb"] is None else f"{one['peak_mb']:.0f} MB"
        memory += f" (≤ {one['most_mb']:.0f})" if one["most_mb"] else ""
        mark = "" if one["reached"] else " (missed)"
        goal = "" if one["goal"] is None else f"{sign} {one['goal']:g}"
        lines.append(
            f"| {one['what']} | {one['value']:.3g}{mark} | {goal} | {one['ours_s']:.3g} s | "
            f"{one['peer_s']:.3g} s | {memory} |"
        )
    return "\n".join(lines)


def look_ups(grown: Sequence[Growth]) -> list[dict[str, Any]]:
    """The rows of the table that come from how look-ups grow."""
    curves = next((one.curves for one in grown if one.name == "assignments"), None)
    if curves is None:
        return []
    ours, bare = ([y for _, y in curves[f"{who}, sqlite"]] for who in ("Registry.mask", "bare query"))
    server, prepared = (
        [y for _, y in curves[f"{who}, postgresql"]] for who in ("Registry.mask", "bare query")
    )
    judged = (
        ("look-up in Python on SQLite, µs", ours[-1], 100.0, ours, bare),
        ("the same, from the fewest assignments to the most", ours[-1] / ours[0], 2.0, ours, ours[:1]),
        ("look-up on PostgreSQL against a prepared query", server[-1] / prepared[-1], 3.0, server, prepared),
    )
    return [
        {
            "what": what,
            "value": value,
            "goal": goal,
            "at_least": False,
            "reached": value <= goal,
            "ours_s": mine[-1] / 1e6,
            "peer_s": other[-1] / 1e6,
            "peak_mb": None,
            "most_mb": None,
        }
        for what, value, goal, mine, other in judged
    ]


def machine() -> str:
    names = ("numpy", "scipy", "astropy", "ccdproc", "sqlalchemy", "typer")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    load = f"load average {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    system = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, {load}"
    return f"{system}; Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {versions}"


def headline(results: Sequence[dict[str, Any]]) -> str:
    """The table in a few lines."""
    of = {one["what"]: one for one in results}
    mean, of_strips = (
        of[f"combine 20 × 4096² against reading and averaging {how}"] for how in ("with astropy", "in strips")
    )
    clipped = of["combine 20 × 4096² against ccdproc.combine, median and MAD"]
    build, build_of_strips = (
        of[f"whole build of 10 + 20 × 4096² against reading and averaging {how}"]
        for how in ("with astropy", "in strips")
    )
    ingest = of["ingest of 32 MiB frames, two threads, against sha256 of the bytes, one"]
    process = of["`mask` as a process against a bare typer and SQLAlchemy script"]
    return (
        f"Twenty 4096² darks are combined in {mean['value']:.1f} times the time to read and average them "
        f"with astropy, {clipped['value']:.0f} times faster than by `ccdproc.combine` with median and MAD, "
        f"in {mean['peak_mb']:.0f} MB; the whole build of 30 takes {build['value']:.1f} times reading and "
        f"averaging. Beside the fastest reading and averaging that we know, in strips that fit into the "
        f"processor's cache, these are {of_strips['value']:.1f} and {build_of_strips['value']:.1f} times. "
        f"An ingest takes {ingest['value']:.2f} times a single-threaded SHA-256 of its files, and "
        f"`hotpix-registry mask` {process['value']:.2f} times a bare script with the same query."
    )


def write_readme(text: str) -> None:
    """Put the headline between the marks that README.md has for it."""
    path = CHECKOUT / "README.md"
    before, begin, rest = path.read_text(encoding="utf-8").partition("<!-- headline of BENCHMARKS.md -->\n")
    _, end, after = rest.partition("<!-- end of it -->")
    assert begin and end, "README.md has no place for the headline"
    filled = textwrap.fill(text, 105, break_on_hyphens=False)
    path.write_text(f"{before}{begin}{filled}\n{end}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, help="turns, 5 or with --quick 1; the medians count")
    parser.add_argument("--no-growth", action="store_true", help="leave out how cost grows, and look-ups")
    parser.add_argument("--only", default="", help="only rows whose name contains this, and no growth")
    parser.add_argument("--quick", action="store_true", help="one turn, and two sizes of each growth")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "hotpix-benchmark")
    parser.add_argument(
        "--json", type=Path, default=CHECKOUT / "benchmark.json", help="every number goes there"
    )
    arguments = parser.parse_args()
    repeats = arguments.repeats or (1 if arguments.quick else 5)
    where = machine()
    run("prepare", arguments.folder)
    rows = [row for row in ROWS if arguments.only in row.what]
    found = measure(rows, arguments.folder, repeats)
    results = [judged(row, found) for row in rows]
    grown: list[Growth] = []
    if not (arguments.only or arguments.no_growth):
        grown = list(growth.measure(arguments.folder, quick=arguments.quick))
        results += look_ups(grown)
    text = table(results)
    if not arguments.only:
        sizes = run("sizes_of_blobs", arguments.folder)
        text += (
            f"\n\nA stored mask with 4,308 flagged pixels of 4096² takes 1/{sizes['plain']:.0f} of the plain "
            f"plane (goal 1/400), with 1 % of WARM pixels besides 1/{sizes['warm']:.0f} (goal 1/80)."
        )
        day = datetime.now(UTC).date()
        (CHECKOUT / "BENCHMARKS.md").write_text(
            f"# Benchmarks\n\nMade by `make benchmark` on {day}: {where}.\n\n{headline(results)}\n\n"
            f"Warm cache, medians of {repeats} turn{'s' * (repeats > 1)} in which each piece of work ran in "
            "a process of its own beside its peer; a ratio is the median of those of the turns. Ratios hold "
            "elsewhere, but for those to reading in strips, which the speed of the memory decides; seconds "
            "do not.\n\n"
            f"{text}\n" + (f"\n{growth.section(grown)}\n" if grown else ""),
            encoding="utf-8",
        )
        write_readme(headline(results))
    print(text)
    curves = [asdict(one) for one in grown]
    arguments.json.write_text(json.dumps({"results": results, "runs": found, "growth": curves}, indent=1))


if __name__ == "__main__":
    main()
