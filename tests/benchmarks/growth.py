"""How cost grows: with frames per build, pixels, frames in the catalogue, assignments, clients.

    python -m tests.benchmarks.growth [--quick] [--folder FOLDER]

draws one plot for each into `docs/growth/` and prints the numbers. `make benchmark` runs it too. The
growth with assignments is that of `tests.benchmarks.lookup`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hotpix_registry import Registry
from hotpix_registry.catalogue import queries
from hotpix_registry.catalogue.engine import reading, writing
from hotpix_registry.simulate import SimulatedCamera, write_night
from tests.benchmarks.works import CHECKOUT, files, run
from tests.databases import running_postgresql

PLOTS = CHECKOUT / "docs" / "growth"
START = datetime(2018, 8, 23, 3, tzinfo=UTC)

Points = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Growth:
    """One plot: what grows, what it costs, and how that should look."""

    name: str
    title: str
    across: str
    up: str
    curves: Mapping[str, Points]
    wanted: str
    """how it should look; what was found stands in the table"""


# --- builds ---------------------------------------------------------------------------------


def frames_per_build(folder: Path, quick: bool) -> Growth:
    """The build of 1024² frames, half of them short and half of them long."""
    numbers = (4, 20) if quick else (4, 10, 30, 100, 300)
    seconds: Points = []
    memory: Points = []
    camera = SimulatedCamera.create((1024, 1024), 1)
    for number in numbers:
        half = number // 2
        found = _build(folder / f"frames-{number}", camera, {90.0: half, 1000.0: number - half})
        seconds.append((number, found["seconds"]))
        memory.append((number, found["peak_mb"]))
    return Growth(
        name="frames-per-build",
        title="Build of 1024² frames",
        across="frames",
        up="seconds, MB",
        curves={"time, s": seconds, "peak memory, MB": memory},
        wanted="time straight in the frames, memory level",
    )


def sensors(folder: Path, quick: bool) -> Growth:
    """The build of 3 + 3 frames of sensors up to that of a modern CMOS camera."""
    shapes = [(512, 512), (1024, 1024)]
    shapes += [] if quick else [(2048, 2048), (4096, 4096), (6388, 9576)]
    seconds: Points = []
    memory: Points = []
    for ny, nx in shapes:
        camera = SimulatedCamera.create((ny, nx), 1)
        found = _build(folder / f"sensor-{nx}x{ny}", camera, {90.0: 3, 1000.0: 3})
        seconds.append((nx * ny / 1e6, found["seconds"]))
        memory.append((nx * ny / 1e6, found["peak_mb"]))
    return Growth(
        name="sensor",
        title="Build of 3 + 3 frames",
        across="million pixels",
        up="seconds, MB",
        curves={"time, s": seconds, "peak memory, MB": memory},
        wanted="time and memory at most straight in the pixels, of 512² to 9576 × 6388",
    )


def _build(folder: Path, camera: SimulatedCamera, darks: Mapping[float, int]) -> dict[str, float]:
    try:
        write_night(folder, camera, start=START, biases=0, darks=darks)
        return run("build_of_all", folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- the catalogue ----------------------------------------------------------------------------

NEW_FRAMES = 200


def frames_in_the_catalogue(folder: Path, databases: Mapping[str, str], quick: bool) -> Growth:
    """An ingest of 200 frames, and another of the same, beside ever more that are catalogued already."""
    sizes = (100, 1000) if quick else (100, 1000, 10_000, 100_000, 1_000_000)
    tiny = files(folder / "tiny", "*.fits", NEW_FRAMES * (len(sizes) + 1))
    curves: dict[str, Points] = {}
    for kind, database in databases.items():
        new, again = curves.setdefault(f"new, {kind}", []), curves.setdefault(f"known, {kind}", [])
        with Registry(database) as registry:
            registry.ingest(tiny[-NEW_FRAMES:])
            catalogued = len(registry.frames())
            filled = 0
            for number, size in enumerate(sizes):
                _fill_catalogue(registry, filled, size)
                assert _count(registry) == catalogued + size + number * NEW_FRAMES
                filled = size
                paths = tiny[number * NEW_FRAMES : (number + 1) * NEW_FRAMES]
                for curve, outcome in ((new, "accepted"), (again, "known")):
                    start = time.perf_counter()
                    report = registry.ingest(paths)
                    curve.append((size, (time.perf_counter() - start) / NEW_FRAMES * 1e3))
                    assert report.as_dict()[outcome] == NEW_FRAMES, report
    return Growth(
        name="catalogue",
        title="Ingest of a frame beside others",
        across="frames in the catalogue",
        up="ms for each frame",
        curves=curves,
        wanted="level",
    )


_FILL = (
    """INSERT INTO frames (id, sha256, size_bytes, compression, header, created_tx)
    WITH RECURSIVE n(i) AS (SELECT {a} UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {b})
    SELECT (SELECT max(id) FROM frames) + 1 + i - {a}, 'filled' || i, 1, '', f.header, 1
    FROM n, frames f WHERE f.id = 1""",
    """INSERT INTO readings (id, frame_id, camera_id, series_id, kind, exptime_s, start_us, night, ccd_temp_c,
        nx, ny, n_combined, facts, opened_tx)
    SELECT (SELECT max(id) FROM readings) + row_number() OVER (ORDER BY f.id), f.id,
        r.camera_id, r.series_id, r.kind, r.exptime_s, r.start_us - 60000000 * f.id - 30000000, r.night,
        r.ccd_temp_c, r.nx, r.ny, r.n_combined, r.facts, 1
    FROM frames f, readings r WHERE r.frame_id = 1 AND f.id > (SELECT max(frame_id) FROM readings)""",
    """INSERT INTO locations (id, frame_id, path, size_bytes, mtime_ns, opened_tx)
    SELECT (SELECT max(id) FROM locations) + row_number() OVER (ORDER BY f.id), f.id,
        '/archive/' || f.sha256 || '.fits', 1, 1, 1
    FROM frames f WHERE f.id > (SELECT max(frame_id) FROM locations)""",
)


def _count(registry: Registry) -> int:
    with registry._engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM readings").scalar_one())


def _fill_catalogue(registry: Registry, filled: int, size: int) -> None:
    """More frames like the first, each a minute before the one that was made before it."""
    with writing(registry._engine) as connection:
        for statement in _FILL:
            connection.exec_driver_sql(statement.format(a=filled, b=size))
    with registry._engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("ANALYZE")


# --- clients ----------------------------------------------------------------------------------

ASKING_S = 2.0


def clients(folder: Path, databases: Mapping[str, str], quick: bool) -> Growth:
    """Processes that ask one registry for masks, and processes that write to it, each as fast as it can."""
    numbers = (1, 2) if quick else (1, 2, 4, 8, 16)
    curves: dict[str, Points] = {}
    for kind, database in databases.items():
        with Registry(database) as registry:
            registry.ingest(folder / "night")
            registry.build("aspen")
        for what, client in (("answers", _ask), ("writes", _write)):
            curves[f"{what}, {kind}"] = [(n, _together(client, database, n)) for n in numbers]
    return Growth(
        name="clients",
        title="Clients of one database",
        across="clients, each a process",
        up="a second, all together",
        curves=curves,
        wanted=f"answers straight up to {os.cpu_count()} cores, then level; writes level, one at a time",
    )


def _together(client: Callable[[Registry, int], object], database: str, n: int) -> float:
    """How often a second n clients did it, all together."""
    before = _last_tx(database)
    context = multiprocessing.get_context("spawn")
    ready, done = context.Barrier(n), context.Queue()
    processes = [
        context.Process(target=_client, args=(client, database, number, ready, done)) for number in range(n)
    ]
    for process in processes:
        process.start()
    total = sum(done.get(timeout=300) for _ in processes)
    for process in processes:
        process.join()
    assert client is not _write or _last_tx(database) - before == total + n, "some writes were lost"
    return float(total) / ASKING_S


def _last_tx(database: str) -> int:
    with Registry(database) as registry, reading(registry._engine) as connection:
        return queries.last_tx(connection)


def _client(client: Callable[[Registry, int], object], database: str, number: int, ready, done) -> None:  # type: ignore[no-untyped-def]
    with Registry(database) as registry:
        client(registry, number)
        ready.wait(timeout=300)
        count, end = 0, time.perf_counter() + ASKING_S
        while time.perf_counter() < end:
            client(registry, number)
            count += 1
    done.put(count)


def _ask(registry: Registry, _: int) -> object:
    return registry.mask("aspen", "2018-08-22")


def _write(registry: Registry, number: int) -> object:
    return registry.exclude([str(number % 4 + 1)], reason="a client among others")


# --- assignments --------------------------------------------------------------------------------


def assignments(folder: Path, quick: bool) -> Growth:
    """What `tests.benchmarks.lookup` finds."""
    found = folder / "lookup.json"
    command = [sys.executable, "-m", "tests.benchmarks.lookup", "--json", str(found)]
    command += ["--sizes", "1000", "10000"] if quick else []
    subprocess.run(command, cwd=CHECKOUT, check=True, stdout=sys.stderr)
    curves: dict[str, Points] = {}
    for row in json.loads(found.read_text()):
        if row["depth"] == 1:
            for name, label in (("mask", "Registry.mask"), ("bare", "bare query")):
                curve = curves.setdefault(f"{label}, {row['database']}", [])
                curve.append((row["assignments"], row["us"][name]))
    return Growth(
        name="assignments",
        title="Look-up of a mask in Python",
        across="assignments of the series",
        up="µs",
        curves=curves,
        wanted="level, at most doubling",
    )


# --- all of them --------------------------------------------------------------------------------


def measure(folder: Path, *, quick: bool, only: str = "") -> Iterator[Growth]:
    """All growths, one after the other; `folder` holds the frames that `works.prepare` wrote."""
    with tempfile.TemporaryDirectory(prefix="hp") as name, running_postgresql() as server:
        scratch, numbers = Path(name), iter(range(100))

        def databases() -> dict[str, str]:
            return {"SQLite": str(scratch / f"{next(numbers)}.sqlite"), "PostgreSQL": server.create()}

        measures: dict[str, Callable[[], Growth]] = {
            "frames-per-build": lambda: frames_per_build(scratch, quick),
            "sensor": lambda: sensors(scratch, quick),
            "catalogue": lambda: frames_in_the_catalogue(folder, databases(), quick),
            "assignments": lambda: assignments(scratch, quick),
            "clients": lambda: clients(folder, databases(), quick),
        }
        for key, one in measures.items():
            if only in key:
                grown = one()
                for label, points in grown.curves.items():
                    numbers_of = ", ".join(f"{x:g}: {y:.3g}" for x, y in points)
                    print(f"{grown.title}, {label}: {numbers_of}", file=sys.stderr, flush=True)
                yield grown


def draw(growth: Growth, path: Path) -> None:
    """The curves on logarithmic axes, as an SVG whose text stays text."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": growth.name}):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        axes = figure.subplots()
        for (label, points), marker in zip(growth.curves.items(), "os^v", strict=False):
            axes.loglog(*zip(*points, strict=True), marker=marker, label=label)
        least, most = axes.get_ylim()
        axes.set_ylim(min(least, most / 100), most)  # so that what is flat looks flat
        axes.set(title=growth.title, xlabel=growth.across, ylabel=growth.up)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def section(grown: Sequence[Growth]) -> str:
    """The part of BENCHMARKS.md on growth; draws the plots that it shows."""
    lines = ["## Growth"]
    for one in grown:
        path = PLOTS / f"{one.name}.svg"
        draw(one, path)
        lines += ["", f"![{one.title}: {one.up} by {one.across}]({path.relative_to(CHECKOUT)})", ""]
        lines += [f"{one.title}. Wanted: {one.wanted}."]
        xs = [x for x, _ in next(iter(one.curves.values()))]
        heads = [f"{x:,.3g}" if x < 1000 else f"{x:,.0f}" for x in xs]
        lines += ["", f"| {one.across} | {' | '.join(heads)} | last by first |"]
        lines += ["|---" * (len(xs) + 2) + "|"]
        lines += [
            f"| {label} | "
            + " | ".join(f"{y:.3g}" for _, y in points)
            + f" | {points[-1][1] / points[0][1]:.3g} |"
            for label, points in one.curves.items()
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two sizes of each")
    parser.add_argument("--only", default="", help="only growths whose name contains this")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "hotpix-benchmark")
    arguments = parser.parse_args()
    run("prepare", arguments.folder)
    print(section(list(measure(arguments.folder, quick=arguments.quick, only=arguments.only))))


if __name__ == "__main__":
    main()
