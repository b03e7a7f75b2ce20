"""Do to a registry what observatories fear, within a budget, and tell what was lost: `make torture`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hotpix_registry.files import write_atomic
from tests.databases import PostgreSQL, running_postgresql
from tests.torture import corruption, crowd, faults, fleets, fuzz, kills, soak
from tests.torture.place import KINDS
from tests.torture.table import Row, render
from tests.torture.targets import TARGETS


@dataclass(frozen=True)
class Fault:
    """One kind of fault, and how much of it the budget allows."""

    name: str
    inflict: Callable[..., Iterator[Row]]
    share: float
    """of the budget, both databases together"""
    seconds_each: float = 1.0
    """what one trial takes, measured on two processors"""
    unit: str = "trials"
    on_both: bool = True
    """whether it is inflicted on a registry of either kind"""


def hostile_input(*, seconds: float, seed: int) -> Iterator[Row]:
    for name in TARGETS:
        yield from fuzz.run([name], minutes=seconds / 60 / len(TARGETS), seed=seed)


FAULTS = (
    Fault("kill", kills.kill_commands, share=0.23, seconds_each=8 * 0.6),
    Fault("fleet", fleets.kill_fleet, share=0.04, seconds_each=5.0),
    Fault("sync", kills.kill_sync, share=0.03, seconds_each=1.0),
    Fault("client", kills.kill_client, share=0.03, seconds_each=0.5),
    Fault("server", kills.kill_postgresql, share=0.05, seconds_each=4.0, on_both=False),
    Fault("corruption", corruption.corruption, share=0.08, seconds_each=1.2),
    Fault("faults", faults.faults, share=0.05, seconds_each=5.0),
    Fault("crowd", crowd.crowd, share=0.19, unit="seconds"),
    Fault("hostile", hostile_input, share=0.12, unit="seconds", on_both=False),
    Fault("soak", soak.soak, share=0.18, seconds_each=1.0, unit="campaigns"),
)


def inflict(fault: Fault, server: PostgreSQL, budget_s: float, seed: int) -> Iterator[Row]:
    """A fault as often as its share of the budget allows, and once at the least."""
    both: list[dict[str, Any]] = [{"server": server, "kind": kind} for kind in KINDS]
    places = both if fault.on_both else [{}]
    amount = max(1, round(budget_s * fault.share / len(places) / fault.seconds_each))
    for place in places:
        yield from fault.inflict(**place, **{fault.unit: amount}, seed=seed)


def document(rows: Sequence[Row], seed: int, minutes: float) -> str:
    """The table as Markdown, with when, where and how it came about."""
    lines = [
        "# What was done to the registry, and what was lost",
        "",
        f"`make torture`, seed {seed}, {minutes:.0f} minutes on {datetime.now(UTC):%Y-%m-%d}:",
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()},"
        f" {os.cpu_count()} processors.",
        "",
        "| fault | times tried | survived | lost | note |",
        "|---|---:|---:|---:|---|",
    ]
    for row in rows:
        note = row.note.replace("|", "\\|")
        lines.append(f"| {row.fault} | {row.tried:,} | {row.survived:,} | {row.lost:,} | {note} |")
    tried, lost = (sum(getattr(row, name) for row in rows) for name in ("tried", "lost"))
    return "\n".join([*lines, f"| **together** | {tried:,} | {tried - lost:,} | {lost:,} | |", ""])


def main() -> None:
    names = [fault.name for fault in FAULTS]
    reader = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    reader.add_argument("--budget", type=float, default=10.0, metavar="MINUTES", help="how long, about")
    reader.add_argument("--seed", type=int, default=1, help="the same seed inflicts the same")
    reader.add_argument("--only", nargs="+", choices=names, default=names, help="these faults alone")
    reader.add_argument("-o", "--output", type=Path, metavar="FILE.md", help="write the table there too")
    asked = reader.parse_args()
    started = time.monotonic()
    rows = []
    with running_postgresql() as server:
        for fault in FAULTS:
            if fault.name not in asked.only:
                continue
            for row in inflict(fault, server, asked.budget * 60, asked.seed):
                print(f"{row.fault}: {row.survived} of {row.tried} survived. {row.note}", flush=True)
                rows.append(row)
    minutes = (time.monotonic() - started) / 60
    print(f"\n{render(rows)}\n\nSeed {asked.seed}, {minutes:.1f} minutes.")
    if asked.output is not None:
        write_atomic(asked.output, document(rows, asked.seed, minutes).encode())
    sys.exit(1 if any(row.lost for row in rows) else 0)


if __name__ == "__main__":
    main()
