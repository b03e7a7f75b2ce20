"""Campaigns of several cameras, what a serial build makes of them, and workers that are processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from hotpix_registry.registry import Registry
from hotpix_registry.work import Ended
from tests.small_camera import write_campaign

CHECKOUT = Path(__file__).parents[1]
FIRST = datetime(2021, 1, 4, 22)

State = list[tuple[Any, ...]]


def write_cameras(
    folder: Path, *, cameras: int, campaigns: int, shape: tuple[int, int] = (48, 64), **given: Any
) -> Path:
    """Darks of so many cameras, a campaign each month."""
    for camera in range(cameras):
        for number in range(campaigns):
            write_campaign(
                folder / f"camera{camera}" / f"campaign{number}",
                start=FIRST + timedelta(days=30 * number, hours=camera),
                header={"INSTRUME": f"Camera {camera}"},
                shape=shape,
                **given,
            )
    return folder


def state(registry: Registry) -> State:
    """Every mask with its digest, standing and dates: whatever does not tell in which order it was made."""
    told = ("series", "first_night", "version", "rule", "sha256", "build_key", "status", "valid")
    return sorted(tuple(str(mask[name]) for name in told) for mask in registry.masks())


def build_one_by_one(registry: Registry, **asked: Any) -> State:
    for camera in registry.cameras():
        registry.build(camera.name, **asked)
    return state(registry)


@contextmanager
def dask_worker(scheduler: str, folder: Path, *, code: Path = CHECKOUT) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that is started by hand, and joins."""
    folder.mkdir(exist_ok=True)
    options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", "worker", scheduler, *options, "--local-directory", str(folder)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(code)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until(is_so: Callable[[], bool], timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


class Here:
    """Work that is done in this process, and whose tasks end in an order that is given."""

    far = False

    def __init__(self, next_of: Callable[[int], int] = lambda _: 0, places: int = 4) -> None:
        self._next_of, self._places = next_of, places
        self._waiting: list[tuple[str, Callable[[Any], Any], Any]] = []
        self.most = 0

    def places(self) -> int:
        return self._places

    def submit(self, key: str, task: Callable[[Any], Any], argument: Any) -> None:
        self._waiting.append((key, task, argument))
        self.most = max(self.most, len(self._waiting))

    def next(self, timeout_s: float) -> Ended | None:
        if not self._waiting:
            return None
        key, task, argument = self._waiting.pop(self._next_of(len(self._waiting)))
        try:
            return Ended(key, task(argument))
        except Exception as error:
            return Ended(key, error=error)
