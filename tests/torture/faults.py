"""Disks that are full or read-only, rights that are lost, frames that vanish or change, clocks that jump."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hotpix_registry.instants import parse_date
from hotpix_registry.registry import Registry
from tests.cli.conftest import Done, Hotpix, obey_permissions
from tests.databases import PostgreSQL, running_postgresql
from tests.small_camera import write_campaign
from tests.story import CAMERA
from tests.torture import kills, place
from tests.torture.kills import Work
from tests.torture.place import BUILD, NIGHTS, SQLITE, Stage, amiss, content, content_of
from tests.torture.table import Row, row_of

LOOK_UP = ("mask", "--camera", CAMERA, "--date", NIGHTS[0], "--format", "json")
_FILLING = tuple(work for work in kills.WORKS if work.name in ("ingest", "build", "import a mask", "certify"))


def faults(server: PostgreSQL, *, kind: str, trials: int, seed: int) -> Iterator[Row]:
    if kind == SQLITE:
        for work in _FILLING:
            yield from full_disk(server, work, trials)
        yield read_only_disk(server)
        yield lost_rights(server)
    else:
        yield full_disk_of_the_server(trials)
    yield lost_frames(server, kind, every=3 if trials == 1 else 1)
    yield clock_jumps(server, kind)


def not_one_sentence(done: Done, *codes: int) -> str | None:
    """What is wrong with how a command ended that could not do its work; None if nothing is."""
    if done.code not in codes:
        return f"it ended with {done.code}: {done.err[-200:]}"
    said = [line for line in done.err.splitlines() if line.startswith("hotpix-registry: ")]
    if "Traceback" in done.err or (done.code != 0 and len(said) != 1):
        return f"it said: {done.err[-200:]}"
    return None


# --- disks -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Disk:
    """A small disk in memory."""

    folder: Path

    def remount(self, *options: str) -> None:
        subprocess.run(["mount", "-o", ",".join(("remount", *options)), self.folder], check=True)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Disk | None]:
    """None where this user may mount none."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def full_disk(server: PostgreSQL, work: Work, trials: int) -> Iterator[Row]:
    """A registry on a disk with this much space left, a little more each time."""
    problems: list[str] = []
    full = tried = 0
    with place.new_stage(SQLITE, server) as stage:
        command = work.prepare(stage)
        place.settle(stage)
        expected, _ = kills.uninterrupted(stage, work, command)
        n_kib = Path(stage.database).stat().st_size // 1024
        for trial in range(trials):
            with stage.copy() as hotpix, small_disk(hotpix.cwd / "disk", f"{n_kib + 64 * trial}k") as disk:
                if disk is None:
                    yield Row(f"a full disk under {work.name}", 0, 0, 0, "this user may mount no disk")
                    return
                tried += 1
                hotpix = _moved(hotpix, disk.folder)
                done = hotpix(*command)
                full += done.code != 0
                disk.remount("size=100m")
                if problem := not_one_sentence(done, 0, 1) or _whole(stage, hotpix, command, expected):
                    problems.append(f"with {64 * trial} KiB left: {problem}")
    yield row_of(f"a full disk under {work.name}, SQLite", tried, problems, f"{full} had too little")


def _moved(hotpix: Hotpix, disk: Path) -> Hotpix:
    """The command line in a folder on a disk, where its registry and its cache lie too."""
    shutil.move(str(hotpix.database), disk / "registry.sqlite")
    return Hotpix(disk, str(disk / "registry.sqlite"), {"HOTPIX_CACHE_DIR": str(disk / "cache")})


def _whole(stage: Stage, hotpix: Hotpix, command: tuple[str, ...], expected: dict[str, Any]) -> str | None:
    """What is wrong after a command could not finish, and after it was given again."""
    before = content_of(place.as_before(stage))
    with hotpix.opened() as registry:
        if found := amiss(registry):
            return f"verify finds {found}"
        if problem := kills.not_between(before, content(registry), expected):
            return problem
    done = hotpix(*command)
    if done.code != 0:
        return f"the same command again says: {done.err}"
    after = content_of(hotpix)
    return None if {**after, "acts": []} == {**expected, "acts": []} else "it does not finish the work"


def read_only_disk(server: PostgreSQL) -> Row:
    fault = "a disk that became read-only, SQLite"
    problems = []
    with place.new_stage(SQLITE, server) as stage:
        place.lived(stage)
        with stage.copy() as hotpix, small_disk(hotpix.cwd / "disk", "20m") as disk:
            if disk is None:
                return Row(fault, 0, 0, 0, "this user may mount no disk")
            hotpix = _moved(hotpix, disk.folder)
            answer = hotpix(*LOOK_UP).json
            before = content_of(hotpix)
            disk.remount("ro")
            again = hotpix(*LOOK_UP)
            if again.code != 0 or again.json["receipt"] != answer["receipt"]:
                problems.append(f"a look-up says {again.err}")
            commands = [
                ("ingest", str(place.darks(stage, "more", year=2022))),
                (*BUILD[:-1], "5"),
                ("certify", "1", "--valid-to", "2021-04-01"),
                ("backup", "copy.sqlite"),
            ]
            said = {command[0]: not_one_sentence(hotpix(*command), 1, 7) for command in commands}
            problems += [f"{name}: {problem}" for name, problem in said.items() if problem]
            disk.remount("rw")
            if content_of(hotpix) != before:
                problems.append("something was written")
    return row_of(fault, 1 + len(commands), problems)


def full_disk_of_the_server(trials: int) -> Row:
    """PostgreSQL's own disk gets full under an ingest; the server may give up, the registry may not."""
    fault = "a full disk under ingest, PostgreSQL"
    problems, full = [], 0
    with TemporaryDirectory(prefix="hp") as name, small_disk(Path(name) / "disk", "400m") as disk:
        if disk is None:
            return Row(fault, 0, 0, 0, "this user may mount no disk")
        with running_postgresql(disk.folder) as server:
            for trial in range(trials):
                with place.new_stage(place.POSTGRESQL, server) as stage:
                    command = ("ingest", str(place.darks(stage, more=6)))
                    hotpix = replace(place.as_before(stage), cwd=stage.folder)
                    ballast = disk.folder / "ballast"
                    left = shutil.disk_usage(disk.folder).free - 64 * 1024 * trial
                    ballast.write_bytes(b"\0" * max(0, left))
                    done = hotpix(*command)
                    full += done.code != 0
                    ballast.unlink()
                    server.restart_if_down()
                    if problem := not_one_sentence(done, 0, 1, 7):
                        problems.append(problem)
                    if hotpix(*command).code != 0:
                        problems.append("the same command again does not finish the work")
                    with hotpix.opened() as registry:
                        problems += amiss(registry)
                        if len(registry.frames()) != 66:
                            problems.append("frames are missing")
    return row_of(fault, trials, problems, f"{full} had too little")


# --- rights and frames -----------------------------------------------------------------------------


def lost_rights(server: PostgreSQL) -> Row:
    problems = []
    n = 0
    with place.new_stage(SQLITE, server) as stage:
        place.lived(stage)
        for mode, what in ((0o444, "read-only"), (0o000, "closed")):
            with stage.copy() as hotpix:
                cache = {"HOTPIX_CACHE_DIR": str(stage.folder / "cache")}
                hotpix = replace(hotpix, settings=cache)
                if os.geteuid() == 0:  # whom nothing is forbidden
                    hotpix = replace(hotpix, beforehand=obey_permissions, from_scratch=True)
                path = Path(str(hotpix.database))
                before = path.read_bytes()
                path.chmod(mode)
                hotpix.cwd.chmod(0o555)
                commands = [("ingest", str(stage.folder / "darks")), ("certify", "1"), BUILD]
                if mode == 0:
                    commands.append(LOOK_UP)
                elif hotpix(*LOOK_UP).code != 0:
                    problems.append("a registry that may be read does not answer")
                for command in commands:
                    n += 1
                    done = hotpix(*command)
                    if problem := not_one_sentence(done, 0, 1, 7):
                        problems.append(f"{what}: {command[0]}: {problem}")
                hotpix.cwd.chmod(0o755)
                path.chmod(0o644)
                if path.read_bytes() != before:
                    problems.append("something was written")
    return row_of("rights that are lost, SQLite", n, problems)


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _cut(path: Path, whole: bytes) -> None:
    path.write_bytes(whole[:-2880])


def lost_frames(server: PostgreSQL, kind: str, *, every: int = 1) -> Row:
    """What a dark may have become between its ingest and the build that needs it: every so manieth way."""
    ways: dict[str, Callable[[Path, bytes], object]] = {
        "gone": lambda path, whole: None,
        "empty": lambda path, whole: path.write_bytes(b""),
        "cut": _cut,
        "longer": lambda path, whole: path.write_bytes(whole + bytes(2880)),
        "another frame": lambda path, whole: path.write_bytes(
            path.with_name("dark_120s_03.fits").read_bytes()
        ),
        "text": lambda path, whole: path.write_text("no frame"),
        "a folder": lambda path, whole: path.mkdir(),
        "a pipe": lambda path, whole: os.mkfifo(path),
        "endless": lambda path, whole: path.symlink_to("/dev/zero"),
        "a loop": lambda path, whole: _loop(path),
        "closed": lambda path, whole: (path.write_bytes(whole), path.chmod(0)),
    }
    if kind != SQLITE and os.geteuid() == 0:
        del ways["closed"]  # who gives up root's rights may not open the socket of this server either
    ways = dict(list(ways.items())[::every])
    problems = []
    with place.new_stage(kind, server) as stage:
        folder = place.darks(stage)
        place.tell(stage, lambda registry: registry.ingest([folder]))
        path = folder / "dark_120s_02.fits"
        whole, about = path.read_bytes(), path.stat()
        for what, change in ways.items():
            with stage.copy() as hotpix:
                if what == "closed" and os.geteuid() == 0:
                    hotpix = replace(hotpix, beforehand=obey_permissions, from_scratch=True)
                path.unlink()
                change(path, whole)
                done = hotpix(*BUILD)
                if problem := not_one_sentence(done, 1, 5, 8):
                    problems.append(f"{what}: {problem}")
                elif path.name not in done.err + done.out:
                    problems.append(f"{what}: it does not name the frame: {done.err}")
                with hotpix.opened() as registry:
                    if registry.masks():
                        problems.append(f"{what}: a mask was stored")
                _restored(path, whole, about)
                if hotpix(*BUILD).code != 0:
                    problems.append(f"{what}: it does not build when the frame is back")
    return row_of(f"a dark that is gone or changed before the build, {kind}", len(ways), problems)


def _restored(path: Path, whole: bytes, about: os.stat_result) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.write_bytes(whole)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


# --- clocks ----------------------------------------------------------------------------------------


def shift_clock(seconds: float) -> None:
    """Let the clock of this process go wrong, as that of a computer without a battery does."""
    right_s, right_ns = time.time, time.time_ns
    time.time = lambda: right_s() + seconds
    time.time_ns = lambda: right_ns() + int(seconds * 1e9)


def clock_jumps(server: PostgreSQL, kind: str) -> Row:
    """Acts while the clock is behind, far behind, ahead and right again: their times never run backwards."""
    day = 86400.0
    problems = []
    jumps = (0.0, -3600.0, -3 * day, -20 * 365 * day, 10 * 365 * day, 0.0)
    with place.new_stage(kind, server) as stage:
        place.lived(stage)
        with stage.copy() as hotpix:
            receipts = []
            for number, seconds in enumerate(jumps):
                wrong = replace(hotpix, beforehand=partial(shift_clock, seconds))
                folder = hotpix.cwd / str(number)
                write_campaign(folder, start=place.night(2022 + number))
                commands = (("ingest", str(folder)), BUILD, ("release", "create", f"r{number}"))
                said = {command[0]: not_one_sentence(wrong(*command), 0) for command in commands}
                problems += [f"clock {seconds:+.0f} s: {name}: {p}" for name, p in said.items() if p]
                receipts.append(wrong(*LOOK_UP).json)
            with hotpix.opened() as registry:
                problems += _times_run_backwards(registry)
                problems += amiss(registry)
                for told in receipts:
                    if registry.replay(told["receipt"]).answer.sha256 != told["sha256"]:
                        problems.append("a receipt gives another mask")
    return row_of(f"a clock that jumps, {kind}", len(jumps), problems)


def _times_run_backwards(registry: Registry) -> list[str]:
    moments = [parse_date(act["at"]) for act in registry.log(newest=None)]
    return [] if moments == sorted(moments, key=int) else ["the times of transactions run backwards"]
