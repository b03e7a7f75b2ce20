"""How fast a registry is built anew by many workers: `python -m tests.benchmarks.fleet`.

Campaigns of one camera (10 darks of 90 s and 20 of 1000 s each) are built by 1 and by 2 workers, local
processes and dask's, each computing in one process. The start of workers is not counted. What the
coordinator does for each campaign (plan, claim, judge, store) and what dask takes for a task are measured
besides. Efficiency is that of campaigns a minute, which holds on a machine that does nothing else; seconds of
processor time hold on a busy one too, and from these a simulation tells what 10 to 1000 workers would do, and
how busy the coordinator would be. `--json FILE` writes the numbers.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from hotpix_registry.registry import Registry, fleet
from hotpix_registry.registry.facade.opened import act
from hotpix_registry.registry.tallies import FleetReport
from hotpix_registry.work import Ended, Work, dask_workers, local_processes
from tests.databases import running_postgresql
from tests.fleets import Here, dask_worker, wait_until
from tests.small_camera import write_frame

FIRST = datetime(2001, 1, 4, 22)
FRAMES = {90.0: 10, 1000.0: 20}
SIMULATED = (1, 2, 10, 30, 100, 300, 1000)
CAMPAIGNS_SIMULATED = 10_000


def write_campaigns(folder: Path, size: int, campaigns: int) -> Path:
    """Darks a month apart: the pixels of one campaign, with the dates of many."""
    place = folder / f"fleet-{size}"
    for exptime_s, number in FRAMES.items():
        for index in range(number):
            pattern = place / f"{exptime_s:g}s_{index:02d}.fits"
            if not pattern.exists():
                start = FIRST + timedelta(seconds=2000 * index)
                write_frame(pattern, exptime_s=exptime_s, start=start, shape=(size, size))
            content = pattern.read_bytes()
            for month in range(1, campaigns):
                path = place / f"{month:03d}" / pattern.name
                if not path.exists():
                    path.parent.mkdir(exist_ok=True)
                    start = FIRST + timedelta(days=30 * month, seconds=2000 * index)
                    path.write_bytes(_dated(content, start))
    return place


def _dated(content: bytes, start: datetime) -> bytes:
    before, keyword, after = content.partition(b"DATE-OBS= '")
    assert keyword
    return before + keyword + start.isoformat(timespec="milliseconds").encode() + after[23:]


@dataclass
class Watched:
    """Work whose coordinator is timed: what is not spent in waiting, it is busy."""

    work: Work
    waited_s: float = 0.0
    tasks_s: list[float] = field(default_factory=list)
    tasks_cpu_s: list[float] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def far(self) -> bool:
        return self.work.far

    def places(self) -> int:
        return self.work.places()

    def submit(self, key: str, task: Callable[[Any], Any], argument: Any) -> None:
        self.work.submit(key, timed, (task, argument))

    def next(self, timeout_s: float) -> Ended | None:
        started = time.perf_counter()
        ended = self.work.next(timeout_s)
        self.waited_s += time.perf_counter() - started
        if ended is None or ended.error is not None:
            return ended
        seconds, cpu_s, value = ended.value
        self.tasks_s.append(seconds)
        self.tasks_cpu_s.append(cpu_s)
        self.values[ended.key] = value
        return Ended(ended.key, value)


def timed(order: tuple[Callable[[Any], Any], Any]) -> tuple[float, float, Any]:
    """The seconds and the processor's seconds that a task took, and what it returns."""
    task, argument = order
    started, started_cpu = time.perf_counter(), time.process_time()
    value = task(argument)
    return time.perf_counter() - started, time.process_time() - started_cpu, value


class Replayed(Here):
    """Work that was done before: what is left is what the coordinator does."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__()
        self._values = values

    def submit(self, key: str, task: Callable[[Any], Any], argument: Any) -> None:
        super().submit(key, self._values.__getitem__, key)


@contextmanager
def dask_processes(number: int, folder: Path) -> Iterator[str]:
    """The address of a scheduler with so many workers, each a process."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=":0", silence_logs=50) as cluster:
        workers = [dask_worker(cluster.scheduler_address, folder / f"worker{n}") for n in range(number)]
        for worker in workers:
            worker.__enter__()
        wait_until(lambda: len(cluster.scheduler_info["workers"]) == number)
        try:
            yield cluster.scheduler_address
        finally:
            for worker in workers:
                worker.__exit__(None, None, None)


def measure(database: str, darks: Path, work: Work) -> dict[str, Any]:
    """Campaigns a minute from when each worker had its first task done, and the coordinator's own time."""
    warm_up(work)
    watched, stored = Watched(work), [time.perf_counter()]
    workers = work.places() // 2
    with Registry(database) as registry:
        registry.ingest(darks, recursive=True)
        started = time.perf_counter()

        def progress(report: FleetReport) -> None:
            if report.built == len(stored):
                stored.append(time.perf_counter())

        report = fleet.build_all(
            registry._engine, act(), registry.cameras(), fleet.Wanted(), watched, progress
        )
        total_s = time.perf_counter() - started
    assert report.built == report.campaigns > 2 * workers, report.as_dict()
    counted = stored[workers:]
    return {
        "workers": workers,
        "per_minute": 60 * (len(counted) - 1) / (counted[-1] - counted[0]),
        "busy_s": (total_s - watched.waited_s) / report.built,
        "task_s": statistics.median(watched.tasks_s),
        "task_cpu_s": statistics.median(watched.tasks_cpu_s),
        "tasks_cpu_s": watched.tasks_cpu_s,
        "values": watched.values,
    }


def coordinator_s(database: str, darks: Path, values: dict[str, Any]) -> float:
    """Seconds that planning, claiming, judging and storing a campaign take when nobody else computes."""
    with Registry(database) as registry:
        registry.ingest(darks, recursive=True)
        started = time.perf_counter()
        work = Replayed(values)
        fleet.build_all(registry._engine, act(), registry.cameras(), fleet.Wanted(), work, None)
        return (time.perf_counter() - started) / len(values)


def warm(seconds: float) -> None:
    """Import what a build needs, and keep a worker busy, so that the others warm themselves, too."""
    import hotpix_registry.fits.maskfile
    import hotpix_registry.science.detection  # noqa: F401

    time.sleep(seconds)


def warm_up(work: Work) -> None:
    waiting = work.places() // 2
    for number in range(waiting):
        work.submit(f"{number:x}", warm, 3.0)
    while waiting:
        waiting -= work.next(5.0) is not None


def overhead_s(work: Work, tasks: int = 1000) -> float:
    """Seconds that a task which does nothing takes from its submission to its result, at full flow."""
    waiting, numbers = 0, iter(range(tasks))
    started = time.perf_counter()
    for number in numbers:
        work.submit(f"{number}", abs, -number)
        waiting += 1
        while waiting >= 50:
            waiting -= work.next(5.0) is not None
    while waiting:
        waiting -= work.next(5.0) is not None
    return (time.perf_counter() - started) / tasks


# --- more workers than there are here --------------------------------------------------------------


@dataclass(frozen=True)
class Simulated:
    workers: int
    per_minute: float
    efficiency: float
    """against so many times one worker that waits for nobody"""
    coordinator: float
    """share of the time in which it is busy"""


def simulate(
    workers: int,
    tasks_s: Sequence[float],
    coordinator_s: float,
    scheduler_s: float,
    campaigns: int = CAMPAIGNS_SIMULATED,
) -> Simulated:
    """List scheduling: a free worker takes the next task that was submitted.

    One coordinator handles results in the order in which they come, and then submits what there is room for:
    two tasks for each worker. Every task passes through the scheduler.
    """
    draw = random.Random(1)
    campaigns = max(campaigns, 20 * workers)
    free = [0.0] * workers
    results: list[float] = []
    now = scheduler_free = busy = worked = 0.0
    submitted = done = 0

    def submit() -> None:
        nonlocal submitted, scheduler_free, worked
        scheduler_free = max(scheduler_free, now) + scheduler_s
        begin = max(heapq.heappop(free), scheduler_free)
        length = draw.choice(tasks_s)
        worked += length
        heapq.heappush(free, begin + length)
        heapq.heappush(results, begin + length)
        submitted += 1

    while done < campaigns:
        while submitted < campaigns and submitted - done < 2 * workers:
            submit()
        now = max(now, heapq.heappop(results)) + coordinator_s
        busy += coordinator_s
        done += 1
    return Simulated(workers, 60 * campaigns / now, worked / (workers * now), busy / now)


def print_simulation(tasks_s: Sequence[float], coordinator_s: float, scheduler_s: float) -> list[Simulated]:
    print(
        f"\nSimulated: tasks of {statistics.median(tasks_s):.2f} s (median), {1000 * coordinator_s:.0f} ms "
        f"of the coordinator and {1000 * scheduler_s:.1f} ms of the scheduler for each"
    )
    print(f"{'workers':>8} {'campaigns/min':>14} {'efficiency':>11} {'coordinator busy':>17}")
    found = [simulate(number, tasks_s, coordinator_s, scheduler_s) for number in SIMULATED]
    for one in found:
        print(f"{one.workers:>8} {one.per_minute:>14.1f} {one.efficiency:>10.0%} {one.coordinator:>16.0%}")
    return found


# --- all of it -------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=2048, help="pixels of a side")
    parser.add_argument("--campaigns", type=int, default=8)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "hotpix-benchmark")
    parser.add_argument("--quick", action="store_true", help="512 pixels of a side")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here, too")
    options = parser.parse_args()
    darks = write_campaigns(options.folder, 512 if options.quick else options.size, options.campaigns)
    rows: list[dict[str, Any]] = []
    scheduler_s, alone_s = 1.0, dict[str, float]()
    print(f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f} at the start")
    print(f"{'database':11}{'workers':>22}{'campaigns/min':>15}{'task':>9}{'CPU':>9}{'coordinator busy':>18}")
    with tempfile.TemporaryDirectory(prefix="hp") as name, running_postgresql() as server:
        folder, numbers = Path(name), itertools.count()

        def new_database(kind: str) -> str:
            return str(folder / f"{next(numbers)}.sqlite") if kind == "SQLite" else server.create()

        def add(kind: str, what: str, work: Work) -> None:
            row = {"database": kind, "kind": what, **measure(new_database(kind), darks, work)}
            rows.append(row)
            print(
                f"{kind:11}{row['workers']:>3} {what:>18}{row['per_minute']:>15.1f}{row['task_s']:>7.2f} s"
                f"{row['task_cpu_s']:>7.2f} s"
                f"{1000 * row['busy_s']:>15.0f} ms",
                flush=True,
            )

        for kind in ("SQLite", "PostgreSQL"):
            for number in (1, 2):
                with local_processes(number) as work:
                    add(kind, "local processes", work)
            for number in (1, 2):
                with dask_processes(number, folder) as address, dask_workers(address) as work:
                    add(kind, "dask workers", work)
                    scheduler_s = min(scheduler_s, overhead_s(work))
            values = rows[-1].pop("values")
            alone_s[kind] = min(coordinator_s(new_database(kind), darks, values) for _ in range(3))
            print(f"{kind:11}coordinator alone {1000 * alone_s[kind]:.0f} ms for a campaign")
    for one, two in zip(rows[::2], rows[1::2], strict=True):
        times = two["per_minute"] / one["per_minute"]
        processors = one["task_cpu_s"] / two["task_cpu_s"]
        print(
            f"{one['database']}, {one['kind']}: 2 workers build {times:.2f} times what 1 does, efficiency "
            f"{times / 2:.0%}; in processor time of tasks {processors:.0%}"
        )
    simulated = print_simulation(rows[-2]["tasks_cpu_s"], alone_s["PostgreSQL"], scheduler_s)
    if options.json is not None:
        found = {
            "rows": [{name: value for name, value in row.items() if name != "values"} for row in rows],
            "coordinator_s": alone_s,
            "scheduler_s": scheduler_s,
            "simulated": [dataclasses.asdict(one) for one in simulated],
        }
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
