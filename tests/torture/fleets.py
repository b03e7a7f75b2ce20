"""`kill -9` of a worker and of the command itself while `build --all --jobs` is at work."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil

from tests.cli.conftest import Hotpix
from tests.databases import PostgreSQL
from tests.fleets import State, build_one_by_one, state, write_cameras
from tests.torture import place
from tests.torture.place import amiss, elapsed
from tests.torture.table import Row, row_of

CAMERAS, CAMPAIGNS = 2, 2
COMMAND = ("build", "--all", "--jobs", "2", "--rule", "limit", "--limit", "4")
_TO_END_S = 120.0


def kill_fleet(server: PostgreSQL, *, kind: str, trials: int, seed: int) -> Iterator[Row]:
    """Kill a worker at a random instant, and the command at a later one; run again, it must finish."""
    draw = random.Random(f"{seed} {kind} fleet")
    with place.new_stage(kind, server) as stage:
        folder = write_cameras(stage.folder / "darks", cameras=CAMERAS, campaigns=CAMPAIGNS)
        place.tell(stage, lambda registry: registry.ingest(folder, recursive=True))
        with stage.copy() as hotpix, hotpix.opened() as registry:
            expected = build_one_by_one(registry, recipe=place.recipe())
        with stage.copy() as hotpix:
            length_s = elapsed(lambda: hotpix.start(*COMMAND).communicate(timeout=_TO_END_S))
        workers, commands, problems = 0, 0, []
        for _ in range(trials):
            first_s, second_s = (draw.uniform(0, length_s / 2) for _ in range(2))
            with stage.copy() as hotpix, hotpix.start(*COMMAND) as command:
                while command.poll() is None and not _workers(command):
                    time.sleep(0.02)
                time.sleep(first_s)
                if at_work := _workers(command):
                    draw.choice(at_work).kill()
                    workers += 1
                with suppress(subprocess.TimeoutExpired):
                    command.communicate(timeout=second_s)
                left = psutil.Process(command.pid).children() if command.poll() is None else []
                command.kill()
                command.communicate()
                commands += command.returncode != 0
                problem = _problem(hotpix, command.returncode, left, expected)
            if problem is not None:
                problems.append(f"{first_s * 1000:.0f} and {second_s * 1000:.0f} ms later: {problem}")
    note = f"{workers} workers and {commands} commands were at work, which lasts {length_s * 1000:.0f} ms"
    yield row_of(f"kill -9 in a fleet of two, {kind}", trials, problems, note)


def _workers(command: subprocess.Popen[bytes]) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(command.pid).children()
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    return []


def _problem(hotpix: Hotpix, code: int, left: list[psutil.Process], expected: State) -> str | None:
    """What is not as it must be after a worker and the command were killed; None if all is well."""
    if code not in (0, -9):
        return f"it ended with {code}"
    if psutil.wait_procs(left, timeout=30)[1]:
        return "its workers outlive it"
    with hotpix.opened() as registry:
        if found := amiss(registry):
            return f"verify finds {found}"
        made = [mask["sha256"] for mask in registry.masks()]
        if len(made) > len(set(made)) or not set(made) <= {row[4] for row in expected}:
            return "there is a mask that no serial build makes"
        if code == 0 and state(registry) != expected:
            return "what was acknowledged is not there"
    done = hotpix(*COMMAND)
    if done.code != 0:
        return f"the same command again says: {done.err}"
    with hotpix.opened() as registry:
        if found := amiss(registry):
            return f"after the same command again verify finds {found}"
        if state(registry) != expected:
            return "the same command again does not make what a serial build does"
    return None
