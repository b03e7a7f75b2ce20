"""Do to a registry what observatories fear, within a budget, and tell what was lost: `make torture`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.databases import PostgreSQL, running_postgresql
from tests.torture import corruption, crowd, faults, kills, soak
from tests.torture.place import KINDS
from tests.torture.table import Row, render


@dataclass(frozen=True)
class Fault:
    """One kind of fault, and how often it is tried within a minute."""

    name: str
    inflict: Callable[..., Iterator[Row]]
    share: float
    """of the budget, both databases together"""
    seconds_each: float
    """what one trial takes, measured on two processors"""
    unit: str = "trials"


FAULTS = (
    Fault("kill", kills.kill_commands, share=0.3, seconds_each=8 * 1.2),
    Fault("client", kills.kill_client, share=0.03, seconds_each=0.5),
    Fault("server", kills.kill_postgresql, share=0.05, seconds_each=4.0),
    Fault("corruption", corruption.corruption, share=0.1, seconds_each=2.0),
    Fault("faults", faults.faults, share=0.1, seconds_each=5.0),
    Fault("crowd", crowd.crowd, share=0.15, seconds_each=1.0, unit="seconds"),
    Fault("soak", soak.soak, share=0.25, seconds_each=2.5, unit="campaigns"),
)


def inflict(fault: Fault, server: PostgreSQL, budget_s: float, seed: int) -> Iterator[Row]:
    """A fault on both databases, as often as its share of the budget allows, and once at the least."""
    own = fault.inflict is kills.kill_postgresql
    kinds: list[dict[str, Any]] = [{}] if own else [{"server": server, "kind": kind} for kind in KINDS]
    amount = max(1, round(budget_s * fault.share / len(kinds) / fault.seconds_each))
    for where in kinds:
        yield from fault.inflict(**where, **{fault.unit: amount}, seed=seed)


def main() -> None:
    names = [fault.name for fault in FAULTS]
    reader = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    reader.add_argument("--budget", type=float, default=10.0, metavar="MINUTES", help="how long, about")
    reader.add_argument("--seed", type=int, default=1, help="the same seed inflicts the same")
    reader.add_argument("--only", nargs="+", choices=names, default=names, help="these faults alone")
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
    print(f"\n{render(rows)}\n\nSeed {asked.seed}, {(time.monotonic() - started) / 60:.1f} minutes.")
    sys.exit(1 if any(row.lost for row in rows) else 0)


if __name__ == "__main__":
    main()
