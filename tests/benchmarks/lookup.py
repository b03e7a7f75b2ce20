"""How long a look-up takes as a registry grows: `python -m tests.benchmarks.lookup`.

Each answer of `Registry.mask` is taken in turn with a raw driver (sqlite3, or psycopg with a prepared
statement) that runs the bare query for the greatest `from` up to an instant on the same registry, so that
the ratios hold on a busy machine. `--json FILE` writes the numbers.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import sqlalchemy as sa

from hotpix_registry import Registry
from hotpix_registry.cameras import CameraProfile
from hotpix_registry.catalogue import queries, schema
from hotpix_registry.catalogue.engine import writing
from hotpix_registry.domain import Configuration, Rule
from hotpix_registry.instants import US_PER_DAY, Night, iso
from hotpix_registry.registry import derived
from hotpix_registry.registry.derived import Derived
from tests.databases import running_postgresql
from tests.plain_masks import SHAPE, add_camera, mask_values

SIZES = (10**3, 10**4, 10**5, 10**6)
MASKS = 200
"""distinct masks of the series; assignments take them in turn"""
DEPTH = 10
"""how often each date of the deep history was superseded"""
LONGITUDE_DEG_EAST = -105.0
FIRST_US = US_PER_DAY * 19 // 24
"""noon at the camera on 1970-01-01: each assignment holds a night, and a million of them 2738 years"""
BARE = (
    "SELECT mask_id, valid_from_us, valid_to_us FROM assignments "
    "WHERE series_id = {0} AND closed_tx IS NULL AND valid_from_us <= {0} ORDER BY valid_from_us DESC LIMIT 1"
)

Look = Callable[[int], object]


def fill(registry: Registry, assignments: int, depth: int = 1) -> None:
    """Give a camera so many assignments one after the other, each date superseded `depth - 1` times."""
    camera = add_camera(registry, CameraProfile(name="aspen", longitude_deg_east=LONGITUDE_DEG_EAST))
    made = Derived(
        rule=Rule.LIMIT,
        dq=np.zeros(SHAPE, np.uint16),
        configuration=Configuration(),
        set_point=("-10.0", -10.0),
        nights=("1970-01-01", "1970-01-01"),
        exposures_s=(30.0, 120.0),
        inputs=(),
        recipe={},
        note="",
    )
    values = mask_values(derived.pack(made, camera), camera)
    for round_number in range(depth):
        with registry._writing("fill") as (connection, tx):
            series = queries.series_id(connection, camera.camera_id, Configuration(), made.set_point, tx)
            if round_number == 0:
                masks = [
                    values | {"series_id": series, "created_tx": tx, "version": n, "build_key": f"{n}"}
                    for n in range(1, MASKS + 1)
                ]
                connection.execute(schema.masks.insert(), masks)
            first = connection.execute(sa.select(sa.func.min(schema.masks.c.id))).scalar_one()
            a = schema.assignments
            connection.execute(a.update().where(a.c.closed_tx.is_(None)).values(closed_tx=tx))
            for start in range(0, assignments, 50_000):
                rows = [
                    {
                        "series_id": series,
                        "mask_id": first + (n + round_number) % MASKS,
                        "valid_from_us": FIRST_US + n * US_PER_DAY,
                        "valid_to_us": FIRST_US + (n + 1) * US_PER_DAY,
                        "opened_tx": tx,
                    }
                    for n in range(start, min(start + 50_000, assignments))
                ]
                connection.execute(a.insert(), rows)


@contextmanager
def raw_driver(database: str) -> Iterator[Look]:
    """The bare query by the driver alone, its statement prepared."""
    if "://" not in database:
        with closing(sqlite3.connect(database)) as connection:
            statement = BARE.format("?")
            yield lambda instant_us: connection.execute(statement, (1, instant_us)).fetchone()
        return
    with psycopg.connect(database, autocommit=True) as server:
        statement = BARE.format("%s")
        yield lambda instant_us: server.execute(statement, (1, instant_us), prepare=True).fetchone()


def medians(looks: dict[str, Look], instants: Sequence[int]) -> dict[str, float]:
    """Microseconds of each kind of look-up; one of each after the other, at the same instant."""
    took: dict[str, list[int]] = {name: [] for name in looks}
    for number, instant_us in enumerate(instants):
        for name, look in looks.items():
            before = time.perf_counter_ns()
            look(instant_us)
            if number >= len(instants) // 10:  # the first ones warm caches
                took[name].append(time.perf_counter_ns() - before)
    return {name: statistics.median(times) / 1000 for name, times in took.items()}


def measure(database: str, assignments: int, *, depth: int, looks: int, analyze: bool) -> dict[str, Any]:
    with Registry(database) as registry:
        fill(registry, assignments, depth)
        if analyze:
            with writing(registry._engine) as connection:
                connection.exec_driver_sql("ANALYZE")
        draw = random.Random(1)
        instants = [FIRST_US + draw.randrange(assignments * US_PER_DAY) for _ in range(looks)]
        middle_tx = 2 + depth // 2
        with raw_driver(database) as bare:
            took = medians(
                {
                    "bare": bare,
                    "mask": lambda us: registry.mask("aspen", iso(us) or ""),
                    "as of": lambda us: registry.mask("aspen", iso(us) or "", as_of=middle_tx),
                    "night": lambda us: registry.mask("aspen", str(Night.of(us, LONGITUDE_DEG_EAST))),
                },
                instants,
            )
    return {
        "database": "sqlite" if "://" not in database else "postgresql",
        "assignments": assignments,
        "depth": depth,
        "analyzed": analyze,
        "us": took,
        "ratio": took["mask"] / took["bare"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N")
    parser.add_argument("--looks", type=int, default=500, help="look-ups of each kind")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here, too")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    heads = ("bare", "mask", "as of", "night")
    print(f"{'database':10} {'assignments':>11} {'each':>4} {'':8}" + "".join(f"{h:>10}" for h in heads))
    with tempfile.TemporaryDirectory(prefix="hp") as name, running_postgresql() as server:
        for kind in ("sqlite", "postgresql"):
            cases = [(size, 1, False) for size in options.sizes]
            cases += [(options.sizes[-1] // 10, DEPTH, analyze) for analyze in (False, True)]
            for number, (size, depth, analyze) in enumerate(cases):
                database = f"{name}/{number}.sqlite" if kind == "sqlite" else server.create()
                row = measure(database, size, depth=depth, looks=options.looks, analyze=analyze)
                rows.append(row)
                print(
                    f"{kind:10} {size:>11} {depth:>3}x {'analyzed' if analyze else '':8}"
                    + "".join(f"{row['us'][head]:>7.0f} µs" for head in heads)
                    + f"   {row['ratio']:.1f} x bare",
                    flush=True,
                )
            flat = [row["us"]["mask"] for row in rows if row["database"] == kind and row["depth"] == 1]
            print(f"{kind:10} growth from the smallest to the largest: {flat[-1] / flat[0]:.2f}")
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
