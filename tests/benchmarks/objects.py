"""What frames elsewhere cost beside those on a disk: `python -m tests.benchmarks.objects [--side 2048]`.

Ten darks of 90 s and twenty of 1000 s are catalogued and built from a folder, from an S3 server (moto's) and
from a plain web server, each of these in a process of its own on loopback, as is each piece of work.
`--delay MS` lets the web server wait that long before each answer, as a line to another place does. moto
reads the whole object for each range, so that its seconds are mostly its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hotpix_registry import Registry
from tests.benchmarks.works import peak_mb
from tests.object_store import running_store, running_web
from tests.small_camera import write_frame

CAMERA = "smallcam-48"
DARKS = {90.0: 10, 1000.0: 20}
SPAWN = multiprocessing.get_context("spawn")


def write_darks(folder: Path, side: int) -> int:
    """Write the darks that are not there yet; the size of them all."""
    start = datetime(2021, 3, 4, 18, 0)
    for exptime_s, number in DARKS.items():
        for index in range(number):
            path = folder / f"dark_{exptime_s:g}s_{index + 1:02d}.fits"
            if not path.exists():
                write_frame(path, exptime_s=exptime_s, start=start, shape=(side, side))
            start += timedelta(seconds=exptime_s + 5)
    return sum(path.stat().st_size for path in folder.iterdir())


def _serve(kind: str, folder: Path, delay_s: float, line: Connection) -> None:
    server = running_store() if kind == "S3" else running_web(folder, delay_s=delay_s)
    with server as running:
        url, settings = running.url + "/", {}
        if hasattr(running, "put_folder"):
            url, settings = running.put_folder(folder, "darks"), running.environment
        line.send((url, settings))
        while line.recv():
            line.send((len(running.requests), sum(request.n_bytes for request in running.requests)))
            running.requests.clear()


@contextmanager
def served(kind: str, folder: Path, delay_s: float) -> Iterator[tuple[str, Connection]]:
    """The URL of the darks, and a line on which the server tells what was asked since the last time."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_serve, args=(kind, folder, delay_s, theirs))
    process.start()
    try:
        url, settings = ours.recv()
        os.environ.update(settings)
        yield url, ours
    finally:
        ours.send(False)
        process.join()


def _work(what: str, place: str, database: str, line: Connection) -> None:
    import hotpix_registry.science.detection  # noqa: F401 - imports are not counted

    with Registry(database, create=True) as registry:
        start = time.perf_counter()
        if what == "ingest":
            assert registry.ingest(place).accepted == sum(DARKS.values())
        else:
            (built,) = registry.build(CAMERA)
        seconds = time.perf_counter() - start
    digest = built.sha256 if what == "build" else ""
    line.send((seconds, peak_mb(), digest))


def work(what: str, place: str, database: str) -> tuple[float, float, str]:
    """Seconds, peak memory in MB and the mask's digest of a piece of work in a process of its own."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_work, args=(what, place, database, theirs))
    process.start()
    theirs.close()
    found: tuple[float, float, str] = ours.recv()
    process.join()
    return found


def measure(folder: Path, side: int, delay_s: float) -> list[dict[str, Any]]:
    darks = folder / f"darks-{side}"
    darks.mkdir(parents=True, exist_ok=True)
    size = write_darks(darks, side)
    rows: list[dict[str, Any]] = []
    local: dict[str, tuple[float, float, str]] = {}
    for kind in ("disk", "S3", "web"):
        with tempfile.TemporaryDirectory() as place:
            database = f"{place}/registry.sqlite"
            if kind == "disk":
                for what in ("ingest", "build"):
                    local[what] = work(what, str(darks), database)
                    rows.append(_row(what, kind, local, local[what], (0, 0), size))
                continue
            with served(kind, darks, delay_s) as (url, server):
                for what in ("ingest", "build"):
                    server.send(True)
                    server.recv()
                    found = work(what, url, database)
                    server.send(True)
                    rows.append(_row(what, kind, local, found, server.recv(), size))
            assert rows[-1]["mask"] == local["build"][2], "masks differ"
    return rows


def _row(
    what: str,
    kind: str,
    local: dict[str, tuple[float, float, str]],
    found: tuple[float, float, str],
    asked: tuple[int, int],
    size: int,
) -> dict[str, Any]:
    seconds, peak_mb, mask = found
    return {
        "what": what,
        "from": kind,
        "seconds": seconds,
        "ratio": seconds / local[what][0],
        "requests": asked[0],
        "share_fetched": asked[1] / size,
        "peak_mb": peak_mb,
        "mask": mask,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", type=int, default=2048, help="of the frames, pixels")
    parser.add_argument("--delay", type=float, default=0.0, metavar="MS", help="before each answer")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "hotpix-benchmark")
    parser.add_argument("--json", type=Path, help="every number goes there")
    arguments = parser.parse_args()
    rows = measure(arguments.folder, arguments.side, arguments.delay / 1000)
    print(f"{sum(DARKS.values())} frames of {arguments.side}², {os.cpu_count()} processors\n")
    print("| work | from | seconds | to disk | requests | bytes fetched to bytes there | peak memory |")
    print("|---|---|---|---|---|---|---|")
    for one in rows:
        print(
            f"| {one['what']} | {one['from']} | {one['seconds']:.2f} | {one['ratio']:.2f} | {one['requests']}"
            f" | {one['share_fetched']:.2f} | {one['peak_mb']:.0f} MB |"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
