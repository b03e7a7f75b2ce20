"""Eight processes at once: they put in frames, build, certify, revoke and ask, and nothing may get lost."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import pairwise
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from hotpix_registry.domain import Recipe, Rule
from hotpix_registry.errors import Conflict, NoMask, RevokedMask
from hotpix_registry.registry import Registry
from tests.cli.conftest import FORKS
from tests.databases import PostgreSQL
from tests.small_camera import write_campaign
from tests.story import CAMERA
from tests.torture import place
from tests.torture.table import Row, row_of

PROCESSES = 8
LONGEST_READ_S = 2.0
"""What a reader may ever wait, with eight processes on two processors that do nothing else."""
_REFUSALS = (Conflict, RevokedMask, NoMask)
"""What others' acts may rightly bring about."""


def check_intervals(registry: Registry) -> None:
    """Of each series, versions are counted without a gap and no two masks hold one date."""
    series: dict[str, list[dict[str, Any]]] = {}
    for mask in registry.masks():
        series.setdefault(mask["series"], []).append(mask)
    for masks in series.values():
        assert [mask["version"] for mask in masks] == list(range(1, len(masks) + 1))
        held = sorted((v["from"], v["to"] or "9999") for mask in masks for v in mask["valid"])
        assert all(end <= start for (_, end), (start, _) in pairwise(held))


def crowd(
    server: PostgreSQL, *, kind: str, seconds: float, seed: int, longest_read_s: float = LONGEST_READ_S
) -> Iterator[Row]:
    """Let eight processes act for some time, and hold what they were told against what is there."""
    with place.new_stage(kind, server) as stage:
        place.lived(stage)
        with place.as_before(stage).opened() as registry:
            acts_before = len(registry.log(newest=None))
        ready = FORKS.Barrier(PROCESSES)
        notes = [stage.folder / f"{number}.json" for number in range(PROCESSES)]
        processes = [
            FORKS.Process(target=_act_often, args=(stage.database, number, seed, seconds, ready, path))
            for number, path in enumerate(notes)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(seconds + 120)
            process.kill()
        codes = [process.exitcode for process in processes]
        told = [json.loads(path.read_text()) for path in notes if path.exists()]
        problems = [f"a process ended with {code}" for code in codes if code != 0]
        problems += [error for one in told for error in one["errors"]]
        with place.as_before(stage).opened() as registry:
            problems += _amiss(registry, acts_before, told)
    done = sum((Counter(one["done"]) for one in told), Counter[str]())
    longest_s = max((one["longest_read_s"] for one in told), default=0.0)
    if longest_s > longest_read_s:
        problems.append(f"a reader waited {longest_s:.1f} s")
    acts = ", ".join(f"{number} × {act}" for act, number in sorted(done.items()))
    note = f"{acts} in {seconds:.0f} s; the longest a reader waited was {longest_s * 1000:.0f} ms"
    yield row_of(f"{PROCESSES} processes at once, {kind}", done.total(), problems, note)


def _amiss(registry: Registry, acts_before: int, told: list[dict[str, Any]]) -> Iterator[str]:
    log = registry.log(newest=None)
    if [act["tx"] for act in log] != list(range(1, len(log) + 1)):
        yield "transactions are not counted without a gap"
    releases = {release.name for release in registry.releases()}
    frames = [frame.sha256 for frame in registry.frames()]
    masks = registry.masks()
    for one in told:
        if lost := set(one["releases"]) - releases:
            yield f"releases are lost: {lost}"
        if lost := set(one["frames"]) - set(frames):
            yield f"frames are lost: {len(lost)}"
        if lost := set(one["masks"]) - {mask["sha256"] for mask in masks}:
            yield f"masks are lost: {lost}"
    if len(frames) != len(set(frames)):
        yield "frames are there twice"
    keys = [(mask["sha256"], mask["series"]) for mask in masks]
    if len(keys) != len(set(keys)):
        yield "masks are there twice"
    if len(log) < acts_before + sum(len(one["releases"]) for one in told):
        yield "acts are lost"
    yield from place.amiss(registry)
    check_intervals(registry)


def _act_often(database: str, number: int, seed: int, seconds: float, ready: Barrier, notes: Path) -> None:
    draw = random.Random(f"{seed} {number}")
    one = _One(notes.parent / f"crowd{number}", number)
    with Registry(database) as registry:
        ready.wait()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            act = draw.choices(
                (one.ingest, one.build, one.certify, one.revoke, one.release, one.ask),
                weights=(1, 1, 3, 2, 1, 30),
            )[0]
            try:
                act(registry, draw)
            except _REFUSALS:
                one.done["refused"] += 1
            except Exception as error:  # everything else is what this looks for
                one.errors.append(f"{act.__name__}: {type(error).__name__}: {error}")
            else:
                one.done[act.__name__] += 1
    notes.write_text(json.dumps({name: value for name, value in vars(one).items() if name != "folder"}))


class _One:
    """What one process did, and was told."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number = folder, number
        self.done: Counter[str] = Counter()
        self.errors: list[str] = []
        self.frames: list[str] = []
        self.masks: list[str] = []
        self.releases: list[str] = []
        self.longest_read_s = 0.0

    def ingest(self, registry: Registry, draw: random.Random) -> None:
        """Half of them put in the same nights as their neighbour."""
        night = datetime(2022, 1, 1, 22) + timedelta(days=20 * self.done["ingest"] + self.number // 2)
        paths = write_campaign(self.folder / f"{night:%Y%m%d}", start=night, darks={30: 2, 120: 2}, biases=0)
        registry.ingest(paths)
        self.frames += [frame.sha256 for frame in registry.frames(nights=(f"{night:%Y-%m-%d}",) * 2)]

    def build(self, registry: Registry, draw: random.Random) -> None:
        recipe = Recipe(rule=Rule.LIMIT, limit_e_per_s=draw.choice([4.0, 5.0, 6.0]))
        self.masks += [built.sha256 for built in registry.build(CAMERA, recipe=recipe)]

    def certify(self, registry: Registry, draw: random.Random) -> None:
        registry.certify(self._any(registry, draw), supersede=draw.random() < 0.5, reason="because")

    def revoke(self, registry: Registry, draw: random.Random) -> None:
        registry.revoke(self._any(registry, draw), reason="because")

    def release(self, registry: Registry, draw: random.Random) -> None:
        name = f"r{self.number}-{self.done['release']}"
        registry.create_release(name)
        self.releases.append(name)

    def ask(self, registry: Registry, draw: random.Random) -> None:
        started = time.perf_counter()
        with suppress(*_REFUSALS):
            registry.mask(CAMERA, f"2022-{draw.randint(1, 12):02d}-{draw.randint(1, 28):02d}T22:00:00Z").array  # noqa: B018
        self.longest_read_s = max(self.longest_read_s, time.perf_counter() - started)

    @staticmethod
    def _any(registry: Registry, draw: random.Random) -> int:
        return draw.choice(registry.masks())["mask_id"]
