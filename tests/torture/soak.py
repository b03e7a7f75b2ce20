"""A decade of an observatory, told in minutes: every answer is held against a calendar kept by hand."""

from __future__ import annotations

import copy
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

import psutil

from hotpix_registry import Client
from hotpix_registry.errors import HotpixError, NoMask, RevokedMask
from hotpix_registry.registry import Registry
from tests.cli.conftest import Hotpix
from tests.databases import PostgreSQL
from tests.small_camera import write_campaign
from tests.torture import place
from tests.torture.table import Row, row_of

CAMERAS = ("smallcam-48", "othercam", "thirdcam")
BEGIN = date(2010, 1, 1)
DAYS = 13 * 365
REACH_DAYS = 400
"""How far before its night the first mask of an epoch answers, by default."""
QUESTIONS = 20
"""How many are asked after each act."""


@dataclass
class Calendar:
    """What answers on each day of one camera; kept by the rules of the design in the slowest way."""

    days: list[int | None] = field(default_factory=lambda: [None] * DAYS)
    starts: dict[int, int] = field(default_factory=dict)
    """mask → day of its campaign"""
    events: list[int] = field(default_factory=list)
    revoked: set[int] = field(default_factory=set)

    def epoch(self, day: int) -> tuple[int, int]:
        start = max((event for event in self.events if event <= day), default=0)
        return start, min((event for event in self.events if event > day), default=DAYS)

    def build(self, mask: int, day: int) -> None:
        """A campaign's mask holds until the next campaign or event; the first of its epoch reaches back."""
        start, end = self.epoch(day)
        others = [other for other in self.starts.values() if start <= other < end]
        first = day if any(other < day for other in others) else max(start, day - REACH_DAYS)
        last = min((other for other in others if other > day), default=end)
        self.days[first:last] = [mask] * (last - first)
        self.starts[mask] = day

    def rebuild(self, mask: int, of: int) -> None:
        """Another build of the same campaign takes the dates of the former."""
        self.days = [mask if holder == of else holder for holder in self.days]
        self.starts[mask] = self.starts[of]

    def add_event(self, day: int) -> None:
        """No mask answers for days on the other side of an event."""
        self.events.append(day)
        for number, holder in enumerate(self.days):
            if holder is not None and self.epoch(number) != self.epoch(self.starts[holder]):
                self.days[number] = None

    def answer(self, day: int) -> int | type[HotpixError]:
        holder = self.days[day]
        if holder is None:
            return NoMask
        return RevokedMask if holder in self.revoked else holder


Calendars = dict[str, Calendar]


def soak(server: PostgreSQL, *, kind: str, campaigns: int, seed: int) -> Iterator[Row]:
    """Let so many campaigns of each camera come and go, served all the time, and compare every answer."""
    problems: list[str] = []
    with place.new_stage(kind, server) as stage, serving_process(place.as_before(stage)) as (url, process):
        life = _Life(stage.folder, random.Random(f"{seed} {kind}"), campaigns)
        memory_mib, handles = [], []
        with Registry(stage.database) as registry, Client(url, cache_dir=stage.folder / "far") as client:
            for step in range(campaigns):
                for camera in CAMERAS:
                    life.next_act(registry, camera, step)
                    problems += life.ask(registry, client)
                memory_mib.append(process.memory_info().rss / 2**20)
                handles.append(process.num_fds() if hasattr(process, "num_fds") else process.num_handles())
            problems += place.amiss(registry)
            questions = min(1000, 100 * campaigns)
            problems += life.ask(registry, client, questions=questions)
            before_mib = process.memory_info().rss / 2**20
            problems += life.ask(registry, client, questions=2 * questions)
            grown_asked = process.memory_info().rss / 2**20 - before_mib
    if grown_asked > 2:
        problems.append(f"the service grew by {grown_asked:.1f} MiB over {questions} questions")
    settled = max(1, campaigns // 4)
    grown = memory_mib[-1] - max(memory_mib[: settled + 1])
    if grown > 0.1 * memory_mib[settled]:
        problems.append(f"the service grew by {grown:.0f} MiB")
    if handles[-1] > max(handles[: settled + 1]) + 2:
        problems.append(f"the service held {handles[settled]} files and then {handles[-1]}")
    acts = ", ".join(f"{number} {what}" for what, number in sorted(life.done.items()))
    note = (
        f"{acts}; of the service: {memory_mib[settled]:.0f} MiB after a quarter, {memory_mib[-1]:.0f} MiB at"
        f" the end, {handles[settled]} and {handles[-1]} open files"
    )
    yield row_of(f"a decade of {len(CAMERAS)} cameras, {kind}", life.asked, problems, note)


@contextmanager
def serving_process(hotpix: Hotpix) -> Iterator[tuple[str, psutil.Process]]:
    """`hotpix-registry serve` as a process of its own."""
    log = hotpix.cwd / "serve.log"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "hotpix_registry", "serve", "--port", str(port)],
            cwd=hotpix.cwd,
            env=hotpix.environment,
            stdout=file,
            stderr=file,
        )
    try:
        for _ in range(1200):
            assert process.poll() is None, log.read_text()
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


class _Life:
    """What happens, and what should be answered."""

    def __init__(self, folder: Path, draw: random.Random, campaigns: int) -> None:
        self.folder, self.draw = folder, draw
        self.calendars: Calendars = {camera: Calendar() for camera in CAMERAS}
        self.releases: dict[str, Calendars] = {}
        self.done: Counter[str] = Counter()
        self.asked = 0
        self.late: list[tuple[str, int]] = []
        self.pace_days = 3650 // max(campaigns, 120)

    def next_act(self, registry: Registry, camera: str, step: int) -> None:
        calendar, draw = self.calendars[camera], self.draw
        day = 400 + step * self.pace_days + draw.randrange(self.pace_days // 3)
        if draw.random() < 0.06:
            self._event(registry, camera, day - 1)
        if draw.random() < 0.08 and step:
            self.late.append((camera, day))  # a campaign that is put in long after
        else:
            self._campaign(registry, camera, day)
        if self.late and draw.random() < 0.1:
            self._campaign(registry, *self.late.pop(0))
        masks = [mask for mask in set(calendar.days) if mask is not None and mask not in calendar.revoked]
        if masks and draw.random() < 0.08:
            revoked = draw.choice(sorted(masks))
            registry.revoke(revoked, reason="streaks")
            calendar.revoked.add(revoked)
            self.done["revocations"] += 1
        if calendar.revoked and draw.random() < 0.3:
            self._rebuild(registry, camera, draw.choice(sorted(calendar.revoked)))
        if draw.random() < 0.03:
            name = f"release-{len(self.releases)}"
            registry.create_release(name)
            self.releases[name] = copy.deepcopy(self.calendars)
            self.done["releases"] += 1

    def _event(self, registry: Registry, camera: str, day: int) -> None:
        calendar = self.calendars[camera]
        if not calendar.starts:
            return
        registry.add_event(camera, _night(day), "warmup", trim=True, note="a power cut")
        calendar.add_event(day)
        self.done["warm-ups"] += 1

    def _campaign(self, registry: Registry, camera: str, day: int) -> None:
        start = datetime.fromisoformat(f"{_night(day)}T22:00:00")
        folder = self.folder / camera / _night(day)
        paths = write_campaign(
            folder, start=start, darks={30: 2, 120: 2}, biases=2, header={"INSTRUME": _NAMES[camera]}
        )
        registry.ingest(paths)
        self.calendars[camera].build(self._built(registry, camera, day), day)
        self.done["campaigns"] += 1

    def _rebuild(self, registry: Registry, camera: str, revoked: int) -> None:
        """A mask that was revoked is built again by another rule; the new one takes its dates."""
        calendar = self.calendars[camera]
        if revoked not in calendar.days:
            return
        limit = 4.0 + 0.001 * (1 + self.done["re-builds"])
        calendar.rebuild(self._built(registry, camera, calendar.starts[revoked], limit), revoked)
        self.done["re-builds"] += 1

    @staticmethod
    def _built(registry: Registry, camera: str, day: int, limit_e_per_s: float = 4.0) -> int:
        """The mask of one night, certified by hand where its gates did not."""
        nights = (_night(day), _night(day))
        (built,) = registry.build(camera, nights=nights, recipe=place.recipe(limit_e_per_s))
        if built.status == "candidate":
            registry.certify(built.mask_id, force=True, reason="looked at")
        return built.mask_id

    def ask(self, registry: Registry, client: Client, questions: int = QUESTIONS) -> Iterator[str]:
        for _ in range(questions):
            camera, day = self.draw.choice(CAMERAS), self.draw.randrange(DAYS)
            release = self.draw.choice([None, *self.releases])
            calendars = self.calendars if release is None else self.releases[release]
            if not self.calendars[camera].starts:
                continue
            self.asked += 1
            expected = calendars[camera].answer(day)
            asked = registry if self.draw.random() < 0.5 else client
            try:
                told: object = asked.mask(camera, f"{_night(day)}T22:00:00Z", release=release).answer.mask_id
            except HotpixError as error:
                told = type(error)
            if told != expected:
                yield f"{camera} on {_night(day)} in {release}: {told} instead of {expected}"


_NAMES = {"smallcam-48": "Smallcam 48", "othercam": "Othercam", "thirdcam": "Thirdcam"}


def _night(day: int) -> str:
    return (BEGIN + timedelta(days=day)).isoformat()
