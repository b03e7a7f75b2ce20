"""`kill -9` at any instant of every writing command, and of the PostgreSQL server under writers."""

from __future__ import annotations

import itertools
import os
import random
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotpix_registry import Client
from hotpix_registry.client import FromCache
from hotpix_registry.errors import DatabaseUnavailable, ServerUnreachable
from hotpix_registry.registry import Registry
from tests.cli.conftest import FORKS, Hotpix
from tests.databases import PostgreSQL, running_postgresql
from tests.mirrors import is_as_its_source_was, newest
from tests.serving import serving
from tests.small_camera import SHAPE, write_frame
from tests.story import CAMERA
from tests.torture import place
from tests.torture.place import BUILD, NIGHTS, Stage, amiss, content, content_of, elapsed
from tests.torture.table import Row, row_of

KILLED = 9
RUNS = 2
"""by which it is known how long a work lasts"""
OLD = "20261123_0001"


@dataclass(frozen=True)
class Work:
    """A command that is killed, and the registry before it."""

    name: str
    prepare: Callable[[Stage], tuple[str, ...]]
    """brings an empty registry to what it is before; returns the command"""
    to: str | None = None
    """the older schema that it starts from"""
    product: str | None = None
    """the file that it writes beside the registry"""


def _ingest(stage: Stage) -> tuple[str, ...]:
    return ("ingest", str(place.darks(stage, more=6)))


def _build(stage: Stage) -> tuple[str, ...]:
    folder = place.darks(stage)
    place.tell(stage, lambda registry: registry.ingest([folder]))
    return BUILD


def _certify(stage: Stage) -> tuple[str, ...]:
    place.lived(stage)
    return ("certify", "1", "--valid-from", "2021-03-10", "--valid-to", "2021-10-01", "--supersede")


def _roll_out(stage: Stage) -> tuple[str, ...]:
    place.lived(stage)
    place.tell(stage, lambda registry: registry.compare_recipes("current", "limit=10"))
    return ("recipe", "rollout", "current", "limit=10", "--all", "--reason", "another recipe")


def _import_mask(stage: Stage) -> tuple[str, ...]:
    place.lived(stage)
    np.save(stage.folder / "theirs.npy", np.eye(*SHAPE, dtype=bool))
    dates = ("--from", "2022-01-01", "--temperature", "-10")
    return ("import", str(stage.folder / "theirs.npy"), "--camera", CAMERA, *dates)


def _import_registry(stage: Stage) -> tuple[str, ...]:
    place.lived(stage)
    folder, other = place.darks(stage, "others", year=2023), stage.folder / "other.sqlite"
    with Registry(str(other)) as registry:
        registry.ingest([folder])
        place.build(registry)
    return ("import", str(other), "--certify")


def _migrate(stage: Stage) -> tuple[str, ...]:
    return ("db", "upgrade")


def _copy(way: str) -> Callable[[Stage], tuple[str, ...]]:
    def prepare(stage: Stage) -> tuple[str, ...]:
        place.lived(stage)
        return (way, "copy.sqlite")

    return prepare


WORKS = (
    Work("ingest", _ingest),
    Work("build", _build),
    Work("certify", _certify),
    Work("roll out a recipe", _roll_out),
    Work("import a mask", _import_mask),
    Work("import a registry", _import_registry),
    Work("migrate", _migrate, to=OLD),
    Work("backup", _copy("backup"), product="copy.sqlite"),
    Work("export", _copy("export"), product="copy.sqlite"),
)


def kill_commands(
    server: PostgreSQL, *, kind: str, trials: int, seed: int, works: tuple[Work, ...] = WORKS
) -> Iterator[Row]:
    """Kill each work at random instants, `trials` times, and check all that must hold after it."""
    for work in works:
        draw = random.Random(f"{seed} {kind} {work.name}")
        with place.new_stage(kind, server, to=work.to) as stage:
            command = work.prepare(stage)
            place.settle(stage)
            expected, length_s = uninterrupted(stage, work, command, runs=min(RUNS, trials))
            killed, problems = 0, []
            for _ in range(trials):
                delay_s = draw.uniform(0, 1.1 * length_s)
                with stage.copy() as hotpix:
                    code = hotpix.killed_after(delay_s, *command)
                    killed += code == -9
                    problem = _problem(stage, work, command, hotpix, code, expected)
                if problem is not None:
                    problems.append(f"after {delay_s * 1000:.0f} ms: {problem}")
        note = f"{killed} met it at work, which lasts {length_s * 1000:.0f} ms"
        yield row_of(f"kill -9 of {work.name}, {kind}", trials, problems, note)


def uninterrupted(
    stage: Stage, work: Work, command: tuple[str, ...], *, runs: int = RUNS
) -> tuple[dict[str, Any], float]:
    """What the command leaves when nothing happens to it, and how long it takes."""
    lengths = []
    for _ in range(runs):
        with stage.copy() as hotpix:
            lengths.append(elapsed(lambda: hotpix(*command).ended_with(0)))
            after = content_of(hotpix)
    return after, min(lengths)


def _problem(
    stage: Stage, work: Work, command: tuple[str, ...], hotpix: Hotpix, code: int, expected: dict[str, Any]
) -> str | None:
    """What is not as it must be after a command was killed; None if all is well."""
    if code not in (0, -KILLED):
        return f"it ended with {code}"
    if work.to is None:
        before = content_of(place.as_before(stage))
        with hotpix.opened() as registry:
            if found := amiss(registry):
                return f"verify finds {found}"
            now = content(registry)
        if problem := not_between(before, now, expected):
            return problem
        if code == 0 and now != expected:
            return "what was acknowledged is not there"
    product = None if work.product is None else hotpix.cwd / work.product
    if product is not None and (product.exists() or code == 0):
        with hotpix.on(product).opened() as copy:
            if found := amiss(copy):
                return f"verify finds in {work.product}: {found}"
            if content(copy) != expected:
                return f"{work.product} is not whole"
    replace = () if product is None or not product.exists() else ("--replace",)
    for left in _left_behind(hotpix.cwd):  # what lies there for over a day is swept by the next
        os.utime(left, times=(0, 0))
    done = hotpix(*command, *replace)
    if done.code != 0:
        return f"the same command again says: {done.err}"
    with hotpix.opened() as registry:
        if found := amiss(registry):
            return f"after the same command again verify finds {found}"
        after = content(registry)
    if {**after, "acts": []} != {**expected, "acts": []}:
        return "the same command again does not finish the work"
    if left := _left_behind(hotpix.cwd):
        return f"left behind: {left}"
    return None


def _left_behind(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if ".tmp" in path.name or path.suffix == ".incoming"]


def not_between(before: dict[str, Any], now: dict[str, Any], after: dict[str, Any]) -> str | None:
    n_before = len(before["acts"])
    if now["acts"][:n_before] != before["acts"]:
        return "an act of before is gone"
    if {action for action, _ in now["acts"][n_before:]} - {action for action, _ in after["acts"]}:
        return "there is an act that nobody did"
    if not set(before["frames"]) <= set(now["frames"]) <= set(after["frames"]):
        return "frames are not between before and after"
    for what in ("masks", "answers"):
        if now[what] not in (before[what], after[what]):
            return f"{what} are neither as before nor as after"
    return None


# --- the client ------------------------------------------------------------------------------------


def kill_client(server: PostgreSQL, *, kind: str, trials: int, seed: int) -> Iterator[Row]:
    """Kill a pipeline while its client downloads a mask; what is in its cache afterwards must be whole."""
    draw = random.Random(f"{seed} {kind} client")
    with place.new_stage(kind, server) as stage:
        place.lived(stage)
        with place.as_before(stage).opened() as registry:
            wanted = registry.mask(CAMERA, NIGHTS[0]).array
        killed, problems = 0, []
        with serving(stage.database) as url:
            length_s = min(
                elapsed(lambda: _download(url, stage.folder / f"whole{n}", -1.0))  # noqa: B023
                for n in range(3)
            )
            for number in range(trials):
                cache = stage.folder / f"cache{number}"
                delay_s = draw.uniform(0, 1.1 * length_s)
                killed += _download(url, cache, delay_s) == -KILLED
                if (problem := _client_problem(url, cache, wanted)) is not None:
                    problems.append(f"after {delay_s * 1000:.0f} ms: {problem}")
    yield row_of(f"kill -9 of a client's download, {kind}", trials, problems, f"{killed} met it at work")


def _download(url: str, cache: Path, delay_s: float) -> int:
    """The exit code of a process that asks for a mask's file, killed after a delay that is not negative."""
    process = FORKS.Process(target=_ask, args=(url, cache))
    process.start()
    process.join(None if delay_s < 0 else delay_s)
    process.kill()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _ask(url: str, cache: Path) -> None:
    with Client(url, cache_dir=cache) as client:
        assert client.mask(CAMERA, NIGHTS[0]).path.exists()


def _client_problem(url: str, cache: Path, wanted: NDArray[np.bool_]) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FromCache)
        for offline in (True, False):
            with Client(url, cache_dir=cache, offline=offline) as client:
                try:
                    if not np.array_equal(client.mask(CAMERA, NIGHTS[0]).array, wanted):
                        return "another mask was served"
                except ServerUnreachable:
                    if not offline:
                        return "the client cannot go on"
    return None


# --- a mirror --------------------------------------------------------------------------------------


def kill_sync(server: PostgreSQL, *, kind: str, trials: int, seed: int) -> Iterator[Row]:
    """Kill a sync from a server: the mirror must be its source as it stood at some transaction."""
    draw = random.Random(f"{seed} {kind} sync")
    with place.new_stage(kind, server) as stage:
        place.lived(stage)
        with serving(stage.database) as url:
            length_s = min(
                elapsed(lambda: _mirror(stage, f"whole{n}")("sync", url).ended_with(0))  # noqa: B023
                for n in range(RUNS)
            )
            killed, problems = 0, []
            for number in range(trials):
                dome = _mirror(stage, f"dome{number}")
                delay_s = draw.uniform(0, 1.1 * length_s)
                killed += dome.killed_after(delay_s, "sync", url) == -KILLED
                if (problem := _mirror_problem(dome, stage.database, url)) is not None:
                    problems.append(f"after {delay_s * 1000:.0f} ms: {problem}")
    note = f"{killed} met it at work, which lasts {length_s * 1000:.0f} ms"
    yield row_of(f"kill -9 of a mirror's sync, {kind}", trials, problems, note)


def _mirror(stage: Stage, name: str) -> Hotpix:
    (stage.folder / name).mkdir()
    return place.as_before(stage).on(stage.folder / name / "mirror.sqlite")


def _mirror_problem(dome: Hotpix, source: str, url: str) -> str | None:
    path = Path(str(dome.database))
    if path.exists() and not is_as_its_source_was(path, source):
        return "the mirror is not its source as it stood at any transaction"
    for left in _left_behind(path.parent):  # what lies there for over a day is swept by the next
        os.utime(left, times=(0, 0))
    done = dome("sync", url)
    if done.code != 0:
        return f"the same command again says: {done.err}"
    if not is_as_its_source_was(path, source) or newest(path) != newest(source):
        return "the same command again does not finish the work"
    if left_over := _left_behind(path.parent):
        return f"left behind: {left_over}"
    return None


# --- the server of the database --------------------------------------------------------------------


def kill_postgresql(*, trials: int, seed: int) -> Iterator[Row]:
    """Kill the whole PostgreSQL server under four writers: nothing acknowledged may be gone after."""
    draw = random.Random(f"{seed} server")
    problems, acknowledged = [], 0
    with running_postgresql() as server, server.new_registry() as url, TemporaryDirectory() as name:
        with Registry(url) as registry:
            registry.ingest([write_frame(Path(name) / "first.fits")])
        for trial in range(trials):
            notes = [Path(name) / f"{trial}-{number}" for number in range(4)]
            writers = [FORKS.Process(target=_write_until_it_fails, args=(url, path)) for path in notes]
            for writer in writers:
                writer.start()
            while not all(path.exists() and path.stat().st_size for path in notes):
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.5))
            server.kill_and_restart()
            for writer in writers:
                writer.join()
            promised = {line for path in notes for line in path.read_text().splitlines()}
            acknowledged += len(promised)
            if codes := [writer.exitcode for writer in writers if writer.exitcode != 0]:
                problems.append(f"writers ended with {codes}")
            with Registry(url) as registry:
                if lost := promised - {release.name for release in registry.releases()}:
                    problems.append(f"lost: {sorted(lost)}")
                if found := amiss(registry):
                    problems.append(f"verify finds {found}")
    yield row_of(
        "kill -9 of the PostgreSQL server", trials, problems, f"{acknowledged} acts had been acknowledged"
    )


def _write_until_it_fails(url: str, notes: Path) -> None:
    """Act over and over, and note each act once it was acknowledged."""
    with notes.open("w") as file, suppress(DatabaseUnavailable), Registry(url) as registry:
        for number in itertools.count():
            name = f"{notes.name}-{number}"
            registry.create_release(name)
            print(name, file=file, flush=True)
